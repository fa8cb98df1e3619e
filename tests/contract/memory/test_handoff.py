"""The hand-off socket: whole messages or none, no descriptor lost, nobody waits for a peer that does not read."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.memory import NARRATOR, open_fds, revision_ref

from segue.errors import HandoffError
from segue.memory import handoff, memfd
from segue.memory.connection import MAX_QUEUED, Connection, ConnectionLost
from segue.memory.handoff import Backoff, HandoffListener, connect, connect_patiently
from segue.memory.messages import (
    MAX_MESSAGE_BYTES,
    Bye,
    Failed,
    Hello,
    Message,
    Offer,
    Page,
    PartRef,
    Ready,
    Retire,
    Voice,
    Want,
    decode,
    encode,
)

DEADLINE_S = 10.0


def run(body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test's coroutine with a deadline, and see that it leaves no descriptor behind."""

    async def bounded() -> None:
        before = open_fds()
        async with asyncio.timeout(DEADLINE_S):
            await body()
        assert open_fds() == before

    asyncio.run(bounded())


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[tuple[Connection, Connection]]:
    """Both ends of a connection."""
    ends = [Connection(sock) for sock in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)]
    try:
        yield ends[0], ends[1]
    finally:
        for end in ends:
            end.close()


@contextlib.asynccontextmanager
async def raw_peer() -> AsyncIterator[tuple[Connection, socket.socket]]:
    """A connection whose other end breaks the rules."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection = Connection(ours)
    try:
        yield connection, theirs
    finally:
        connection.close()
        theirs.close()


def some_fds(count: int) -> list[int]:
    return [os.open("/dev/null", os.O_RDONLY) for _ in range(count)]


async def refused(receiving: Awaitable[Any], says: str) -> None:
    with pytest.raises(HandoffError, match=says):
        await receiving


def parts(count: int) -> tuple[PartRef, ...]:
    return tuple(PartRef(name=f"part{i}", digest=f"{i:064x}", size_bytes=4096) for i in range(count))


# --- messages -------------------------------------------------------------------------------------------------------

handles = st.integers(1, 65_535)


@given(
    st.one_of(
        st.builds(Ready, handle=handles, build_ms=st.floats(0, 1e6)),
        st.builds(Failed, handle=handles, reason=st.just("OutOfMemory"), message=st.text(max_size=500)),
        st.builds(Retire, handle=handles),
        st.builds(Voice, voice=st.just(NARRATOR), slot=st.integers(0, 7999), suspect=st.none() | handles),
        st.builds(lambda h, n: Offer(offered=revision_ref(handle=h, parts=parts(n))), handles, st.integers(1, 32)),
    )
)
def test_every_message_survives_the_wire(message: Message) -> None:
    assert decode(encode(message)) == message


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty message"),
        (b" " * (MAX_MESSAGE_BYTES + 1), "over the limit"),
        (b"\xff", "Invalid JSON"),
        (b"[" * 10_000, "Invalid JSON"),
        (b"[]", "breaks the protocol"),
        (b"{}", "breaks the protocol"),
        (b'{"kind":"shutdown"}', "'shutdown'"),
        (b'{"kind":"ready","handle":"1"}', "ready.handle"),
        (b'{"kind":"ready","handle":0}', "ready.handle"),
        (b'{"kind":"ready","handle":65536}', "ready.handle"),
        (b'{"kind":"voice","slot":8000,"voice":{"namespace":"a","name":"b"}}', "voice.slot"),
        (b'{"kind":"want","voice":{"namespace":"","name":"b"}}', "want.voice.namespace"),
        (b'{"kind":"hello","worker":"w0","pid":1,"holding":-1}', "hello.holding"),
    ],
)
def test_nonsense_is_refused_and_the_field_named(data: bytes, says: str) -> None:
    with pytest.raises(HandoffError, match=says):
        decode(data)


def test_an_unknown_field_is_ignored() -> None:
    assert decode(b'{"kind":"ready","handle":3,"colour":"blue"}') == Ready(handle=3)


def test_options_that_do_not_fit_a_message_are_refused_before_they_are_sent() -> None:
    with pytest.raises(HandoffError, match="over the limit"):
        encode(Failed(handle=1, reason="x", message="y" * MAX_MESSAGE_BYTES))


# --- one connection -------------------------------------------------------------------------------------------------


def test_messages_and_descriptors_arrive_in_order() -> None:
    async def body() -> None:
        async with connected() as (sidecar, worker):
            pipe = os.pipe()
            sidecar.send(Page(page_id=5), [pipe[1]])
            sidecar.send(Retire(handle=1))
            with await worker.receive() as received:
                assert received.message == Page(page_id=5)
                (fd,) = received.take()
            assert (await worker.receive()).message == Retire(handle=1)
            os.write(fd, b"through")
            assert os.read(pipe[0], 7) == b"through"
            assert not os.get_inheritable(fd)
            memfd.close_all([fd, pipe[0]])
            assert worker.peer.pid == os.getpid()

    run(body)


def test_the_largest_offer_fits() -> None:
    async def body() -> None:
        async with connected() as (sidecar, worker):
            offer = Offer(offered=revision_ref(parts=parts(32)))
            sidecar.send(offer, some_fds(32))
            with await worker.receive() as received:
                assert received.message == offer
                assert len(received.fds) == 32

    run(body)


def test_descriptors_that_nobody_takes_are_closed() -> None:
    async def body() -> None:
        async with connected() as (sidecar, worker):
            sidecar.send(Page(page_id=5), some_fds(1))
            with await worker.receive():
                pass
            sidecar.send(Page(page_id=6), some_fds(1))

    run(body)


def test_a_message_with_the_wrong_number_of_descriptors_is_not_sent() -> None:
    async def body() -> None:
        async with connected() as (sidecar, worker):
            for message, count in ((Page(page_id=1), 0), (Page(page_id=1), 2), (Retire(handle=1), 1)):
                with pytest.raises(HandoffError, match="needs"):
                    sidecar.send(message, some_fds(count))
            sidecar.send(Retire(handle=9))
            assert (await worker.receive()).message == Retire(handle=9)

    run(body)


def test_receiving_can_be_cancelled_without_losing_a_message() -> None:
    async def body() -> None:
        async with connected() as (sidecar, worker):
            waiting = asyncio.create_task(worker.receive())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            sidecar.send(Page(page_id=3), some_fds(1))
            with await worker.receive() as received:
                assert received.message == Page(page_id=3)

    run(body)


def test_a_closed_peer_is_noticed_by_receiver_and_sender() -> None:
    async def body() -> None:
        async with connected() as (sidecar, worker):
            receiving = asyncio.create_task(worker.receive())
            await asyncio.sleep(0)
            sidecar.close()
            await refused(receiving, "closed")
            with pytest.raises(ConnectionLost):
                worker.send(Page(page_id=1), some_fds(1))
            with pytest.raises(ConnectionLost):
                worker.send(Bye())
            with pytest.raises(ConnectionLost):
                await worker.flush(timeout_s=1)

    run(body)


def test_closing_wakes_our_own_receiver() -> None:
    async def body() -> None:
        async with connected() as (sidecar, _):
            receiving = asyncio.create_task(sidecar.receive())
            await asyncio.sleep(0)
            sidecar.close()
            await refused(receiving, "closed")

    run(body)


def test_a_peer_that_does_not_read_is_disconnected_and_its_descriptors_come_back() -> None:
    async def body() -> None:
        async with raw_peer() as (sidecar, _):
            while sidecar.queued < MAX_QUEUED:
                sidecar.send(Page(page_id=1, pod="p" * 250), some_fds(1))
            with pytest.raises(ConnectionLost, match=f"left {MAX_QUEUED} messages unread"):
                sidecar.send(Page(page_id=1), some_fds(1))
            assert sidecar.closed
            assert sidecar.queued == 0

    run(body)


def test_a_peer_that_reads_late_gets_everything() -> None:
    async def body() -> None:
        async with connected() as (sidecar, worker):
            sent = 0
            while sidecar.queued < MAX_QUEUED // 2:
                sent += 1
                sidecar.send(Failed(handle=sent, reason="x", message="y" * 1000))
            flushing = asyncio.create_task(sidecar.flush(timeout_s=DEADLINE_S))
            for handle in range(1, sent + 1):
                message = (await worker.receive()).message
                assert isinstance(message, Failed)
                assert message.handle == handle
            await flushing

    run(body)


def test_waiting_for_a_peer_that_never_reads_has_an_end() -> None:
    async def body() -> None:
        async with raw_peer() as (sidecar, _):
            while not sidecar.queued:
                sidecar.send(Failed(handle=1, reason="x", message="y" * 1000))
            with pytest.raises(ConnectionLost, match="read nothing"):
                await sidecar.flush(timeout_s=0.05)
            assert sidecar.closed

    run(body)


# --- peers that break the rules -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "count", "says"),
    [
        pytest.param(b"x" * 300_000, 0, "cut short|over the limit", id="longer than the buffer"),
        pytest.param(b"x" * 20_000, 0, "over the limit", id="too long"),
        pytest.param(encode(Page(page_id=1)), 0, "came with 0 descriptors", id="descriptor missing"),
        pytest.param(encode(Page(page_id=1)), 3, "came with 3 descriptors", id="too many for the message"),
        pytest.param(encode(Retire(handle=1)), 1, "came with 1 descriptors", id="unasked descriptor"),
        pytest.param(encode(Page(page_id=1)), 60, "cut short", id="too many for the buffer"),
        pytest.param(b"not json", 2, "Invalid JSON", id="nonsense with descriptors"),
    ],
)
def test_a_peer_that_breaks_the_rules_is_disconnected_and_nothing_leaks(data: bytes, count: int, says: str) -> None:
    async def body() -> None:
        async with raw_peer() as (connection, peer):
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            fds = some_fds(count)
            socket.send_fds(peer, [data], fds)
            memfd.close_all(fds)
            await refused(connection.receive(), says)
            assert connection.closed

    run(body)


def test_an_empty_message_ends_the_connection() -> None:
    async def body() -> None:
        async with raw_peer() as (connection, peer):
            peer.send(b"")
            await refused(connection.receive(), "closed")
            assert connection.closed

    run(body)


def test_running_out_of_descriptors_closes_the_connection_and_those_that_came() -> None:
    async def body() -> None:
        async with connected() as (sidecar, worker):
            sidecar.send(Offer(offered=revision_ref(parts=parts(32))), some_fds(32))
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (open_fds() + 4, limits[1]))
            try:
                await refused(worker.receive(), "cut short")
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            assert worker.closed

    run(body)


# --- listening ------------------------------------------------------------------------------------------------------


def test_workers_find_the_sidecar_and_it_knows_who_they_are(tmp_path: Path) -> None:
    async def body() -> None:
        listener = HandoffListener(tmp_path / "handoff.sock", allowed_uids={os.geteuid()})
        listener.open()
        worker = connect(tmp_path / "handoff.sock")
        sidecar = await listener.accept()
        worker.send(Want(voice=NARRATOR))
        assert (await sidecar.receive()).message == Want(voice=NARRATOR)
        assert (sidecar.peer.pid, sidecar.peer.uid) == (os.getpid(), os.geteuid())
        for one in (worker, sidecar, listener):
            one.close()
        listener.close()
        assert not (tmp_path / "handoff.sock").exists()

    run(body)


def test_a_worker_waits_for_a_sidecar_that_starts_later(tmp_path: Path) -> None:
    async def body() -> None:
        path = tmp_path / "handoff.sock"
        connecting = asyncio.create_task(connect_patiently(path, backoff=Backoff(first_s=0.001, most_s=0.01)))
        await asyncio.sleep(0)
        listener = HandoffListener(path, allowed_uids={os.geteuid()})
        listener.open()
        accepted, worker = await asyncio.gather(listener.accept(), connecting)
        for one in (worker, accepted, listener):
            one.close()

    run(body)


def test_another_uid_is_turned_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        listener = HandoffListener(tmp_path / "handoff.sock", allowed_uids={os.geteuid() + 1})
        listener.open()
        accepting = asyncio.create_task(listener.accept())
        worker = connect(tmp_path / "handoff.sock")
        await refused(worker.receive(), "closed|gone")
        assert "not an allowed uid" in caplog.text
        listener.close()
        await refused(accepting, "closed")

    run(body)


@pytest.mark.process
def test_two_sidecars_on_one_socket_the_second_names_the_first(tmp_path: Path) -> None:
    path = tmp_path / "handoff.sock"
    script = (
        "import sys; from pathlib import Path; from segue.memory.handoff import HandoffListener\n"
        "listener = HandoffListener(Path(sys.argv[1]), allowed_uids={0}); listener.open()\n"
        "print('open', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"open\n"
        second = HandoffListener(path, allowed_uids={os.geteuid()})
        with pytest.raises(HandoffError, match=rf"pid {first.pid}\b"):
            second.open()
        assert path.exists()
        first.kill()
        first.wait()
        second.open()
        second.close()


def test_a_socket_path_that_does_not_fit_is_refused_by_both_ends(tmp_path: Path) -> None:
    async def body() -> None:
        path = tmp_path / ("x" * 120)
        with pytest.raises(HandoffError, match="107"):
            HandoffListener(path, allowed_uids={0})
        with pytest.raises(HandoffError, match="107"):
            await connect_patiently(path)

    run(body)


def test_a_listener_that_cannot_bind_gives_the_lock_back(tmp_path: Path) -> None:
    async def body() -> None:
        (tmp_path / "taken").mkdir()
        (tmp_path / "taken" / "file").touch()
        broken = HandoffListener(tmp_path / "taken", allowed_uids={0})
        with pytest.raises(HandoffError, match="cannot listen"):
            broken.open()
        good = HandoffListener(tmp_path / "handoff.sock", allowed_uids={0})
        good.open()
        good.close()

    run(body)


def test_backoff_doubles_up_to_its_limit() -> None:
    backoff = Backoff(first_s=0.1, most_s=1.0)
    assert [backoff.delay_s(attempt, draw=lambda: 0.0) for attempt in (0, 1, 2, 3, 4, 1000)] == [
        0.1,
        0.2,
        0.4,
        0.8,
        1.0,
        1.0,
    ]
    assert backoff.delay_s(0, draw=lambda: 1.0) == pytest.approx(0.075)


DYING_WORKER = """
import asyncio, os, sys
from pathlib import Path
from segue.memory.handoff import connect
from segue.memory.messages import Hello
from segue.memory.stats import create_stats_memfd

async def main():
    sys.stdin.readline()
    connect(Path(sys.argv[1])).send(Hello(worker="w0", pid=os.getpid(), holding=3), [create_stats_memfd()])
    os.kill(os.getpid(), 9)

asyncio.run(main())
"""


@pytest.mark.process
def test_a_worker_killed_in_mid_sentence_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "handoff.sock"
    with subprocess.Popen([sys.executable, "-c", DYING_WORKER, str(path)], stdin=subprocess.PIPE) as worker:
        pid = worker.pid

        async def body() -> None:
            listener = HandoffListener(path, allowed_uids={os.geteuid()})
            listener.open()
            assert worker.stdin is not None
            worker.stdin.write(b"go\n")
            worker.stdin.flush()
            sidecar = await listener.accept()
            with await sidecar.receive() as received:
                assert isinstance(received.message, Hello)
                assert received.message.pid == sidecar.peer.pid == pid
            await refused(sidecar.receive(), "closed|gone")
            sidecar.close()
            listener.close()

        run(body)
        assert worker.wait() == -9


def test_the_lock_lies_beside_the_socket() -> None:
    assert handoff.LOCK_NAME == "sidecar.lock"
