"""The pool never takes more than its budget, and never counts memory as free that somebody still holds."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator

import pytest
from tests.support.memory import open_fds, prepared_part, written_memfd
from tests.support.memory_peer import MemoryPeer

from segue.errors import ArenaCorrupt, MemoryError_, NotReady, PoolExhausted
from segue.memory import arena, holds, lease, memfd
from segue.memory.arena import ArenaPlan
from segue.memory.host import HostMapper, HostMemory
from segue.memory.messages import PartRef

MIB = 1 << 20


@pytest.fixture
def memory() -> Iterator[HostMemory]:
    """64 MiB, settled, without spares of its own."""
    before = open_fds()
    made = HostMemory(64 * MIB)
    made.settle()
    yield made
    made.close()
    assert open_fds() == before


def laid_in(memory: HostMemory, *, fill: float = 1.0, values: int = 1_000_000, owner: str = "rev-a") -> PartRef:
    """One part of about 4 MB, written and sealed."""
    plan = ArenaPlan.of(prepared_part(fill=fill, values=values))
    allocation = memory.allocate(plan.total_bytes, name="timbre")
    plan.write(allocation.fd)
    return memory.seal(allocation, owner=owner)


def test_a_part_goes_in_and_out() -> None:
    before = open_fds()
    memory = HostMemory(64 * MIB)
    memory.settle()
    part = laid_in(memory)
    mapped = HostMapper().map(memory.export(part.digest), part)
    mapped.prefault()
    mapped.verify()
    assert mapped.view().tensors["weight"][0] == 1.0
    memory.release(part.digest, owner="rev-a")
    assert memory.reap() == ()
    assert memory.usage().lingering_bytes == memory.usage().used_bytes > 4_000_000
    mapped.close()
    assert memory.reap() == (part.digest,)
    assert memory.usage().used_bytes == 0
    memory.close()
    assert open_fds() == before


def test_nothing_is_allocated_before_every_worker_was_heard() -> None:
    memory = HostMemory(64 * MIB, spare_bytes=MIB)
    assert not memory.grow_spare()
    with pytest.raises(NotReady, match="workers have yet to say"):
        memory.allocate(MIB, name="timbre")
    memory.close()


def test_a_full_pool_refuses_with_the_figures(memory: HostMemory) -> None:
    memory.allocate(60 * MIB, name="first")
    with pytest.raises(PoolExhausted, match=r"8\.0 MiB, but 4\.0 MiB of the pool's 64\.0 MiB are free") as caught:
        memory.allocate(8 * MIB, name="second")
    refused = caught.value
    assert (refused.needed_bytes, refused.free_bytes, refused.budget_bytes) == (8 * MIB, 4 * MIB, 64 * MIB)


def test_the_same_part_is_kept_once_and_leaves_with_its_last_owner(memory: HostMemory) -> None:
    part = laid_in(memory, owner="rev-a")
    assert laid_in(memory, owner="rev-b") == part
    assert memory.reap() == (part.digest,)
    assert memory.usage().used_bytes == pytest.approx(part.size_bytes, abs=4096)
    memory.release(part.digest, owner="rev-a")
    memory.release(part.digest, owner="rev-a")
    assert memory.holds(part.digest)
    assert memory.owners(part.digest) == {"rev-b"}
    memory.release(part.digest, owner="rev-b")
    assert not memory.holds(part.digest)
    assert memory.reap() == (part.digest,)


def test_a_part_that_was_let_go_comes_back_while_it_is_still_there(memory: HostMemory) -> None:
    part = laid_in(memory)
    memory.release(part.digest, owner="rev-a")
    memory.retain(part.digest, owner="rev-b")
    assert memory.reap() == ()
    assert memory.owners(part.digest) == {"rev-b"}
    memory.release(part.digest, owner="rev-b")
    memory.reap()
    with pytest.raises(KeyError):
        memory.retain(part.digest, owner="rev-c")


def test_a_killed_workers_memory_comes_back_without_a_word_from_it(memory: HostMemory) -> None:
    part = laid_in(memory)
    (lent,) = memory.export(part.digest)
    with MemoryPeer(fds=[lent]) as peer:
        peer.ask("map", fd=lent)
        os.close(lent)
        memory.release(part.digest, owner="rev-a")
        assert memory.reap() == ()
        peer.kill()
        assert memory.reap() == (part.digest,)


def test_an_abandoned_allocation_counts_until_the_child_that_filled_it_is_gone(memory: HostMemory) -> None:
    allocation = memory.allocate(8 * MIB, name="timbre")
    with MemoryPeer(fds=[allocation.fd]) as child:
        memory.abandon(allocation)
        memory.abandon(allocation)
        assert memory.reap() == ()
        assert memory.usage().used_bytes == 8 * MIB
        child.kill()
        assert len(memory.reap()) == 1
    assert memory.usage().used_bytes == 0


def test_what_is_no_arena_is_not_kept(memory: HostMemory) -> None:
    allocation = memory.allocate(MIB, name="timbre")
    with pytest.raises(ArenaCorrupt, match="never finished"):
        memory.seal(allocation, owner="rev-a")
    memory.abandon(allocation)
    memory.reap()
    assert memory.usage().used_bytes == 0


def test_a_child_that_writes_more_than_was_allocated_is_refused(memory: HostMemory) -> None:
    plan = ArenaPlan.of(prepared_part(values=100_000))
    allocation = memory.allocate(4096, name="timbre")
    plan.write(allocation.fd)
    with pytest.raises(ArenaCorrupt, match="allocated 4096 bytes, but"):
        memory.seal(allocation, owner="rev-a")


def test_memory_that_is_still_mapped_writable_is_not_kept(memory: HostMemory) -> None:
    plan = ArenaPlan.of(prepared_part())
    allocation = memory.allocate(plan.total_bytes, name="timbre")
    plan.write(allocation.fd)
    mapping = mmap.mmap(allocation.fd, 4096, flags=mmap.MAP_SHARED, prot=mmap.PROT_WRITE)
    with pytest.raises(MemoryError_, match="unmap"):
        memory.seal(allocation, owner="rev-a")
    mapping.close()
    memory.seal(allocation, owner="rev-a")


def test_a_spare_is_faulted_in_step_by_step_and_used_by_the_next_allocation(memory: HostMemory) -> None:
    laid_in(memory)
    while memory.grow_spare():
        pass
    spare_bytes = memory.usage().spare_bytes
    assert spare_bytes >= 4_000_000
    plan = ArenaPlan.of(prepared_part(fill=2.0, values=700_000))
    allocation = memory.allocate(plan.total_bytes, name="smaller")
    assert allocation.warm
    assert os.fstat(allocation.fd).st_blocks * 512 == spare_bytes
    assert memory.usage().spare_bytes == 0
    plan.write(allocation.fd)
    assert os.fstat(allocation.fd).st_size == plan.total_bytes
    part = memory.seal(allocation, owner="rev-b")
    mapped = HostMapper().map(memory.export(part.digest), part)
    mapped.verify()
    mapped.close()


def test_a_spare_is_not_wasted_on_a_part_of_less_than_half_its_size(memory: HostMemory) -> None:
    laid_in(memory)
    while memory.grow_spare():
        pass
    assert not memory.allocate(1_000_000, name="small").warm
    assert memory.usage().spare_bytes >= 4_000_000


def test_a_spare_that_is_too_small_grows_with_the_part(memory: HostMemory) -> None:
    laid_in(memory)
    while memory.grow_spare():
        pass
    allocation = memory.allocate(12 * MIB, name="larger")
    assert not allocation.warm
    assert os.fstat(allocation.fd).st_size == 12 * MIB
    assert memory.usage().spare_bytes == 0


def test_bytes_count_until_the_kernel_has_them_back() -> None:
    jobs: list[Callable[[], None]] = []
    memory = HostMemory(8 * MIB, background=jobs.append)
    memory.settle()
    part = laid_in(memory)
    memory.release(part.digest, owner="rev-a")
    assert memory.reap() == (part.digest,)
    assert memory.reap() == ()
    with pytest.raises(PoolExhausted):
        memory.allocate(6 * MIB, name="next")
    for job in jobs:
        job()
    assert memory.usage().used_bytes == 0
    memory.allocate(6 * MIB, name="next")
    memory.close()


def test_a_part_that_its_child_sealed_is_kept_as_well(memory: HostMemory) -> None:
    plan = ArenaPlan.of(prepared_part())
    allocation = memory.allocate(plan.total_bytes, name="timbre")
    plan.write(allocation.fd)
    arena.seal(allocation.fd)
    assert memory.seal(allocation, owner="rev-a").digest == plan.digest


def test_a_spare_is_given_up_when_its_room_is_needed() -> None:
    memory = HostMemory(16 * MIB, spares=2, spare_bytes=6 * MIB)
    memory.settle()
    while memory.grow_spare():
        pass
    assert memory.usage().spare_bytes == 12 * MIB
    assert not memory.allocate(16 * MIB, name="large").warm
    assert memory.usage().spare_bytes == 0
    assert memory.usage().peak_bytes <= 16 * MIB
    memory.close()


def test_how_many_descriptors_are_open_does_not_depend_on_how_far_the_spares_are(memory: HostMemory) -> None:
    laid_in(memory, fill=1.0)
    empty = open_fds()
    assert memory.grow_spare()
    assert open_fds() == empty
    while memory.grow_spare():
        pass
    assert open_fds() == empty
    part = laid_in(memory, fill=2.0)  # takes the spare
    assert open_fds() == empty + 1
    memory.release(part.digest, owner="rev-a")
    assert memory.reap() == (part.digest,)
    assert open_fds() == empty


def test_spares_stay_inside_the_budget() -> None:
    memory = HostMemory(10 * MIB, spare_bytes=8 * MIB)
    memory.settle()
    memory.allocate(6 * MIB, name="first")
    while memory.grow_spare():
        pass
    usage = memory.usage()
    assert usage.used_bytes + usage.spare_bytes <= usage.budget_bytes
    assert usage.peak_bytes <= usage.budget_bytes
    memory.close()


def test_a_restarted_sidecar_adopts_what_a_worker_gives_back_even_over_the_budget() -> None:
    first = HostMemory(64 * MIB)
    first.settle()
    part = laid_in(first)
    mapped = HostMapper().map(first.export(part.digest), part)
    first.close()

    second = HostMemory(MIB)
    for _ in range(2):
        (given,) = mapped.export()
        second.adopt([given], part=part, owner="rev-a")
        os.close(given)
    second.settle()
    assert second.holds(part.digest)
    assert second.usage().used_bytes == pytest.approx(part.size_bytes, abs=4096)
    assert second.usage().free_bytes < 0
    with pytest.raises(PoolExhausted):
        second.allocate(4096, name="more")
    again = HostMapper().map(second.export(part.digest), part)
    again.verify()
    again.close()
    second.release(part.digest, owner="rev-a")
    assert second.reap() == ()
    mapped.close()
    assert second.reap() == (part.digest,)
    second.close()


def test_an_offer_whose_arena_is_another_one_is_refused_without_a_leak() -> None:
    before = open_fds()
    fd = written_memfd()
    wrong = PartRef(name="timbre", digest="00" * 32, size_bytes=os.fstat(fd).st_size)
    with pytest.raises(ArenaCorrupt, match="was offered as"):
        HostMapper().map([fd], wrong)
    with pytest.raises(ArenaCorrupt, match="never finished"):
        HostMapper().map([unfinished()], wrong)
    assert open_fds() == before


def unfinished() -> int:
    fd = memfd.create("test")
    os.ftruncate(fd, 4096)
    memfd.add_seals(fd, memfd.SEALS_ARENA)
    return fd


def test_without_leases_memory_is_held_until_every_holder_is_gone(
    memory: HostMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holds, "leases_supported", lambda: False)
    part = laid_in(memory)
    for worker in ("w0", "w1"):
        memory.mark_holder(part.digest, holder=worker)
    memory.release(part.digest, owner="rev-a")
    memory.clear_holder([part.digest], holder="w0")
    assert memory.reap() == ()
    memory.clear_holder([part.digest], holder="w1")
    assert memory.reap() == (part.digest,)


def test_a_hundred_swaps_leave_neither_memory_nor_descriptors(memory: HostMemory) -> None:
    if not lease.leases_supported():
        pytest.skip("this kernel cannot lease memfds")
    kept = laid_in(memory, fill=-1.0, values=100_000)
    descriptors = open_fds()
    for swap in range(100):
        part = laid_in(memory, fill=float(swap), values=100_000, owner=str(swap))
        mapped = HostMapper().map(memory.export(part.digest), part)
        memory.release(part.digest, owner=str(swap))
        mapped.close()
        assert memory.reap() == (part.digest,)
    assert open_fds() == descriptors
    assert memory.usage().used_bytes == pytest.approx(kept.size_bytes, abs=4096)
