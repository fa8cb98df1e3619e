"""What every kind of weight memory must do: in host memory, on a device shared by the sidecar, copied to a device.

The device is the driver without one (`tests/fakes/cuda_driver.py`); descriptors, mappings and processes are real.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from tests.fakes import cuda_driver as fake
from tests.support.device_memory import MIB, Setup, make_setup, owner, tensor
from tests.support.memory import open_fds

from segue.errors import ArenaCorrupt, DigestMismatch, NotReady, PoolExhausted
from segue.memory import memfd
from segue.memory.messages import PartRef
from segue.memory.mode import MemoryMode

KINDS = tuple(MemoryMode)


@pytest.fixture(params=KINDS, ids=str)
def setup(request: pytest.FixtureRequest) -> Iterator[Setup]:
    """64 MiB of one kind, settled; whoever leaves a descriptor, or unmaps under a running batch, is found out."""
    fake.reset()
    before = open_fds()
    made = make_setup(request.param)
    yield made
    made.memory.close()
    gc.collect()
    assert fake.state.violations == []
    fake.reset()
    assert open_fds() == before


def test_a_part_goes_in_and_out(setup: Setup) -> None:
    part = setup.lay_in()
    mapped = setup.map(part)
    mapped.prefault()
    mapped.verify()
    assert tensor(mapped.view(), "weight")[0] == 1.0
    assert tensor(mapped.view(), "index").tolist() == [[0, 1, 2], [3, 4, 5]]
    assert mapped.view().meta == {"rate": 24000}
    setup.memory.release(part.digest, owner="rev-a")
    assert setup.memory.reap() == ()
    assert setup.memory.usage().lingering_bytes == setup.memory.usage().used_bytes > 4_000_000
    mapped.close()
    mapped.close()
    assert setup.memory.reap() == (part.digest,)
    assert setup.memory.usage().used_bytes == 0


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_nothing_is_allocated_before_every_worker_was_heard(kind: MemoryMode) -> None:
    fake.reset()
    memory = owner(kind)
    with pytest.raises(NotReady, match="workers have yet to say"):
        memory.allocate(MIB, name="timbre")
    assert memory.usage().used_bytes == 0
    memory.close()


def test_a_full_memory_refuses_with_the_figures(setup: Setup) -> None:
    setup.memory.allocate(60 * MIB, name="first")
    with pytest.raises(PoolExhausted, match="second needs") as caught:
        setup.memory.allocate(8 * MIB, name="second")
    refused = caught.value
    assert (refused.needed_bytes, refused.free_bytes, refused.budget_bytes) == (8 * MIB, 4 * MIB, 64 * MIB)


def test_the_same_part_is_kept_once_and_leaves_with_its_last_owner(setup: Setup) -> None:
    part = setup.lay_in(owner="rev-a")
    once = setup.memory.usage().used_bytes
    assert setup.lay_in(owner="rev-b") == part
    assert setup.memory.reap() == (part.digest,)
    assert setup.memory.usage().used_bytes == once
    setup.memory.release(part.digest, owner="rev-a")
    setup.memory.release(part.digest, owner="rev-a")
    assert setup.memory.holds(part.digest)
    assert setup.memory.owners(part.digest) == {"rev-b"}
    setup.memory.release(part.digest, owner="rev-b")
    assert not setup.memory.holds(part.digest)
    assert setup.memory.reap() == (part.digest,)


def test_a_part_that_was_let_go_comes_back_while_it_is_still_there(setup: Setup) -> None:
    part = setup.lay_in()
    setup.memory.release(part.digest, owner="rev-a")
    setup.memory.retain(part.digest, owner="rev-b")
    assert setup.memory.reap() == ()
    mapped = setup.map(part)
    mapped.verify()
    mapped.close()
    setup.memory.release(part.digest, owner="rev-b")
    setup.memory.reap()
    with pytest.raises(KeyError):
        setup.memory.retain(part.digest, owner="rev-c")


def test_an_allocation_that_was_given_up_is_free_again(setup: Setup) -> None:
    allocation = setup.memory.allocate(8 * MIB, name="timbre")
    setup.memory.abandon(allocation)
    setup.memory.abandon(allocation)
    setup.memory.reap()
    assert setup.memory.usage().used_bytes == 0
    assert all(usage.used_bytes == 0 for usage in setup.memory.budgets().values())


def test_what_is_no_arena_is_not_kept(setup: Setup) -> None:
    allocation = setup.memory.allocate(MIB, name="timbre")
    with pytest.raises(ArenaCorrupt):
        setup.memory.seal(allocation, owner="rev-a")
    setup.memory.abandon(allocation)
    setup.memory.reap()
    assert all(usage.used_bytes == 0 for usage in setup.memory.budgets().values())


def test_a_view_that_lives_keeps_the_part_mapped_and_readable(setup: Setup) -> None:
    part = setup.lay_in(fill=3.0)
    mapped = setup.map(part)
    held = tensor(mapped.view(), "weight")
    setup.memory.release(part.digest, owner="rev-a")
    with pytest.raises(BufferError):
        mapped.close()
    assert setup.memory.reap() == ()
    assert held[-1] == 3.0
    del held
    gc.collect()
    mapped.close()
    assert setup.memory.reap() == (part.digest,)


def test_every_parameter_lies_inside_its_part(setup: Setup) -> None:
    mapped = setup.map(setup.lay_in())
    first, end = mapped.address_range()
    for name in ("weight", "index"):
        array = tensor(mapped.view(), name)
        assert first <= array.ctypes.data <= array.ctypes.data + array.nbytes <= end
        del array
    gc.collect()
    mapped.close()


def test_a_part_that_is_not_what_was_offered_is_refused(setup: Setup) -> None:
    part = setup.lay_in()
    other = PartRef(name="timbre", digest="ab" * 32, size_bytes=part.size_bytes)
    with pytest.raises(ArenaCorrupt, match="was offered as"):
        setup.mapper.map(setup.memory.export(part.digest), other)


def test_a_restarted_owner_gets_back_what_a_reader_kept(setup: Setup) -> None:
    part = setup.lay_in()
    mapped = setup.map(part)
    setup.memory.close()
    reborn = owner(setup.mode, budget_bytes=2 * MIB)
    given = mapped.export()
    reborn.adopt(given, part=part, owner="rev-a")
    reborn.adopt(given, part=part, owner="rev-a")
    memfd.close_all(given)
    usage = reborn.usage()
    assert usage.used_bytes >= part.size_bytes > usage.budget_bytes
    reborn.settle()
    with pytest.raises(PoolExhausted):
        reborn.allocate(MIB, name="next")
    again = setup.mapper.map(reborn.export(part.digest), part)
    again.verify()
    again.close()
    reborn.release(part.digest, owner="rev-a")
    assert reborn.reap() == ()
    mapped.close()
    assert reborn.reap() == (part.digest,)
    reborn.close()


def test_what_a_reader_gives_back_under_a_wrong_name_is_refused(setup: Setup) -> None:
    part = setup.lay_in()
    mapped = setup.map(part)
    given = mapped.export()
    wrong = PartRef(name="timbre", digest=part.digest, size_bytes=part.size_bytes + 4096)
    with pytest.raises(ArenaCorrupt):
        setup.memory.adopt(given, part=wrong, owner="rev-b")
    memfd.close_all(given)
    mapped.close()


def test_content_that_changed_is_found_by_hashing(setup: Setup) -> None:
    """Nobody can write to a sealed arena; to a device somebody with the descriptor could."""
    part = setup.lay_in()
    mapped = setup.map(part)
    if setup.mode is not MemoryMode.HOST:
        _scribble(mapped.address_range()[0] + 100_000)
        with pytest.raises(DigestMismatch, match="refused"):
            mapped.verify()
    else:
        mapped.verify()
    mapped.close()


def test_many_swaps_leave_neither_memory_nor_descriptors(setup: Setup) -> None:
    previous: PartRef | None = None
    before = 0
    for turn in range(40):
        part = setup.lay_in(fill=float(turn), values=1000, owner=f"rev-{turn}")
        mapped = setup.map(part)
        assert tensor(mapped.view(), "weight")[0] == turn
        mapped.close()
        if previous is not None:
            setup.memory.release(previous.digest, owner=f"rev-{turn - 1}")
        setup.memory.reap()
        previous = part
        before = before or open_fds()
    assert open_fds() <= before + 4
    assert setup.memory.usage().used_bytes <= 2 * fake.GRANULARITY


def _scribble(address: int) -> None:
    """Change a byte on the device, by way of another mapping of the same memory."""
    start, mapping = next(
        (start, mapping)
        for start, mapping in fake.state.mappings.items()
        if start <= address < start + mapping.size_bytes
    )
    with open(mapping.allocation.fd, "r+b", buffering=0, closefd=False) as memory:
        memory.seek(address - start)
        memory.write(b"\xff")
