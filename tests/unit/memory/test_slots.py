"""Where a part goes on a worker's device: its own class first, then new memory, then what others do not need."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.memory.device.slots import Make, Refuse, Slot, SlotClass, Use, choose, wants_spare

MIB = 1 << 20
GPT = SlotClass("gpt", 300 * MIB)
SOVITS = SlotClass("sovits", 200 * MIB)
SMALL = SlotClass("reference", 2 * MIB)


def slot(kind: SlotClass, *, taken: bool = False, released: int = 0) -> Slot:
    return Slot(kind, 0, taken, released)


def test_a_free_slot_of_the_class_is_used_and_the_latest_one_at_that() -> None:
    older, newer = slot(GPT, released=1), slot(GPT, released=2)
    assert choose([older, newer, slot(SOVITS, released=3)], GPT, budget_bytes=0) == Use(newer)


def test_new_memory_is_taken_while_the_budget_lasts() -> None:
    assert choose([slot(GPT, taken=True)], GPT, budget_bytes=600 * MIB) == Make()


def test_a_preload_that_supersedes_another_gets_a_third_slot() -> None:
    active, candidate = slot(GPT, taken=True), slot(GPT, taken=True)
    assert choose([active, candidate], GPT, budget_bytes=900 * MIB) == Make()
    assert choose([active, candidate], GPT, budget_bytes=899 * MIB) == Refuse(299 * MIB)


def test_free_slots_of_others_make_room_longest_free_first_and_none_in_vain() -> None:
    small, old, new = slot(SMALL, released=1), slot(SOVITS, released=2), slot(SOVITS, released=3)
    taken = slot(GPT, taken=True)
    assert choose([small, old, new, taken], GPT, budget_bytes=702 * MIB) == Make((old, new))
    assert choose([small, old, taken], SOVITS, budget_bytes=502 * MIB) == Use(old)
    assert choose([small, taken], SOVITS, budget_bytes=500 * MIB) == Make((small,))


def test_slots_in_use_are_never_given_up() -> None:
    assert choose([slot(SOVITS, taken=True)], GPT, budget_bytes=300 * MIB) == Refuse(100 * MIB)


def test_a_spare_is_wanted_only_beside_slots_in_use_and_only_where_there_is_room() -> None:
    one = [slot(GPT, taken=True)]
    assert wants_spare(one, GPT, budget_bytes=600 * MIB)
    assert not wants_spare(one, GPT, budget_bytes=599 * MIB)
    assert not wants_spare([*one, slot(GPT)], GPT, budget_bytes=1 << 40)


@given(
    st.lists(
        st.tuples(st.sampled_from([GPT, SOVITS, SMALL]), st.booleans(), st.integers(0, 9)),
        max_size=12,
    ),
    st.sampled_from([GPT, SOVITS, SMALL]),
    st.integers(0, 3000),
)
def test_the_budget_holds_and_nothing_goes_in_vain(
    made: list[tuple[SlotClass, bool, int]], kind: SlotClass, budget_mib: int
) -> None:
    slots = [slot(each, taken=taken, released=released) for each, taken, released in made]
    budget_bytes = max(budget_mib * MIB, sum(each.kind.size_bytes for each in slots))
    free_bytes = budget_bytes - sum(each.kind.size_bytes for each in slots if each.taken)
    match choose(slots, kind, budget_bytes=budget_bytes):
        case Use(slot=used):
            assert not used.taken
            assert used.kind == kind
        case Make(give_up=gone):
            assert not any(each.taken or each.kind == kind for each in gone)
            left = sum(each.kind.size_bytes for each in slots if each not in gone) + kind.size_bytes
            assert left <= budget_bytes
            assert all(left + each.kind.size_bytes > budget_bytes for each in gone)
        case Refuse(free_bytes=found):
            assert found == free_bytes < kind.size_bytes


def test_classes_are_by_name_and_size() -> None:
    assert SlotClass("gpt", 2) != SlotClass("gpt", 4)
    with pytest.raises(AttributeError):
        GPT.size_bytes = 1  # type: ignore[misc]
