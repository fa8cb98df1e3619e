"""A worker's copies: slots stay where they are, nobody writes under a reader, torn ones are not used again."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from tests.fakes import cuda_driver as fake
from tests.support.device_memory import MIB, Setup, fake_device, make_setup, tensor
from tests.support.memory import open_fds

from segue.errors import DeviceError, DeviceLost, PoolExhausted
from segue.memory.device.copying import CopiedPart, CopyMapper
from segue.memory.device.slots import SlotPool
from segue.memory.interface import MappedPart
from segue.memory.messages import PartRef
from segue.memory.mode import MemoryMode

SLOT_BYTES = 2 * fake.GRANULARITY
"""Of a part of about 4 MB, less than two granules."""


@pytest.fixture
def setup() -> Iterator[Setup]:
    """A host memory, and a worker with room for three slots."""
    fake.reset()
    before = open_fds()
    made = make_setup(MemoryMode.GPU_COPY, budget_bytes=64 * MIB)
    assert made.slots is not None
    made.slots.budget_bytes = 3 * SLOT_BYTES
    yield made
    made.memory.close()
    gc.collect()
    assert fake.state.violations == []
    fake.reset()
    assert open_fds() == before


def laid(setup: Setup, turn: int) -> PartRef:
    return setup.lay_in(fill=float(turn), values=MIB - 4096, owner=f"rev-{turn}")


def first_value(mapped: MappedPart) -> float:
    return float(tensor(mapped.view(), "weight")[0])


def copies(setup: Setup) -> CopyMapper:
    assert isinstance(setup.mapper, CopyMapper)
    return setup.mapper


def test_revisions_take_turns_on_two_addresses(setup: Setup) -> None:
    active = setup.map(laid(setup, 0))
    seen = {active.address_range()[0]}
    for turn in range(1, 6):
        shadow = setup.map(laid(setup, turn))
        assert (first_value(active), first_value(shadow)) == (turn - 1, turn)
        active.close()
        active = shadow
        seen.add(active.address_range()[0])
    active.close()
    assert len(seen) == 2
    assert copies(setup).slots.usage().used_bytes == 0


def test_the_slot_for_the_next_preload_is_there_before_it_is_needed(setup: Setup) -> None:
    active = setup.map(laid(setup, 0))
    assert copies(setup).slots.usage().spare_bytes == SLOT_BYTES
    fake.state.total_bytes = 0  # somebody else took what the device had left
    shadow = setup.map(laid(setup, 1))
    assert first_value(shadow) == 1.0
    for part in (active, shadow):
        part.close()


def test_a_superseding_preload_gets_a_third_slot_and_a_fourth_is_refused(setup: Setup) -> None:
    mapped = [setup.map(laid(setup, turn)) for turn in range(3)]
    assert [first_value(part) for part in mapped] == [0.0, 1.0, 2.0]
    fourth = laid(setup, 3)
    with pytest.raises(PoolExhausted, match="the budget is full") as caught:
        setup.map(fourth)
    assert (caught.value.needed_bytes, caught.value.free_bytes) == (SLOT_BYTES, 0)
    mapped.pop(1).close()
    again = setup.map(fourth)
    assert first_value(again) == 3.0
    for part in [*mapped, again]:
        part.close()


def test_a_part_of_two_revisions_is_copied_once(setup: Setup) -> None:
    part = laid(setup, 4)
    one, two = setup.map(part), setup.map(part)
    assert one.address_range() == two.address_range()
    one.close()
    other = setup.map(laid(setup, 5))
    assert (first_value(two), first_value(other)) == (4.0, 5.0)
    for each in (two, other):
        each.close()
    assert copies(setup).slots.usage().used_bytes == 0


def test_a_slot_is_not_filled_before_its_last_batch_is_through(setup: Setup) -> None:
    active = setup.map(laid(setup, 0))
    capsule = active.view().tensors["weight"].__dlpack__(stream=fake.LEGACY)
    del capsule
    first, end = active.address_range()
    fake.hold()
    fake.begin_batch(first, end - first)
    with pytest.raises(BufferError, match="still works on a batch"):
        active.close()
    others = [setup.map(laid(setup, turn)) for turn in (1, 2)]
    assert all(part.address_range()[0] != first for part in others)
    with pytest.raises(PoolExhausted):
        setup.map(laid(setup, 3))
    fake.let_go()
    active.close()
    late = setup.map(laid(setup, 3))
    assert late.address_range()[0] == first
    for part in [*others, late]:
        part.close()


def test_the_host_arena_is_held_as_long_as_the_copy(setup: Setup) -> None:
    part = laid(setup, 0)
    mapped = setup.map(part)
    setup.memory.release(part.digest, owner="rev-0")
    assert setup.memory.reap() == ()
    mapped.close()
    assert setup.memory.reap() == (part.digest,)


def test_copies_go_in_steps_and_no_faster_than_told(setup: Setup) -> None:
    part = setup.lay_in(values=3 * MIB)
    slept: list[float] = []
    device = fake_device()
    mapper = CopyMapper(device, SlotPool(device, 64 * MIB), bytes_per_s=4 * MIB, sleep=slept.append)
    mapped = mapper.map(setup.memory.export(part.digest), part)
    assert fake.state.calls.count("cuMemcpyHtoDAsync") == 4
    # Nothing really slept, so each wait is up to what the rate asks for by then: 1, 2 and 3 seconds, and the rest.
    assert slept == sorted(slept)
    assert slept[-1] == pytest.approx(part.size_bytes / (4 * MIB), abs=0.5)
    mapped.close()


def test_a_copy_that_is_broken_off_gives_its_slot_back(setup: Setup) -> None:
    device = fake_device()
    slots = SlotPool(device, 3 * SLOT_BYTES)

    def stop(_: float) -> None:
        raise InterruptedError

    part = laid(setup, 0)
    mapper = CopyMapper(device, slots, bytes_per_s=1.0, sleep=stop)
    with pytest.raises(InterruptedError):
        mapper.map(setup.memory.export(part.digest), part)
    assert slots.usage().used_bytes == 0
    setup.memory.release(part.digest, owner="rev-0")
    assert setup.memory.reap() == (part.digest,)


def test_a_slot_that_a_lost_device_may_still_write_to_is_never_used_again(setup: Setup) -> None:
    part = laid(setup, 0)
    fake.fail_next("cuMemcpyHtoDAsync", fake.CUresult.CUDA_ERROR_ILLEGAL_ADDRESS)
    with pytest.raises(DeviceLost, match="it must be started again"):
        setup.map(part)
    usage = copies(setup).slots.usage()
    assert (usage.used_bytes, usage.lingering_bytes, usage.spare_bytes) == (SLOT_BYTES, SLOT_BYTES, 0)
    mapped = setup.map(part)
    assert isinstance(mapped, CopiedPart)
    mapped.verify()
    mapped.close()


def test_a_device_without_memory_is_told_with_the_figures(setup: Setup) -> None:
    fake.state.total_bytes = 0
    with pytest.raises(PoolExhausted, match="the device has no memory left"):
        setup.map(laid(setup, 0))
    assert copies(setup).slots.usage().used_bytes == 0


def test_free_slots_of_another_shape_make_room(setup: Setup) -> None:
    setup.map(laid(setup, 0)).close()
    large = setup.lay_in(fill=9.0, values=2 * MIB)
    mapped = setup.map(large)
    assert first_value(mapped) == 9.0
    assert copies(setup).slots.usage().used_bytes <= 3 * SLOT_BYTES
    mapped.close()


def test_a_driver_that_refuses_a_slot_is_an_error_of_that_part_only(setup: Setup) -> None:
    active = setup.map(laid(setup, 0))
    shadow = setup.map(laid(setup, 1))
    fake.fail_next("cuMemAddressReserve", fake.CUresult.CUDA_ERROR_NOT_PERMITTED)
    copies(setup).slots.budget_bytes = 64 * MIB
    with pytest.raises(DeviceError, match="cuMemAddressReserve"):
        setup.map(setup.lay_in(fill=5.0, values=3 * MIB))
    assert (first_value(active), first_value(shadow)) == (0.0, 1.0)
    for part in (active, shadow):
        part.close()
