"""A version that fails live goes back, and the CR with it: whole, and never over somebody's newer edit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from tests.support.pods.case import Case
from tests.support.pods.traffic import MIXED_TEXTS
from tests.support.pods.versions import Version
from tests.support.pods.voice import Voice, has_failed

from segue.model import Phase, revision_of
from segue.model.status import ConditionStatus

pytestmark = [pytest.mark.cluster, pytest.mark.process, pytest.mark.timeout(600)]

AT_ONCE = 4

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
OPEN_WATCH: Mapping[str, Any] = {"watch": {"duration": "20s", "sustainedFor": "5s"}}
CONFIRMED_SOON: Mapping[str, Any] = {"watch": {"duration": "3s", "sustainedFor": "2s"}}
MEASURABLE: Mapping[str, Any] = {
    "verification": {
        "cases": [
            {"text": "A voice should change the way a day does, so slowly that nobody can name the minute."},
            {"text": "On the third of May, the harbour was closed for nineteen hours."},
        ]
    }
}
"""Ten seconds of speech: less cannot be compared with a reference."""
REVERTED = ("weights", "reference", "options")


def content(document: Mapping[str, Any]) -> dict[str, Any]:
    """What a revert writes, of an object or of a manifest, which leaves defaults out."""
    return {field: document["spec"].get(field) or None for field in REVERTED}


def begin(case: Case, *policies: Mapping[str, Any], first: Version | None = None) -> tuple[Voice, str]:
    """The narrator speaks, and is asked for statements and questions alike."""
    voice, revision = case.speaking(*policies, first=first or case.stage.wardrobe.narrator)
    case.listen(voice, texts=MIXED_TEXTS)
    return voice, revision


def settled(case: Case, voice: Voice, *, bad: str, good: str, reason: str) -> None:
    """The pods went back, the failure is remembered with its reason, the conditions say so."""
    done = voice.wait_rolled_back(bad)
    failure = next(each for each in done.status.failed_revisions if each.revision == bad)
    assert failure.reason == reason, failure
    assert done.status.stable_revision == good
    case.stage.wait_serving(voice.key, good)
    promoted = voice.status.condition("Promoted")
    assert promoted is not None
    assert promoted.status is ConditionStatus.FALSE
    case.heard(voice, good)


def test_watch_trips_and_reverts_the_cr(case: Case) -> None:
    voice, first = begin(case, OPEN_WATCH)
    before = voice.object()
    bad = voice.apply(case.stage.wardrobe.fails_on_questions)
    settled(case, voice, bad=bad, good=first, reason="ErrorRateExceeded")
    after = voice.object()
    assert content(after) == content(before)
    last_applied = json.loads(after["metadata"]["annotations"][LAST_APPLIED])
    assert content(last_applied) == content(before), "kubectl's memory is written back with the spec"
    assert voice.status.last_rollback is not None
    assert voice.status.last_rollback.reverted


def test_fields_that_the_bad_version_added_are_taken_away(case: Case) -> None:
    wardrobe = case.stage.wardrobe
    voice, first = begin(case, OPEN_WATCH, MEASURABLE)
    before = voice.object()
    added = wardrobe.fails_on_questions.with_content("added", reference=wardrobe.reference, options={"speed": 1.1})
    bad = voice.apply(added)
    settled(case, voice, bad=bad, good=first, reason="ErrorRateExceeded")
    after = voice.object()
    assert content(after) == content(before)
    assert "reference" not in after["spec"]
    better = voice.apply(wardrobe.livelier.with_content("with a reference", reference=wardrobe.reference))
    voice.wait_promoted(better)
    assert voice.object()["spec"]["reference"]["sha256"] == wardrobe.reference["sha256"]
    case.heard(voice, better)


def test_a_union_that_changed_goes_back_to_its_old_kind(case: Case) -> None:
    wardrobe = case.stage.wardrobe
    measured = wardrobe.narrator.with_content("with a speed", options={"speed": 1.0})
    voice, first = begin(case, OPEN_WATCH, MEASURABLE, first=measured)
    before = voice.object()
    nonsense = wardrobe.livelier.with_content("nonsense", options={"speed": "fast"}, reference=wardrobe.reference)
    bad = voice.apply(nonsense, {"verification": {"minSimilarity": "auto"}})
    done = voice.wait_rolled_back(bad)
    assert done.status.stable_revision == first
    assert not case.answers(voice, bad)
    after = voice.object()
    assert content(after) == content(before)
    assert after["spec"]["verification"]["minSimilarity"] == "auto", "no revision depends on it: not ours to write"
    voice.apply(measured, {"verification": {"minSimilarity": 0.5}})
    kept = voice.wait(lambda seen: seen.status.observed_generation == seen.metadata.generation, what="it was looked at")
    assert kept.status.stable_revision == first
    good = voice.apply(wardrobe.livelier.with_content("faster", options={"speed": 1.2}))
    voice.wait_promoted(good)
    case.heard(voice, good)


@pytest.mark.parametrize("moment", ["RollingBack", "reverting"])
def test_an_edit_that_races_the_revert_wins(case: Case, moment: str) -> None:
    voice, first = begin(case, OPEN_WATCH)
    bad = voice.edit(case.stage.wardrobe.fails_on_questions)
    if moment == "RollingBack":
        voice.wait_phase(Phase.ROLLING_BACK)
    else:
        voice.wait(
            lambda seen: any(each.reverting is not None for each in seen.status.failed_revisions),
            what="the revert is announced",
        )
    version = case.fresh()
    good = voice.edit(version)
    done = voice.wait_promoted(good)
    assert revision_of(done.spec) == good, "the newer edit stands"
    assert has_failed(done.status, bad)
    assert [entry.revision for entry in done.status.history] == [good, first]
    case.heard(voice, good)


def test_status_only_leaves_the_spec_alone(case: Case) -> None:
    voice, first = begin(case, OPEN_WATCH, {"rollback": {"mode": "StatusOnly"}})
    bad = voice.apply(case.stage.wardrobe.fails_on_questions)
    settled(case, voice, bad=bad, good=first, reason="ErrorRateExceeded")
    after = voice.read()
    assert revision_of(after.spec) == bad
    told = {kind: after.status.condition(kind) for kind in ("Ready", "Stalled", "Promoted")}
    assert {kind: each.status.value if each else "" for kind, each in told.items()} == {
        "Ready": "False",
        "Stalled": "True",
        "Promoted": "False",
    }
    assert after.status.observed_generation == after.metadata.generation


def test_rolled_back_by_a_person_long_after(case: Case) -> None:
    voice, first = case.speaking(CONFIRMED_SOON)
    second = voice.apply(case.fresh())
    voice.wait_promoted(second)
    case.heard(voice, second)
    voice.annotate(rollback="i-do-not-like-it")
    settled(case, voice, bad=second, good=first, reason="ManualRollback")
    assert revision_of(voice.read().spec) == first


def test_the_spec_said_the_old_version_again(case: Case) -> None:
    wardrobe = case.stage.wardrobe
    voice, first = case.speaking(OPEN_WATCH, first=wardrobe.narrator)
    second = voice.apply(wardrobe.livelier)
    voice.wait_phase(Phase.WATCHING, target=second)
    case.heard(voice, second)
    voice.apply(wardrobe.narrator)
    done = voice.wait_promoted(first)
    assert not has_failed(done.status, second), "a person's change of mind is no failure"
    case.stage.wait_serving(voice.key, first)
    case.heard(voice, first)
