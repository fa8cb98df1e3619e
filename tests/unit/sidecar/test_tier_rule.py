"""Which revisions may leave memory: what is promised stays, and the others go in an order that costs least."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from segue.memory.eviction import Resident, eviction_order
from segue.memory.messages import PartRef, VoiceName
from segue.wire import (
    Fence,
    FileSource,
    PointerRequest,
    RevisionPhase,
    RevisionRequest,
    Tier,
    WatchState,
    WatchTerms,
)
from segue_sidecar.entries import Armed, RevisionEntry, Said, VoiceEntry
from segue_sidecar.records import read_revision, revision_record
from segue_sidecar.tiers.rule import (
    COMES_BACK_FAST,
    COMES_BACK_SLOWLY,
    NOBODY_ASKS,
    STAYS,
    WAY_BACK,
    Standing,
    may_rest,
    standing,
)

NAME = VoiceName("default", "narrator")
OLD, NEW = "aa" * 32, "bb" * 32
REQUEST = RevisionRequest(engine="tiny", weights={"tone": FileSource(uri="s3://voices/1", sha256="ab" * 32)})
TERMS = WatchTerms(previous=OLD, max_error_rate=0.1, sustained_for_s=60, min_requests=5, min_errors=3)


def voice(tier: Tier = Tier.COLD, *, said: Said | None = None, newest: str = NEW, **more: Any) -> VoiceEntry:
    """`NEW` is active, `OLD` was before; `newest` was asked for last."""
    request = REQUEST.model_copy(update={"tier": tier})
    revisions = {
        name: RevisionEntry(NAME, name, request, phase=RevisionPhase.READY, asked_ns=2 if name == newest else 1)
        for name in (OLD, NEW)
    }
    return VoiceEntry(name=NAME, uid="u", slot=0, said=said or Said(NEW), revisions=revisions, **more)


def stands(known: VoiceEntry, name: str, *, settling: bool = False, for_request: bool = True) -> Standing:
    return standing(known.revisions[name], known, settling=settling, for_request=for_request)


def test_a_hot_voice_that_speaks_never_leaves_and_its_way_back_only_for_a_rollout() -> None:
    known = voice(Tier.HOT)
    assert stands(known, NEW) == stands(known, NEW, for_request=False) == STAYS
    assert stands(known, OLD) == STAYS
    assert stands(known, OLD, for_request=False) == WAY_BACK


@pytest.mark.parametrize("tier", [Tier.WARM, Tier.COLD])
def test_of_other_voices_goes_first_what_nobody_asks_for_and_last_what_has_no_copy(tier: Tier) -> None:
    known = voice(tier)
    assert stands(known, OLD) == NOBODY_ASKS
    assert stands(known, NEW) == COMES_BACK_SLOWLY
    known.revisions[NEW].stored = True
    assert stands(known, NEW) == COMES_BACK_FAST
    assert NOBODY_ASKS.rank < COMES_BACK_FAST.rank < COMES_BACK_SLOWLY.rank < WAY_BACK.rank


@pytest.mark.parametrize(
    "open_",
    [
        {"said": Said(NEW, OLD)},
        {"watch": WatchState(previous=OLD, revision=NEW, since_ns=1, terms=TERMS)},
        {"armed": Armed(PointerRequest(active=OLD), Fence(1, 1))},
    ],
)
def test_what_a_canary_a_watch_or_an_armed_flip_names_stays(open_: dict[str, Any]) -> None:
    known = voice(**open_)
    assert stands(known, NEW) == stands(known, OLD) == STAYS
    assert not may_rest(known.revisions[NEW], known)


def test_a_shadow_that_was_asked_for_last_and_whoever_it_is_to_replace_stay() -> None:
    known = voice(newest=OLD)
    assert stands(known, NEW) == stands(known, OLD) == STAYS
    known.revisions[OLD].phase = RevisionPhase.FAILED
    assert stands(known, NEW) == COMES_BACK_SLOWLY


def test_who_came_up_a_moment_ago_stays_until_it_has_spoken() -> None:
    assert stands(voice(), NEW, settling=True) == STAYS


@pytest.mark.parametrize("phase", sorted(set(RevisionPhase) - {RevisionPhase.READY, RevisionPhase.WARM}))
def test_only_what_is_whole_can_leave(phase: RevisionPhase) -> None:
    known = voice()
    known.revisions[NEW].phase = phase
    assert stands(known, NEW) == STAYS


def test_a_lower_rank_goes_first_however_much_it_is_used() -> None:
    def resident(name: str, *, rank: int, uses: float) -> Resident:
        return Resident(revision=name, parts={name: 1}, protected=False, uses=uses, last_used_s=0, rank=rank)

    order = eviction_order([resident("rare", rank=1, uses=0), resident("famous", rank=0, uses=100)], now_s=0)
    assert [one.revision for one in order] == ["famous", "rare"]


PART = PartRef(name="tone", digest="ee" * 32, size_bytes=4096)


def read_back(entry: RevisionEntry) -> RevisionEntry:
    """Over a restart."""
    return read_revision(NAME, entry.revision, revision_record(entry))


def test_the_journal_keeps_what_a_voice_at_rest_comes_back_with() -> None:
    entry = RevisionEntry(
        NAME, NEW, REQUEST, phase=RevisionPhase.COLD, prepared=(PART,), stored=True, last_handle=7, asked_ns=3
    )
    assert read_back(entry) == entry


def test_what_only_the_sidecar_had_in_memory_is_cold_after_a_restart() -> None:
    entry = RevisionEntry(NAME, NEW, REQUEST, phase=RevisionPhase.WARM, parts=(PART,), prepared=(PART,))
    back = read_back(entry)
    assert (back.phase, back.parts, back.prepared) == (RevisionPhase.COLD, (), (PART,))


def test_a_record_of_an_older_sidecar_is_read() -> None:
    entry = replace(RevisionEntry(NAME, NEW, REQUEST, phase=RevisionPhase.READY), parts=(PART,), since_ns=5)
    record = revision_record(entry)
    for key in ("asked", "prepared", "stored", "lastHandle"):
        del record[key]
    back = read_revision(NAME, NEW, record)
    assert (back.asked_ns, back.prepared, back.stored, back.last_handle) == (5, (), False, None)
