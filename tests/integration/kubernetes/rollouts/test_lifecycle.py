"""A voice from its first version to its end: create, update, supersede, hold, let go, delete; nobody notices."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.support.pods.case import Case
from tests.support.pods.versions import SPLIT
from tests.support.pods.voice import has_failed

from segue.model import Phase
from segue.wire import ProbePhase, VoiceState

pytestmark = [pytest.mark.cluster, pytest.mark.process, pytest.mark.timeout(600)]

AT_ONCE = 4

TOGETHER: Mapping[str, Any] = {"rollout": {"together": True}}
LONG_WATCH: Mapping[str, Any] = {"watch": {"duration": "8s"}}
MANY_CASES: Mapping[str, Any] = {
    "verification": {"cases": [{"text": f"Platform {number} is closed for the day."} for number in range(2, 10)]}
}
MANUAL: Mapping[str, Any] = {"rollout": {"approval": "Manual"}}


def test_create_and_update(case: Case) -> None:
    voice, first = case.speaking()
    case.heard(voice, first)
    second = voice.apply(case.fresh())
    done = voice.wait_promoted(second)
    assert [entry.revision for entry in done.status.history] == [second, first]
    assert done.status.last_switch is not None
    assert done.status.last_switch.from_revision == first
    case.stage.wait_serving(voice.key, second)
    case.heard(voice, second)
    held = case.stage.voice_states(voice.key).values()
    assert all(state is not None and {first, second} <= state.revisions.keys() for state in held), (
        "the way back is warm"
    )


@pytest.mark.parametrize(
    ("phase", "policy"),
    [
        (Phase.PRELOADING, {}),
        (Phase.VERIFYING, MANY_CASES),
        (Phase.CANARY, SPLIT),
        (Phase.FLIPPING, TOGETHER),
        (Phase.WATCHING, LONG_WATCH),
    ],
    ids=["Preloading", "Verifying", "Canary", "Flipping", "Watching"],
)
def test_superseded_in(case: Case, phase: Phase, policy: Mapping[str, Any]) -> None:
    voice, first = case.speaking(policy)
    second = voice.edit(case.fresh())
    voice.wait_phase(phase, target=second)
    third = voice.edit(case.fresh())
    if phase is Phase.WATCHING:
        voice.wait_reason("WatchOpen")
    done = voice.wait_promoted(third)
    case.stage.wait_serving(voice.key, third)
    case.heard(voice, third)
    history = [entry.revision for entry in done.status.history]
    assert history == ([third, second, first] if phase is Phase.WATCHING else [third, first])
    assert not has_failed(done.status, second), "superseded is not failed"
    if phase in (Phase.PRELOADING, Phase.VERIFYING):
        assert not case.answers(voice, second), "nobody heard what was replaced before its canary"


def test_paused_before_it_begins_and_in_the_canary(case: Case) -> None:
    voice, first = case.speaking(SPLIT)
    voice.patch({"rollout": {"paused": True}})
    second = voice.edit(case.fresh())
    voice.wait_reason("Paused")
    case.heard(voice, first)
    assert not any(second in state.revisions for state in case.stage.voice_states(voice.key).values() if state)
    voice.patch({"rollout": {"paused": False}})
    voice.wait_phase(Phase.CANARY, target=second)
    voice.patch({"rollout": {"paused": True}})
    voice.wait(
        lambda seen: seen.status.reason == "Paused" and seen.status.phase is Phase.CANARY, what="a paused canary"
    )
    case.heard(voice, second, more=30)
    assert voice.status.phase is Phase.CANARY, "a paused canary has all its successes and goes no further"
    voice.patch({"rollout": {"paused": False}})
    voice.wait_promoted(second)
    case.heard(voice, second)


def test_promoted_by_a_person(case: Case) -> None:
    voice, first = case.speaking(MANUAL, {"watch": {"duration": "10m"}})
    second = voice.edit(case.fresh())
    voice.wait_reason("AwaitingApproval")
    case.heard(voice, first)
    assert not case.answers(voice, second)
    voice.annotate(promote="go")
    voice.wait_phase(Phase.WATCHING, target=second)
    case.heard(voice, second)
    voice.annotate(promote="and-confirm")
    done = voice.wait_promoted(second)
    assert done.status.handled_tokens.promote == "and-confirm"


def test_waves(case: Case) -> None:
    voice, _ = case.speaking(MANY_CASES)
    version = case.fresh()
    second = voice.edit(version)
    holders: list[set[str]] = []

    def spread(found: dict[str, VoiceState | None]) -> bool:
        holding = {name for name, state in found.items() if state is not None and second in state.revisions}
        proven = {name for name in holding if _is_proven(found[name], second)}
        if holding and (not holders or holders[-1] != holding):
            assert len(holding) == 1 or proven, "the second wave began before the first had proven anything"
            holders.append(holding)
        return len(holding) == len(found)

    case.stage.wait_states(voice.key, spread, what="every pod holds it")
    assert len(holders[0]) == 1, f"waves reached {holders}"
    voice.wait_promoted(second)
    case.heard(voice, second)


def _is_proven(state: VoiceState | None, revision: str) -> bool:
    report = state.revisions[revision].report if state is not None else None
    return report is not None and report.phase is ProbePhase.PASSED


def test_together(case: Case) -> None:
    voice, first = case.speaking(TOGETHER)
    second = voice.edit(case.fresh())
    flipping = voice.wait_phase(Phase.FLIPPING, target=second)
    assert flipping.status.rollout is not None
    at = flipping.status.rollout.flip_at
    assert at is not None, "an instant is chosen before any pod is told"
    case.stage.wait_states(
        voice.key,
        lambda found: all(state is not None and state.armed for state in found.values()),
        what="all are armed",
    )
    ahead_s = (at - datetime.now(UTC)).total_seconds()
    assert ahead_s > 0, "all pods are armed before the instant"
    assert not case.answers(voice, second), "nobody hears it before the instant"
    voice.wait_promoted(second)
    case.stage.wait_serving(voice.key, second)
    case.heard(voice, second)
    assert case.answers(voice, first)


@pytest.mark.parametrize("window", ["preloadWindow", "switchWindow"])
def test_not_before_its_window(case: Case, window: str) -> None:
    opens = datetime.now(UTC) + timedelta(hours=6)
    closed = {"schedule": f"{opens.minute} {opens.hour} * * *", "duration": "1h", "timeZone": "UTC"}
    voice, first = case.speaking({"rollout": {window: closed}})
    second = voice.edit(case.fresh())
    waiting = voice.wait_reason("WindowClosed")
    assert opens.strftime("%H:%M") in waiting.status.message, "it says when the window opens"
    assert waiting.status.phase is (Phase.IDLE if window == "preloadWindow" else Phase.VERIFYING)
    case.heard(voice, first)
    assert not case.answers(voice, second)
    opened = datetime.now(UTC) - timedelta(minutes=5)
    voice.patch({"rollout": {window: {**closed, "schedule": f"{opened.minute} {opened.hour} * * *"}}})
    voice.wait_promoted(second)
    case.heard(voice, second)


def test_deleted(case: Case) -> None:
    voice, first = case.speaking()
    case.heard(voice, first)
    case.hush(voice)
    voice.delete()
    voice.wait_gone()
    case.stage.wait_states(voice.key, lambda found: not any(found.values()), what="every pod lets it go")


def test_deleted_and_made_again(case: Case) -> None:
    voice, first = case.speaking()
    before = voice.object()["metadata"]["uid"]
    case.heard(voice, first)
    case.hush(voice)
    voice.delete()
    voice.wait_gone()
    second = voice.apply(case.fresh())
    done = voice.wait_promoted(second)
    assert done.metadata.uid != before
    assert [entry.revision for entry in done.status.history] == [second], "a new voice remembers nothing of the old one"
    case.stage.wait_serving(voice.key, second)
    case.listen(voice)
    case.heard(voice, second)
    held = case.stage.voice_states(voice.key).values()
    assert all(state is not None and state.uid == done.metadata.uid for state in held)
    third = voice.edit(case.fresh())
    voice.wait_promoted(third)
    case.heard(voice, third)
