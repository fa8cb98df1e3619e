"""A restarted sidecar gets back from its workers what the one before it made."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tests.support.memory import open_fds, prepared_part, revision_ref, written_memfd

from segue.errors import ArenaCorrupt, HandoffError
from segue.memory.adoption import HeldRevision, introduce, receive_introduction
from segue.memory.arena import ArenaPlan
from segue.memory.connection import Connection
from segue.memory.host import HostMapper, HostMemory
from segue.memory.messages import Bye, Hello, Holding, PartRef
from segue.memory.page import PageReader, PointerPage, Word
from segue.memory.stats import StatsPage, create_stats_memfd
from segue.memory.stats_reader import StatsReader

Body = Callable[[Connection, Connection], Coroutine[Any, Any, None]]


def run(body: Body) -> None:
    """Both ends of a connection, a deadline, and no descriptor left behind."""

    async def bounded() -> None:
        before = open_fds()
        sidecar, worker = map(Connection, socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        try:
            async with asyncio.timeout(20):
                await body(sidecar, worker)
        finally:
            sidecar.close()
            worker.close()
        assert open_fds() == before

    asyncio.run(bounded())


def held(handle: int) -> HeldRevision:
    fd = written_memfd()
    part = PartRef(name="timbre", digest=ArenaPlan.of(prepared_part()).digest, size_bytes=os.fstat(fd).st_size)
    return HeldRevision(revision_ref(handle=handle, parts=(part,)), [fd])


def test_a_new_worker_brings_its_stats_page_and_nothing_else() -> None:
    async def body(sidecar: Connection, worker: Connection) -> None:
        stats = StatsPage(create_stats_memfd())
        stats.row(3).admitted()
        await introduce(worker, Hello(worker="w0", pid=1), fds=[stats.export()])
        with await receive_introduction(sidecar) as introduction:
            assert introduction.page_fd == -1
            assert introduction.holdings == []
            fd = introduction.take_stats()
        reader = StatsReader(fd)
        os.close(fd)
        assert reader.rows()[3].counters.in_flight == 1
        reader.close()
        stats.close()

    run(body)


def test_a_restarted_sidecar_adopts_page_and_arenas_and_flips_go_on() -> None:
    async def body(sidecar: Connection, worker: Connection) -> None:
        page, memory = PointerPage.create(), HostMemory(64 << 20)
        memory.settle()
        plan = ArenaPlan.of(prepared_part())
        allocation = memory.allocate(plan.total_bytes, name="timbre")
        plan.write(allocation.fd)
        part = memory.seal(allocation, owner="rev")
        page.store(0, Word(active=1, epoch=1))
        page_fd = page.export()
        reader, mapped = PageReader(page_fd), HostMapper().map(memory.export(part.digest), part)
        memory.close()
        page.close()

        revision = revision_ref(parts=(part,))
        hello = Hello(worker="w0", pid=1, page_id=reader.page_id, holding=1, serving=True)
        claims = [HeldRevision(revision, [*mapped.export()])]
        await introduce(worker, hello, fds=[create_stats_memfd(), os.dup(page_fd)], holdings=claims)

        reborn = HostMemory(64 << 20)
        with await receive_introduction(sidecar) as introduction:
            adopted = PointerPage.adopt(introduction.page_fd)
            for claim in introduction.holdings:
                assert claim.held == revision
                reborn.adopt(claim.fds, part=claim.held.parts[0], owner=claim.held.revision)
        assert adopted.page_id == reader.page_id
        adopted.store(0, adopted.load(0).followed_by(active=2))
        assert reader.load(0) == Word(active=2, epoch=2)
        assert reborn.owners(part.digest) == {revision.revision}
        mapped.close()
        reader.close()
        os.close(page_fd)
        adopted.close()
        reborn.close()

    run(body)


def test_hundreds_of_holdings_pass_through_a_socket_that_takes_few() -> None:
    async def body(sidecar: Connection, worker: Connection) -> None:
        one = held(1)

        def claims() -> list[HeldRevision]:
            return [
                HeldRevision(revision_ref(handle=n, parts=one.held.parts), [os.dup(one.fds[0])]) for n in range(1, 301)
            ]

        hello = Hello(worker="w0", pid=1, holding=300)
        telling = introduce(worker, hello, fds=[create_stats_memfd()], holdings=claims())
        _, introduction = await asyncio.gather(telling, receive_introduction(sidecar))
        with introduction:
            assert [claim.held.handle for claim in introduction.holdings] == list(range(1, 301))
        os.close(one.fds[0])

    run(body)


def test_a_worker_that_dies_in_the_middle_is_let_go_of_without_a_leak() -> None:
    async def body(sidecar: Connection, worker: Connection) -> None:
        claim = held(1)
        worker.send(Hello(worker="w0", pid=1, holding=2), [create_stats_memfd()])
        worker.send(Holding(held=claim.held), claim.fds)
        worker.close()
        with pytest.raises(HandoffError, match="closed"):
            await receive_introduction(sidecar)

    run(body)


def test_a_worker_that_says_something_else_first_is_disconnected() -> None:
    async def body(sidecar: Connection, worker: Connection) -> None:
        worker.send(Bye())
        with pytest.raises(HandoffError, match="begins with 'hello'"):
            await receive_introduction(sidecar)
        assert sidecar.closed

    run(body)


def test_a_worker_that_owes_a_holding_is_disconnected() -> None:
    async def body(sidecar: Connection, worker: Connection) -> None:
        worker.send(Hello(worker="w0", pid=1, holding=1), [create_stats_memfd()])
        worker.send(Bye())
        with pytest.raises(HandoffError, match="'holding' was announced, but 'bye'"):
            await receive_introduction(sidecar)
        assert sidecar.closed

    run(body)


def test_a_worker_that_says_nothing_is_not_waited_for() -> None:
    async def body(sidecar: Connection, worker: Connection) -> None:
        with pytest.raises(HandoffError, match=r"within 0\.01 s"):
            await receive_introduction(sidecar, timeout_s=0.01)
        assert sidecar.closed
        assert not worker.closed

    run(body)


def test_a_hello_that_does_not_fit_what_comes_along_is_not_sent() -> None:
    async def body(_: Connection, worker: Connection) -> None:
        with pytest.raises(HandoffError, match="announces 2"):
            await introduce(
                worker, Hello(worker="w0", pid=1, holding=2), fds=[create_stats_memfd()], holdings=[held(1)]
            )

    run(body)


def test_a_sidecar_that_is_gone_costs_the_worker_no_descriptor() -> None:
    async def body(sidecar: Connection, worker: Connection) -> None:
        sidecar.close()
        hello = Hello(worker="w0", pid=1, holding=2)
        with pytest.raises(HandoffError):
            await introduce(worker, hello, fds=[create_stats_memfd()], holdings=[held(1), held(2)])

    run(body)


def test_a_claim_about_an_arena_that_is_another_size_is_not_adopted() -> None:
    async def body(sidecar: Connection, worker: Connection) -> None:
        claim = held(1)
        grown = PartRef(name="timbre", digest=claim.held.parts[0].digest, size_bytes=claim.held.parts[0].size_bytes + 1)
        lie = HeldRevision(revision_ref(parts=(grown,)), claim.fds)
        await introduce(worker, Hello(worker="w0", pid=1, holding=1), fds=[create_stats_memfd()], holdings=[lie])
        memory = HostMemory(1 << 20)
        with await receive_introduction(sidecar) as introduction:
            (heard,) = introduction.holdings
            with pytest.raises(ArenaCorrupt, match="the journal says"):
                memory.adopt(heard.fds, part=heard.held.parts[0], owner="rev")
        memory.close()

    run(body)
