"""What an entry of the desired set asks of a pod: fences decide, and what is open is left alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.desired import DesiredEntry
from segue.memory.messages import VoiceName
from segue.wire import (
    Fence,
    FileSource,
    PointerRequest,
    RevisionPhase,
    RevisionRequest,
    SelfReverted,
    Tier,
    WatchState,
    WatchTerms,
)
from segue_sidecar.desired.rule import Reach, Step, next_step
from segue_sidecar.entries import Armed, RevisionEntry, Said, VoiceEntry

NAME = VoiceName("default", "narrator")
BEFORE = Fence(5, 4)
OLD, NEW = "aa" * 32, "bb" * 32
REQUEST = RevisionRequest(engine="tiny", weights={"tone": FileSource(uri="s3://voices/1", sha256="ab" * 32)})
LED, ALONE = Reach(alone=False, settled=True), Reach(alone=True, settled=True)
NEWS = Reach(alone=True, settled=False)
TERMS = WatchTerms(previous=OLD, max_error_rate=0.1, sustained_for_s=60, min_requests=5, min_errors=3)


def entry(fence: str = "5.5", *, uid: str = "u-1", revision: str = NEW) -> DesiredEntry:
    """An entry for `NEW`."""
    return DesiredEntry(voice=str(NAME), uid=uid, fence=fence, revision=revision, request=REQUEST)


def voice(
    fence: Fence = BEFORE,
    *,
    active: str | None = None,
    phases: dict[str, RevisionPhase] | None = None,
    **more: Any,
) -> VoiceEntry:
    """The voice as the pod knows it; `phases` are its revisions."""
    revisions = {name: RevisionEntry(NAME, name, REQUEST, phase=phase) for name, phase in (phases or {}).items()}
    fields = {"said": Said(active), "pointed": active is not None, **more}
    return VoiceEntry(name=NAME, uid="u-1", slot=0, fence=fence, revisions=revisions, **fields)


def step(one: DesiredEntry, known: VoiceEntry | None, *, reach: Reach = LED, released: Fence | None = None) -> Step:
    """What is asked for."""
    return next_step(one, known, released=released, reach=reach)


# --- nobody speaks ----------------------------------------------------------------------------------------------------


def test_a_voice_that_is_not_here_is_loaded_at_once_whoever_is_in_reach() -> None:
    assert step(entry(), None, reach=LED) is Step.LOAD
    assert step(entry(), None, reach=NEWS) is Step.LOAD


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        (RevisionPhase.QUEUED, Step.WAIT),
        (RevisionPhase.PROVING, Step.WAIT),
        (RevisionPhase.OFFERING, Step.WAIT),
        (RevisionPhase.READY, Step.POINT),
        (RevisionPhase.FAILED, Step.LOAD),
        (RevisionPhase.RETIRING, Step.LOAD),
    ],
)
def test_it_is_pointed_at_once_it_is_ready(phase: RevisionPhase, expected: Step) -> None:
    assert step(entry(), voice(Fence(5, 5), phases={NEW: phase})) is expected


def test_a_voice_that_was_let_go_later_stays_gone() -> None:
    assert step(entry("5.5"), None, released=Fence(5, 5)) is Step.REST
    assert step(entry("5.5"), None, released=Fence(6, 1)) is Step.REST
    assert step(entry("5.5"), None, released=Fence(5, 4)) is Step.LOAD


# --- fences -----------------------------------------------------------------------------------------------------------


def test_a_lower_fence_is_ignored() -> None:
    assert step(entry("5.5"), voice(Fence(5, 6), active=OLD), reach=ALONE) is Step.REST
    assert step(entry("5.5"), voice(Fence(6, 0), pointed=True), reach=ALONE) is Step.REST


@pytest.mark.parametrize("reach", [LED, ALONE])
def test_a_pod_that_was_only_told_to_load_goes_by_the_last_word_about_who_speaks(reach: Reach) -> None:
    told = voice(Fence(5, 6), phases={NEW: RevisionPhase.READY})
    assert step(entry("5.5"), told, reach=reach) is Step.POINT
    assert step(entry("5.5"), voice(Fence(5, 6)), reach=reach) is Step.LOAD
    assert step(entry("5.5", uid="u-0"), told, reach=reach) is Step.REST
    assert step(entry("5.5"), voice(Fence(5, 6), released=True), reach=reach) is Step.REST


def test_another_incarnation_under_the_same_fence_is_ignored() -> None:
    assert step(entry("5.4", uid="u-2"), voice(Fence(5, 4)), reach=ALONE) is Step.REST


def test_the_higher_fence_and_uid_of_what_is_spoken_are_taken_over() -> None:
    assert step(entry("5.5"), voice(Fence(5, 4), active=NEW)) is Step.AGREE
    assert step(entry("5.5"), voice(Fence(5, 5), active=NEW)) is Step.REST
    assert step(entry("5.5", uid="u-2"), voice(Fence(5, 4), active=NEW)) is Step.AGREE


# --- somebody speaks --------------------------------------------------------------------------------------------------


def test_a_pod_that_is_led_is_left_to_its_leader() -> None:
    assert step(entry(), voice(active=OLD), reach=LED) is Step.WAIT


def test_a_pod_that_is_alone_follows_once_the_mount_is_settled() -> None:
    assert step(entry(), voice(active=OLD), reach=NEWS) is Step.WAIT
    assert step(entry(), voice(active=OLD), reach=ALONE) is Step.LOAD
    assert step(entry(), voice(active=OLD, phases={NEW: RevisionPhase.READY}), reach=ALONE) is Step.POINT


@pytest.mark.parametrize(
    "opened",
    [
        {"watch": WatchState(previous=OLD, revision="cc" * 32, since_ns=0, terms=TERMS)},
        {"said": Said(OLD, "cc" * 32, weight=500)},
        {"armed": Armed(PointerRequest(active="cc" * 32), Fence(5, 4))},
    ],
    ids=["watch", "candidate", "armed flip"],
)
def test_what_is_open_is_not_disturbed(opened: dict[str, Any]) -> None:
    assert step(entry("9.9"), voice(active=OLD, **opened), reach=ALONE) is Step.WAIT


def test_what_was_taken_back_here_is_not_brought_back_by_a_mount() -> None:
    reverted = SelfReverted(from_revision=NEW, to_revision=OLD, at_ns=0, requests=9, errors=9)
    assert step(entry("9.9"), voice(active=OLD, self_reverted=reverted), reach=ALONE) is Step.REST
    assert step(entry("9.9"), voice(active=OLD, withdrawn=NEW), reach=ALONE) is Step.REST


@given(
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    st.sampled_from([OLD, NEW]),
    st.booleans(),
    st.booleans(),
    st.sampled_from(list(RevisionPhase)),
)
def test_a_voice_that_speaks_is_never_changed_by_a_lower_entry_or_while_it_is_led(
    written: tuple[int, int], seen: tuple[int, int], active: str, alone: bool, settled: bool, phase: RevisionPhase
) -> None:
    one, known = entry(str(Fence(*written))), voice(Fence(*seen), active=active, phases={NEW: phase})
    found = step(one, known, reach=Reach(alone=alone, settled=settled))
    if found in (Step.LOAD, Step.POINT):
        assert written >= seen
        assert alone
        assert settled
        assert active != NEW
    if found is Step.POINT:
        assert phase is RevisionPhase.READY


# --- voices that are not hot ------------------------------------------------------------------------------------------


def cold_entry(**fields: Any) -> DesiredEntry:
    """The same for a cold voice."""
    request = REQUEST.model_copy(update={"tier": Tier.COLD})
    return entry(**fields).model_copy(update={"request": request})


def test_what_rests_is_pointed_at_without_being_loaded() -> None:
    known = voice(phases={NEW: RevisionPhase.COLD})
    assert step(cold_entry(), known) is Step.POINT
    assert step(entry(), known) is Step.LOAD


def test_what_rests_is_loaded_before_it_replaces_somebody_who_speaks() -> None:
    known = voice(active=OLD, phases={OLD: RevisionPhase.READY, NEW: RevisionPhase.COLD})
    assert step(cold_entry(), known, reach=ALONE) is Step.LOAD
    asleep = voice(active=OLD, phases={OLD: RevisionPhase.COLD, NEW: RevisionPhase.COLD})
    assert step(cold_entry(), asleep, reach=ALONE) is Step.POINT
    assert step(cold_entry(), asleep, reach=LED) is Step.WAIT
