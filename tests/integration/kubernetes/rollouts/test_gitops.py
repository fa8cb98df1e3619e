"""Git says the bad version, and a tool re-applies it every five seconds, as self-heal does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from tests.support.pods.case import Case
from tests.support.pods.traffic import MIXED_TEXTS
from tests.support.pods.voice import Voice, has_failed
from tests.support.running import eventually

from segue.model import Phase, revision_of

pytestmark = [pytest.mark.cluster, pytest.mark.process, pytest.mark.timeout(600)]

AT_ONCE = 2

EVERY_S = 5.0
ROUNDS = 5
OPEN_WATCH = {"watch": {"duration": "20s", "sustainedFor": "5s"}}


@dataclass
class SelfHeal:
    """Applies the same text again and again; `text` may be replaced, as by a commit."""

    voice: Voice
    text: str
    manager: str | None
    rounds: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """In a thread of its own."""
        while not self.stopped.is_set():
            self.voice.apply_text(self.text, manager=self.manager)
            self.rounds += 1
            self.stopped.wait(EVERY_S)


@contextmanager
def healing(voice: Voice, text: str, manager: str | None) -> Iterator[SelfHeal]:
    """The tool runs while in the context."""
    tool = SelfHeal(voice, text, manager)
    thread = threading.Thread(target=tool.run, name="self-heal", daemon=True)
    thread.start()
    try:
        yield tool
    finally:
        tool.stopped.set()
        thread.join(30)


@pytest.mark.parametrize("manager", [None, "argocd-controller"], ids=["client-side", "server-side"])
def test_a_bad_manifest_is_applied_again_and_again(case: Case, manager: str | None) -> None:
    wardrobe = case.stage.wardrobe
    voice = case.voice()
    first = voice.apply(wardrobe.narrator, manager=manager)
    voice.wait_promoted(first)
    case.stage.wait_serving(voice.key, first)
    voice.policies = (OPEN_WATCH,)
    case.listen(voice, texts=MIXED_TEXTS)
    bad = wardrobe.fails_on_questions
    with healing(voice, voice.manifest(bad), manager) as tool:
        after = voice.wait_rolled_back(bad.revision)
        assert after.status.last_rollback is not None
        assert after.status.last_rollback.reverted is (manager is None), "server-side apply owns the spec: no revert"
        voice.wait(lambda seen: revision_of(seen.spec) == bad.revision, what="the tool applies it again")
        case.stage.wait_serving(voice.key, first)
        _nothing_moves(case, voice, tool, first=first, bad=bad.revision)
        _status_says_why(voice)
        tool.text = voice.manifest(wardrobe.livelier)
        voice.wait_promoted(wardrobe.livelier.revision)
        voice.kubectl("wait", "--for=condition=Promoted", f"voicemodel/{voice.name}", "--timeout=10s")
    case.heard(voice, wardrobe.livelier.revision)


def _nothing_moves(case: Case, voice: Voice, tool: SelfHeal, *, first: str, bad: str) -> None:
    """Round after round: no flapping of the spec, no further attempt, nobody hears it."""
    heard, before = case.answers(voice, bad), voice.read()
    begun = tool.rounds
    eventually(
        lambda: tool.rounds >= begun + ROUNDS, within_s=(ROUNDS + 3) * (EVERY_S + 2), what="more rounds of the tool"
    )
    now = voice.read()
    assert now.metadata.generation == before.metadata.generation, "the spec flaps"
    assert now.status.attempt == before.status.attempt, "the failed revision was tried again"
    assert now.status.phase is Phase.IDLE
    assert now.status.stable_revision == now.status.active_revision == first
    assert has_failed(now.status, bad)
    assert case.answers(voice, bad) == heard, "somebody heard it again"
    assert set(case.stage.actives(voice.key).values()) == {first}


def _status_says_why(voice: Voice) -> None:
    """For people, for kstatus, and for `kubectl wait`."""
    status = voice.read().status
    conditions = {each.type: each for each in status.conditions}
    assert conditions["Stalled"].status == "True"
    assert conditions["Ready"].status == "False"
    assert conditions["Promoted"].status == "False"
    assert conditions["Promoted"].reason == "RolledBack"
    assert "requests failed" in status.message, f"it has the figures: {status.message}"
    assert "segue.dev/retry" in status.message, f"it says what can be done: {status.message}"
    waited = voice.cluster.kubectl(
        *("-n", voice.namespace, "wait", "--for=condition=Promoted", f"voicemodel/{voice.name}", "--timeout=3s"),
        check=False,
    )
    assert waited.returncode != 0, "kubectl wait took a rolled-back deploy for success"
