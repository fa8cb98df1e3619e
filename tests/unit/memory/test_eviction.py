"""Who makes room: the least and longest unused, never a protected one, and nobody in vain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from segue.memory.eviction import Resident, choose_evictions, decayed_uses, eviction_order


def resident(
    name: str,
    *,
    parts: Mapping[str, int] | None = None,
    protected: bool = False,
    uses: float = 1.0,
    last_used_s: float = 0.0,
) -> Resident:
    own = {f"part of {name}": 10} if parts is None else parts
    return Resident(revision=name, parts=own, protected=protected, uses=uses, last_used_s=last_used_s)


def test_uses_count_half_after_an_hour() -> None:
    assert decayed_uses(8.0, last_used_s=0.0, now_s=7200.0) == 2.0
    assert decayed_uses(8.0, last_used_s=10.0, now_s=0.0) == 8.0


def test_the_least_used_goes_first_but_old_fame_fades() -> None:
    famous = resident("famous", uses=100.0, last_used_s=0.0)
    fresh = resident("fresh", uses=2.0, last_used_s=36_000.0)
    assert [one.revision for one in eviction_order([famous, fresh], now_s=0.0)] == ["fresh", "famous"]
    assert [one.revision for one in eviction_order([famous, fresh], now_s=36_000.0)] == ["famous", "fresh"]


def test_the_protected_stay() -> None:
    assert choose_evictions([resident("active", protected=True)], needed_bytes=1, now_s=0.0) is None


def test_the_worthless_are_spared_when_a_larger_one_is_enough() -> None:
    residents = [resident("small", parts={"s": 1}, uses=1), resident("large", parts={"l": 50}, uses=2)]
    assert choose_evictions(residents, needed_bytes=50, now_s=0.0) == ("large",)


def test_no_more_go_than_are_needed() -> None:
    residents = [resident("a", uses=1), resident("b", uses=2), resident("c", uses=3)]
    assert choose_evictions(residents, needed_bytes=15, now_s=0.0) == ("a", "b")
    assert choose_evictions(residents, needed_bytes=0, now_s=0.0) == ()


def test_nobody_goes_in_vain() -> None:
    assert choose_evictions([resident("a"), resident("b")], needed_bytes=21, now_s=0.0) is None


def test_a_shared_part_frees_nothing_while_one_who_stays_needs_it() -> None:
    shared = {"stock": 100}
    residents = [resident("active", parts=shared, protected=True), resident("old", parts={**shared, "own": 5})]
    assert choose_evictions(residents, needed_bytes=6, now_s=0.0) is None
    assert choose_evictions(residents, needed_bytes=5, now_s=0.0) == ("old",)


def test_a_shared_part_is_free_once_all_who_need_it_go() -> None:
    residents = [
        resident("a", parts={"stock": 100, "a": 1}, uses=1),
        resident("b", parts={"stock": 100, "b": 1}, uses=2),
    ]
    assert choose_evictions(residents, needed_bytes=50, now_s=0.0) == ("a", "b")


@given(
    st.lists(
        st.tuples(st.dictionaries(st.sampled_from("pqrst"), st.just(7), max_size=3), st.booleans(), st.floats(0, 100)),
        max_size=6,
    ),
    st.integers(1, 40),
)
def test_what_is_chosen_is_always_enough_and_never_protected(
    drawn: list[tuple[dict[str, int], bool, float]], needed_bytes: int
) -> None:
    residents = [
        resident(str(i), parts=parts, protected=protected, uses=uses)
        for i, (parts, protected, uses) in enumerate(drawn)
    ]
    chosen = choose_evictions(residents, needed_bytes=needed_bytes, now_s=0.0)
    leaving = {one.revision for one in residents if not one.protected} if chosen is None else set(chosen)
    left = Counter(digest for one in residents if one.revision not in leaving for digest in one.parts)
    freed = sum(7 for digest in {d for one in residents for d in one.parts} if not left[digest])
    assert (freed >= needed_bytes) == (chosen is not None)
    assert not any(one.protected for one in residents if one.revision in leaving)
