"""How a worker introduces itself, and how a restarted sidecar gets back what the workers kept alive.

Arenas and the pointer page outlive the sidecar in the workers that map them. So a worker that connects says `Hello`
(with its stats page, and the pointer page if it has one) and then, one message per revision, everything that it still
holds, with the descriptors. The sidecar checks owner, seals, size and hash before it believes any of it
(`WeightMemory.adopt`, `PointerPage.adopt`); what the worker says about a descriptor is a claim, nothing more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from segue.errors import HandoffError
from segue.memory import memfd
from segue.memory.connection import Connection
from segue.memory.messages import Hello, Holding, RevisionRef


@dataclass(slots=True)
class HeldRevision:
    """A revision that a worker gave back: its claim, and the descriptors of its parts, in order."""

    held: RevisionRef
    fds: list[int]


@dataclass(slots=True)
class Introduction:
    """All that a worker said before anything else. Owns the descriptors until they are taken out.

    Attributes
    ----------
    hello
        Who it is.
    stats_fd
        Its stats page; -1 after `take_stats`.
    page_fd
        The pointer page it reads, or -1.
    holdings
        What it still maps.
    """

    hello: Hello
    stats_fd: int = -1
    page_fd: int = -1
    holdings: list[HeldRevision] = field(default_factory=list)

    def take_stats(self) -> int:
        """The stats page's descriptor; the caller's from now on."""
        fd, self.stats_fd = self.stats_fd, -1
        return fd

    def close(self) -> None:
        """Close what was not taken. Idempotent."""
        fds = [fd for fd in (self.stats_fd, self.page_fd) if fd >= 0]
        fds += [fd for holding in self.holdings for fd in holding.fds]
        self.stats_fd = self.page_fd = -1
        self.holdings = []
        memfd.close_all(fds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


async def introduce(
    connection: Connection,
    hello: Hello,
    *,
    fds: Sequence[int],
    holdings: Iterable[HeldRevision] = (),
    timeout_s: float = 10.0,
) -> None:
    """Worker: say hello, then give back what is held. Takes all descriptors over, also when it raises.

    Parameters
    ----------
    hello
        Its `holding` must be the number of `holdings`, its `page_id` say whether a page comes along.
    fds
        The stats page; then the pointer page where there is one.

    Raises
    ------
    ConnectionLost
        The sidecar is gone, or did not read for `timeout_s`.
    HandoffError
        `hello` does not fit what comes with it.
    """
    waiting = list(holdings)
    try:
        if hello.holding != len(waiting):
            memfd.close_all(fds)
            raise HandoffError(f"hello announces {hello.holding} holdings, but there are {len(waiting)}")
        connection.send(hello, fds)
        while waiting:
            await connection.flush(timeout_s=timeout_s)
            holding = waiting.pop(0)
            connection.send(Holding(held=holding.held), holding.fds)
        await connection.flush(timeout_s=timeout_s)
    finally:
        for holding in waiting:
            memfd.close_all(holding.fds)


async def receive_introduction(connection: Connection, *, timeout_s: float = 10.0) -> Introduction:
    """Sidecar: hear a worker out. The connection is closed when it does not keep to the order.

    Raises
    ------
    HandoffError
        It said something else, or not all of it within `timeout_s`.
    """
    introduction: Introduction | None = None
    try:
        async with asyncio.timeout(timeout_s):
            introduction = await _receive_hello(connection)
            for _ in range(introduction.hello.holding):
                introduction.holdings.append(await _receive_holding(connection))
    except BaseException as error:
        connection.close()
        if introduction is not None:
            introduction.close()
        if isinstance(error, TimeoutError):
            raise HandoffError(f"pid {connection.peer.pid} did not introduce itself within {timeout_s} s") from None
        raise
    return introduction


async def _receive_hello(connection: Connection) -> Introduction:
    with await connection.receive() as received:
        if not isinstance(received.message, Hello):
            raise HandoffError(f"a worker begins with 'hello', not with {received.message.kind!r}")
        hello = received.message
        stats_fd, *page_fds = received.take()
        return Introduction(hello, stats_fd, page_fds[0] if page_fds else -1)


async def _receive_holding(connection: Connection) -> HeldRevision:
    with await connection.receive() as received:
        if not isinstance(received.message, Holding):
            raise HandoffError(f"'holding' was announced, but {received.message.kind!r} came")
        return HeldRevision(received.message.held, received.take())
