"""Who hears a candidate first, and what keeps a bad one from anybody else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tests.support.pods.case import Case
from tests.support.pods.traffic import MIXED_TEXTS
from tests.support.pods.versions import SPLIT
from tests.support.pods.voice import Voice, has_failed

from segue.model import Phase, VoiceModel, revision_of
from segue.model.status import ConditionStatus
from segue.wire import CanaryMode, VoiceState

pytestmark = [pytest.mark.cluster, pytest.mark.process, pytest.mark.timeout(600)]

AT_ONCE = 4

IMPATIENT: Mapping[str, Any] = {"rollout": {"canary": {"mode": "Split", "timeout": "2s"}}}
MIRROR: Mapping[str, Any] = {"rollout": {"canary": {"mode": "Mirror", "steps": ["100%"]}}}
STEPS: Mapping[str, Any] = {"rollout": {"canary": {"mode": "Split", "steps": ["25%", "60%"]}}}
WORDS_MATTER: Mapping[str, Any] = {
    "verification": {
        "cases": [
            {"text": "The server keeps speaking while the new weights arrive."},
            {"text": "Seven brown foxes jumped over the garden wall and vanished in the mist."},
        ]
    }
}


def test_canary_with_traffic(case: Case) -> None:
    voice, first = case.speaking(SPLIT)
    second = voice.edit(case.fresh())
    voice.wait_phase(Phase.CANARY, target=second)
    before = case.answers(voice, first)
    voice.wait_phase(Phase.FLIPPING, Phase.WATCHING, target=second)
    assert case.answers(voice, second) >= 20, "the canary's successes are requests"
    assert case.answers(voice, first) > before, "the others went on with the version before"
    voice.wait_promoted(second)
    case.heard(voice, second)


def test_canary_in_steps(case: Case) -> None:
    voice, _ = case.speaking(STEPS)
    second = voice.edit(case.fresh())
    weights: set[int] = set()

    def flipped(found: dict[str, VoiceState | None]) -> bool:
        weights.update(state.pointer.weight for state in found.values() if state and state.pointer.candidate == second)
        return all(state is not None and state.pointer.active == second for state in found.values())

    case.stage.wait_states(voice.key, flipped, what="every pod has flipped", within_s=120)
    assert weights == {2500, 6000}, "both shares were heard"
    voice.wait_promoted(second)
    case.heard(voice, second)


def test_canary_without_traffic(case: Case) -> None:
    voice, _ = case.speaking(IMPATIENT)
    case.hush(voice)
    second = voice.edit(case.fresh())
    voice.wait_reason("ToppingUp")
    voice.wait_promoted(second)
    case.listen(voice)
    case.heard(voice, second)


def test_canary_holds_without_traffic_until_promoted(case: Case) -> None:
    voice, first = case.speaking(IMPATIENT, {"rollout": {"canary": {"insufficientTraffic": "Hold"}}})
    case.hush(voice)
    second = voice.edit(case.fresh())
    voice.wait_reason("CanaryHold")
    assert set(case.stage.actives(voice.key).values()) == {first}
    voice.annotate(promote="enough")
    voice.wait_promoted(second)
    case.listen(voice)
    case.heard(voice, second)


def test_mirror(case: Case) -> None:
    voice, first = case.speaking(MIRROR)
    second = voice.edit(case.fresh())
    voice.wait_phase(Phase.CANARY, target=second)
    case.stage.wait_states(voice.key, lambda found: all(map(_is_mirrored, found.values())), what="requests are copied")
    case.heard(voice, first)
    if voice.status.phase is Phase.CANARY:
        assert not case.answers(voice, second), "answers to copies are thrown away"
    voice.wait_promoted(second)
    case.heard(voice, second)


def _is_mirrored(state: VoiceState | None) -> bool:
    return state is not None and state.pointer.candidate is not None and state.pointer.mode is CanaryMode.MIRROR


def test_refused_by_its_verification(case: Case) -> None:
    wardrobe = case.stage.wardrobe
    voice, first = case.speaking(WORDS_MATTER, first=wardrobe.narrator)
    bad = voice.apply(wardrobe.wrong_words)
    done = voice.wait_rolled_back(bad)
    failure = next(each for each in done.status.failed_revisions if each.revision == bad)
    assert failure.reason == "VerificationFailed"
    assert "textMatch" in failure.message or "text" in failure.message, failure.message
    assert not case.answers(voice, bad), "nobody heard it"
    _is_as_before(case, voice, first)
    good = voice.apply(wardrobe.livelier)
    voice.wait_promoted(good)
    case.heard(voice, good)


def test_canary_takes_a_bad_version_back(case: Case) -> None:
    wardrobe = case.stage.wardrobe
    voice, first = case.speaking(SPLIT, first=wardrobe.narrator)
    case.listen(voice, texts=MIXED_TEXTS)
    bad = voice.apply(wardrobe.fails_on_questions)
    done = voice.wait_rolled_back(bad, within_s=120)
    assert next(each for each in done.status.failed_revisions if each.revision == bad).reason == "CanaryFailed"
    assert done.status.last_switch is None or done.status.last_switch.to_revision != bad, "it never became active"
    _is_as_before(case, voice, first)


def test_a_failed_version_is_tried_again_when_asked(case: Case) -> None:
    wardrobe = case.stage.wardrobe
    voice, first = case.speaking(WORDS_MATTER, {"rollback": {"mode": "StatusOnly"}}, first=wardrobe.narrator)
    bad = voice.apply(wardrobe.wrong_words)
    attempt = voice.wait_rolled_back(bad).status.attempt
    stalled = voice.wait_reason("RolledBack").status
    assert stalled.attempt == attempt
    assert "segue.dev/retry" in stalled.message, "it says what can be done"
    voice.annotate(retry="once-more")
    voice.wait(lambda seen: seen.status.attempt == attempt + 1, what="another attempt")
    voice.wait_rolled_back(bad)
    assert set(case.stage.actives(voice.key).values()) == {first}


def _is_as_before(case: Case, voice: Voice, first: str) -> None:
    """Everybody hears the version before, and the spec says so too."""
    case.stage.wait_serving(voice.key, first)
    reverted = voice.wait(lambda seen: not _wants_failed(seen), what="the spec is written back")
    promoted = reverted.status.condition("Promoted")
    assert promoted is not None
    assert promoted.status is ConditionStatus.FALSE, "a rolled-back deploy is no success"
    assert promoted.reason == "RolledBack"
    case.heard(voice, first)


def _wants_failed(voice: VoiceModel) -> bool:
    return has_failed(voice.status, revision_of(voice.spec))
