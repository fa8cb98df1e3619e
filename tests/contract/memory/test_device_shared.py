"""Device memory of the sidecar, in the hands of real processes: it lives, goes and comes back with its holders."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import signal
import socket
import struct
from collections.abc import Iterator

import pytest
from tests.fakes import cuda_driver as fake
from tests.support.device_memory import MIB, LaterThread, Setup, fake_device, make_setup, owner, reader, tensor
from tests.support.device_peer import DevicePeer
from tests.support.memory import open_fds, raw_memfd, revision_ref

from segue.errors import ArenaCorrupt, DeviceError, DigestMismatch, MemoryError_, PoolExhausted
from segue.memory import memfd
from segue.memory.adoption import HeldRevision, introduce, receive_introduction
from segue.memory.arena import Arena
from segue.memory.connection import Connection
from segue.memory.device.departure import Elsewhere, run_here
from segue.memory.device.mapping import SharedMapper, SharedPart
from segue.memory.device.token import read_token
from segue.memory.device.uploading import copy_arena, upload
from segue.memory.mapped_once import MapOnce
from segue.memory.messages import Hello, Offer, PartRef
from segue.memory.mode import MemoryMode
from segue_server.revisions.resident import unmap

SHARED = MemoryMode.GPU_SHARED


@pytest.fixture
def setup() -> Iterator[Setup]:
    """64 MiB of device memory."""
    fake.reset()
    before = open_fds()
    made = make_setup(SHARED)
    yield made
    made.memory.close()
    gc.collect()
    assert fake.state.violations == []
    fake.reset()
    assert open_fds() == before


def lent(setup: Setup, part: PartRef) -> tuple[int, ...]:
    return setup.memory.export(part.digest)


# --- who holds it -----------------------------------------------------------------------------------------------------


def test_another_process_maps_what_was_exported_and_its_death_frees_it(setup: Setup) -> None:
    part = setup.lay_in(fill=7.0)
    fds = lent(setup, part)
    with DevicePeer(fds=fds) as peer:
        assert peer.map(fds, part) == 7.0
        memfd.close_all(fds)
        setup.memory.release(part.digest, owner="rev-a")
        assert setup.memory.reap() == ()
        assert peer.ask("verify") == "as promised"
        peer.kill()
        assert setup.memory.reap() == (part.digest,)
    assert fake.used_bytes() == 0


def test_a_descriptor_on_its_way_counts_as_held(setup: Setup) -> None:
    part = setup.lay_in()
    fds = lent(setup, part)
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    socket.send_fds(near, [b"x"], fds)
    memfd.close_all(fds)
    setup.memory.release(part.digest, owner="rev-a")
    assert setup.memory.reap() == ()
    far.close()
    near.close()
    assert setup.memory.reap() == (part.digest,)


def test_the_memory_outlives_the_sidecar_in_a_worker_and_comes_back(setup: Setup) -> None:
    """The sidecar is killed (its descriptors close), the worker goes on, and gives everything to the next sidecar."""
    part = setup.lay_in(fill=5.0)
    fds = lent(setup, part)
    with DevicePeer(fds=fds) as peer:
        assert peer.map(fds, part) == 5.0
        setup.memory.close()
        assert peer.ask("read") == 5.0
        reborn = owner(SHARED)
        reborn.adopt(fds, part=part, owner="rev-a")  # what the worker sent, as descriptors of the same files
        memfd.close_all(fds)
        reborn.settle()
        again = setup.mapper.map(reborn.export(part.digest), part)
        again.verify()
        assert tensor(again.view(), "weight")[0] == 5.0
        again.close()
        assert peer.ask("close") == "closed"
        reborn.release(part.digest, owner="rev-a")
        peer.kill()
        assert reborn.reap() == (part.digest,)
        reborn.close()
    assert fake.used_bytes() == 0


def test_an_offer_of_device_memory_travels_with_two_descriptors_a_part(setup: Setup) -> None:
    part = setup.lay_in()

    async def body() -> None:
        sidecar, worker = map(Connection, socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        ref = revision_ref(parts=(part,), memory=SHARED)
        sidecar.send(Offer(offered=ref), lent(setup, part))
        with await worker.receive() as received:
            assert isinstance(received.message, Offer)
            ((named, fds),) = received.message.offered.grouped(received.take())
        mapped = setup.mapper.map(fds, named)
        page_fd = memfd.create("stats")
        held = HeldRevision(ref, [*mapped.export()])
        await introduce(worker, Hello(worker="w0", pid=1, holding=1), fds=[page_fd], holdings=[held])
        with await receive_introduction(sidecar) as introduction:
            assert len(introduction.holdings[0].fds) == 2
        mapped.close()
        sidecar.close()
        worker.close()

    asyncio.run(asyncio.wait_for(body(), 20))


def test_host_memory_where_device_memory_is_expected_is_refused_and_the_other_way_round(setup: Setup) -> None:
    part = setup.lay_in()
    with pytest.raises(ArenaCorrupt, match="device memory"):
        reader(MemoryMode.HOST).map(lent(setup, part), part)
    token_fd, device_fd = lent(setup, part)
    os.close(device_fd)
    with pytest.raises(ArenaCorrupt, match="1 descriptors instead of"):
        setup.mapper.map([token_fd], part)
    host = owner(MemoryMode.HOST)
    fds = lent(setup, part)
    with pytest.raises(ArenaCorrupt, match="device memory"):
        host.adopt(fds, part=part, owner="rev-a")
    with pytest.raises(ArenaCorrupt, match="memory mode was changed"):
        setup.memory.adopt(fds[:1], part=part, owner="rev-a")
    memfd.close_all(fds)
    host.close()


def test_a_worker_that_writes_to_the_weights_dies_of_it(setup: Setup) -> None:
    part = setup.lay_in()
    fds = lent(setup, part)
    with DevicePeer(fds=fds) as peer:
        peer.map(fds, part)
        memfd.close_all(fds)
        assert peer.ask("write") is None
        assert peer.kill() == -signal.SIGSEGV


def test_an_import_that_fails_in_one_worker_leaves_the_others_alone(setup: Setup) -> None:
    part = setup.lay_in(fill=2.0)
    good, bad = lent(setup, part), lent(setup, part)
    with DevicePeer(fds=good) as one, DevicePeer(fds=bad) as other:
        assert one.map(good, part) == 2.0
        other.ask("fail_import")
        answer = other.map(bad, part)
        memfd.close_all([*good, *bad])
        assert answer == "DeviceError: cuMemImportFromShareableHandle failed with CUDA_ERROR_NOT_SUPPORTED"
        setup.memory.release(part.digest, owner="rev-a")
        assert setup.memory.reap() == ()
        assert one.ask("close") == "closed"
        assert setup.memory.reap() == (part.digest,)  # the one that failed holds nothing either


# --- taking memory ----------------------------------------------------------------------------------------------------


def test_a_device_that_is_full_refuses_like_a_budget_that_is(setup: Setup) -> None:
    fake.state.total_bytes = 3 * fake.GRANULARITY
    part = setup.lay_in()
    with pytest.raises(PoolExhausted, match="the device has no memory left") as caught:
        setup.memory.allocate(4 * MIB, name="timbre")
    assert caught.value.free_bytes == 0
    assert setup.memory.budgets()["host"].used_bytes == 0
    setup.memory.release(part.digest, owner="rev-a")
    setup.memory.reap()
    setup.memory.abandon(setup.memory.allocate(4 * MIB, name="timbre"))


def test_an_export_that_fails_leaves_no_device_memory_behind(setup: Setup) -> None:
    fake.fail_next("cuMemExportToShareableHandle", fake.CUresult.CUDA_ERROR_NOT_PERMITTED)
    with pytest.raises(DeviceError, match="NOT_PERMITTED"):
        setup.memory.allocate(4 * MIB, name="timbre")
    assert setup.memory.usage().used_bytes == fake.used_bytes() == 0


@pytest.mark.parametrize("call", ["cuMemAddressReserve", "cuMemMap", "cuMemSetAccess"])
def test_a_mapping_that_fails_half_way_leaves_nothing_behind(setup: Setup, call: str) -> None:
    part = setup.lay_in()
    fake.fail_next(call, fake.CUresult.CUDA_ERROR_OUT_OF_MEMORY)
    with pytest.raises(DeviceError, match=call):
        setup.map(part)
    assert (fake.state.mappings, fake.state.reservations) == ({}, {})
    setup.memory.release(part.digest, owner="rev-a")
    assert setup.memory.reap() == (part.digest,)


def test_sizes_are_rounded_to_the_devices_granularity(setup: Setup) -> None:
    setup.lay_in(values=fake.GRANULARITY // 4 + 1)
    assert setup.memory.usage().used_bytes == 2 * fake.GRANULARITY


def test_small_parts_share_an_allocation_that_goes_with_the_last_of_them(setup: Setup) -> None:
    one = setup.lay_in(fill=1.0, values=1000, name="reference")
    two = setup.lay_in(fill=2.0, values=1000, name="reference")
    assert setup.memory.usage().used_bytes == fake.GRANULARITY
    first, second = setup.map(one), setup.map(two)
    assert tensor(first.view(), "weight")[0] == 1.0
    assert tensor(second.view(), "weight")[0] == 2.0
    first.close()
    setup.memory.release(one.digest, owner="rev-a")
    assert setup.memory.reap() == (one.digest,)
    assert setup.memory.usage().used_bytes == fake.GRANULARITY
    three = setup.lay_in(fill=3.0, values=1000, name="reference")
    assert setup.memory.usage().used_bytes == fake.GRANULARITY
    assert tensor(second.view(), "weight")[0] == 2.0
    second.close()
    for part in (two, three):
        setup.memory.release(part.digest, owner="rev-a")
    assert len(setup.memory.reap()) == 2
    assert setup.memory.usage().used_bytes == fake.used_bytes() == 0


def test_room_in_a_shared_allocation_is_never_given_away_twice(setup: Setup) -> None:
    places = []
    for turn in range(4):
        part = setup.lay_in(fill=float(turn), values=1000)
        fds = lent(setup, part)
        places.append(read_token(fds[0]).place)
        memfd.close_all(fds)
        if turn:
            setup.memory.release(part.digest, owner="rev-a")
            setup.memory.reap()
    assert len({place.allocation for place in places}) == 1
    assert len({place.offset for place in places}) == 4


def test_parts_of_one_allocation_are_counted_once_when_they_are_adopted(setup: Setup) -> None:
    parts = [setup.lay_in(fill=float(turn), values=1000) for turn in range(3)]
    given = [lent(setup, part) for part in parts]
    setup.memory.close()
    reborn = owner(SHARED)
    for part, fds in zip(parts, given, strict=True):
        reborn.adopt(fds, part=part, owner="rev-a")
        memfd.close_all(fds)
    assert reborn.usage().used_bytes == fake.GRANULARITY
    for part in parts:
        reborn.release(part.digest, owner="rev-a")
    assert len(reborn.reap()) == 3
    reborn.close()
    assert fake.used_bytes() == 0


# --- uploading --------------------------------------------------------------------------------------------------------


def test_nothing_is_exported_before_it_was_uploaded_and_staging_goes_then(setup: Setup) -> None:
    part = setup.seal_in(owner="rev-a")
    with pytest.raises(MemoryError_, match="not copied to the device yet"):
        setup.memory.export(part.digest)
    assert setup.memory.budgets()["host"].used_bytes >= part.size_bytes
    setup.finish_uploads(part)
    assert setup.memory.budgets()["host"].used_bytes == 0
    assert setup.memory.uploads([part.digest]) == ()
    setup.map(part).close()


def test_a_part_that_was_let_go_before_it_was_uploaded_does_not_come_back(setup: Setup) -> None:
    part = setup.seal_in(owner="rev-a")
    setup.memory.release(part.digest, owner="rev-a")
    with pytest.raises(KeyError):
        setup.memory.retain(part.digest, owner="rev-b")
    setup.memory.reap()
    assert all(usage.used_bytes == 0 for usage in setup.memory.budgets().values())


def test_an_upload_that_is_broken_off_is_refused_by_its_hash_and_can_be_done_again(setup: Setup) -> None:
    part = setup.seal_in(owner="rev-a")
    (first,) = setup.memory.uploads([part.digest])

    def stop(done: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        upload(fake_device(), first.fds, first.part, step=stop)
    assert fake.state.mappings == {}
    (second,) = setup.memory.uploads([part.digest])
    upload(fake_device(), second.fds, second.part)
    setup.memory.uploaded(part.digest)
    mapped = setup.map(part)
    mapped.verify()
    mapped.close()


def test_what_arrives_wrong_on_the_device_is_not_believed(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    part = setup.seal_in(owner="rev-a")
    (one,) = setup.memory.uploads([part.digest])
    move = fake._move

    def flip(target: int, source: int, count: int) -> None:
        move(target, source, count)
        ctypes.memset(target + count - 100, 0xA5, 1)

    monkeypatch.setattr(fake, "_move", flip)
    with pytest.raises(DigestMismatch, match="on the device"):
        upload(fake_device(), one.fds, one.part)


def test_a_device_that_hangs_while_it_copies_is_an_error_and_not_a_hang(setup: Setup) -> None:
    part = setup.seal_in(owner="rev-a")
    (one,) = setup.memory.uploads([part.digest])
    device = fake_device()
    stream = device.new_stream()
    fake.hold(stream)
    now = iter(range(0, 10_000, 20))
    base = device.map_shared(one.fds[2], fake.GRANULARITY * 2, writable=True)
    arena = Arena.open(one.fds[0])
    with pytest.raises(DeviceError, match="the device hangs"):
        copy_arena(device, arena, base, stream=stream, sleep=lambda _: None, clock=lambda: float(next(now)))
    fake.let_go(stream)
    arena.close()
    device.unmap(base, fake.GRANULARITY * 2)
    memfd.close_all(one.fds)


# --- letting go -------------------------------------------------------------------------------------------------------


def borrowed(setup: Setup, part: PartRef, *, elsewhere: Elsewhere = run_here) -> SharedPart:
    """Map a part, lend a tensor of it to a consumer that works on the default stream, and get it back."""
    mapped = SharedMapper(fake_device(), elsewhere=elsewhere).map(lent(setup, part), part)
    capsule = mapped.view().tensors["weight"].__dlpack__(stream=fake.LEGACY)
    del capsule
    return mapped


def test_nothing_is_unmapped_under_a_batch_that_reads_it(setup: Setup) -> None:
    part = setup.lay_in()
    mapped = borrowed(setup, part)
    first, end = mapped.address_range()
    fake.hold()
    fake.begin_batch(first, end - first)
    for _ in range(3):
        with pytest.raises(BufferError, match="still works on a batch"):
            mapped.close()
    fake.let_go()
    mapped.close()
    assert fake.state.mappings == {}
    assert fake.state.events == {}


def test_batches_given_after_the_last_tensor_was_dropped_are_not_waited_for(setup: Setup) -> None:
    """Traffic of other revisions goes on for ever: only what came before counts."""
    part = setup.lay_in()
    mapped = borrowed(setup, part)
    fake.hold()
    fake.begin_batch(*mapped.address_range())
    with pytest.raises(BufferError):
        mapped.close()
    stream = fake.state.streams[fake.LEGACY]
    stream.held = False
    stream.run()
    fake.hold()
    fake.begin_batch(0, 0)
    mapped.close()


def test_the_serving_thread_never_waits_for_the_driver(setup: Setup) -> None:
    later = LaterThread()
    part = setup.lay_in()
    mapped = borrowed(setup, part, elsewhere=later)
    fake.state.calls.clear()
    with pytest.raises(BufferError, match="the driver is unmapping"):
        mapped.close()
    assert "cuMemUnmap" not in fake.state.calls
    setup.memory.release(part.digest, owner="rev-a")
    assert setup.memory.reap() == ()
    later.run()
    assert setup.memory.reap() == ()
    mapped.close()
    assert setup.memory.reap() == (part.digest,)


@pytest.mark.parametrize("trouble", ["an event that never completes", "a device that is lost"])
def test_a_part_that_cannot_go_gets_its_worker_replaced(setup: Setup, trouble: str) -> None:
    part = setup.lay_in()
    mapped = borrowed(setup, part)
    fake.hold()
    fake.begin_batch(*mapped.address_range())
    if trouble == "a device that is lost":
        fake.state.lost = True
    told: list[str] = []

    async def body() -> None:
        going = asyncio.create_task(unmap([mapped], on_stuck=told.append, stuck_after_s=0.01))
        async with asyncio.timeout(10):
            while True:
                if told:
                    break
                await asyncio.sleep(0.01)
        assert not going.done()
        fake.state.lost = False
        fake.let_go()
        await asyncio.wait_for(going, 10)

    asyncio.run(body())
    assert ("still works" if trouble.startswith("an event") else "nobody can say") in told[0]


# --- what is believed -------------------------------------------------------------------------------------------------


def test_another_device_is_refused_by_name_and_with_the_way_out(setup: Setup) -> None:
    part = setup.lay_in()
    fds = lent(setup, part)
    fake.state.devices = ["6e0c9a5e-0f5f-4b7e-9d0e-5e60eface002"]
    with pytest.raises(ArenaCorrupt, match=r"give both containers the same device, or set gpu\.mode to gpu-copy"):
        reader(SHARED).map(fds, part)


def test_a_token_that_somebody_else_made_is_not_adopted(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    part = setup.lay_in()
    fds = lent(setup, part)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(ArenaCorrupt, match="belongs to uid"):
        setup.memory.adopt(fds, part=part, owner="rev-b")
    memfd.close_all(fds)


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (0, b"SEGUEAR1", "instead of b'SEGUEDV1'"),
        (24, struct.pack("<Q", 4096), "refused"),
        (32, struct.pack("<Q", 1), "refused"),
        (32, struct.pack("<Q", 1 << 40), "refused"),
        (64, b"XXXXXXXX", "instead of b'SEGUEAR1'"),
        (64 + 12, struct.pack("<I", 0xFFFFFFFF), "refused"),
        (64 + 16, struct.pack("<Q", 1 << 62), "refused"),
        (64 + 24, struct.pack("<Q", 8192), "does not fit"),
    ],
)
def test_a_token_with_a_field_out_of_bounds_is_refused(setup: Setup, at: int, value: bytes, message: str) -> None:
    fds = lent(setup, setup.lay_in())
    content = bytearray(os.pread(fds[0], os.fstat(fds[0]).st_size, 0))
    content[at : at + len(value)] = value
    forged = raw_memfd(bytes(content))
    with pytest.raises(ArenaCorrupt, match=message):
        read_token(forged)
    memfd.close_all([*fds, forged])


def test_an_open_token_is_refused(setup: Setup) -> None:
    fds = lent(setup, setup.lay_in())
    open_token = raw_memfd(os.pread(fds[0], os.fstat(fds[0]).st_size, 0), seals=0)
    with pytest.raises(ArenaCorrupt, match="needs"):
        read_token(open_token)
    memfd.close_all([*fds, open_token])


def test_a_descriptor_that_is_no_device_memory_is_refused(setup: Setup) -> None:
    part = setup.lay_in()
    token_fd, device_fd = lent(setup, part)
    os.close(device_fd)
    with pytest.raises(DeviceError, match="cuMemImportFromShareableHandle"):
        setup.mapper.map([token_fd, memfd.create("something else")], part)


def test_after_unmapping_nothing_can_be_lent_any_more(setup: Setup) -> None:
    mapped = setup.map(setup.lay_in())
    view = mapped.view()
    mapped.close()
    with pytest.raises(BufferError, match="was unmapped"):
        view.tensors["weight"].__dlpack__()


def test_unmapping_that_fails_is_told_and_tried_again(setup: Setup) -> None:
    part = setup.lay_in()
    mapped = setup.map(part)
    fake.fail_next("cuMemUnmap", fake.CUresult.CUDA_ERROR_NOT_PERMITTED)
    with pytest.raises(BufferError, match="could not be unmapped: cuMemUnmap failed"):
        mapped.close()
    setup.memory.release(part.digest, owner="rev-a")
    assert setup.memory.reap() == ()
    mapped.close()
    assert setup.memory.reap() == (part.digest,)


def test_a_part_that_is_leaving_is_mapped_anew_for_whoever_comes_now(setup: Setup) -> None:
    """A revision that shares a part with one that goes: the old mapping waits for its batch, the new one serves."""
    part = setup.lay_in(fill=4.0)
    mapper = MapOnce(setup.mapper)
    old = mapper.map(lent(setup, part), part)
    capsule = old.view().tensors["weight"].__dlpack__(stream=fake.LEGACY)
    del capsule
    fake.hold()
    fake.begin_batch(*old.address_range())
    with pytest.raises(BufferError, match="still works"):
        old.close()
    new = mapper.map(lent(setup, part), part)
    assert new.address_range() != old.address_range()
    assert tensor(new.view(), "weight")[0] == 4.0
    fake.let_go()
    old.close()
    again = mapper.map(lent(setup, part), part)
    assert again.address_range() == new.address_range()
    for each in (new, again):
        each.close()
