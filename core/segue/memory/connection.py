"""One end of a hand-off connection: messages and descriptors over SOCK_SEQPACKET, on an asyncio loop.

SOCK_SEQPACKET keeps message boundaries and passes descriptors; asyncio knows neither, so this speaks to the socket by
`add_reader`. Nothing here ever blocks the loop, and every descriptor has one owner at any time:

- `Connection.send` takes descriptors over, whatever becomes of the message;
- a `Received` closes at the end of its `with` block what was not taken out of it.

A peer that breaks the protocol (a message that is truncated, empty, too long or meaningless, or the wrong number of
descriptors) is disconnected. So is one that does not read while 64 messages wait for it.
"""

from __future__ import annotations

import array
import asyncio
import logging
import socket
import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from segue.errors import HandoffError
from segue.memory import memfd
from segue.memory.messages import MAX_FDS, Message, decode, encode, expected_fds

RECEIVE_BYTES = 256 * 1024
"""Larger than any message allowed, so that one too long is seen as such."""

MAX_QUEUED = 64

_ANCILLARY_BYTES = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)
_CREDENTIALS = struct.Struct("3i")

log = logging.getLogger(__name__)


class ConnectionLost(HandoffError):
    """The peer is gone, or was disconnected. Whatever was mapped stays mapped."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end, as the kernel says (SO_PEERCRED). `pid` is 0 across pid namespaces."""

    pid: int
    uid: int
    gid: int


@dataclass(slots=True)
class Received:
    """A message and the descriptors that came with it. Use as a context manager: what is not taken is closed."""

    message: Message
    fds: list[int] = field(default_factory=list)

    def take(self) -> list[int]:
        """All descriptors; they are the caller's from now on."""
        fds, self.fds = self.fds, []
        return fds

    def close(self) -> None:
        """Close what was not taken. Idempotent."""
        memfd.close_all(self.take())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Connection:
    """One end of a hand-off connection; the same on both sides. Belongs to one event loop."""

    def __init__(self, sock: socket.socket) -> None:
        """Take over a connected SOCK_SEQPACKET socket. Needs a running loop."""
        sock.setblocking(False)
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[bytes, list[int]]] = deque()
        self._room = asyncio.Event()
        self._room.set()
        self._waiter: asyncio.Future[None] | None = None
        self.peer = peer_of(sock)

    @property
    def closed(self) -> bool:
        """Whether this end was closed, by us or because the peer is gone."""
        return self._sock.fileno() < 0

    @property
    def queued(self) -> int:
        """Messages that wait for the peer to read."""
        return len(self._queue)

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send, or queue; never blocks.

        Takes `fds` over: they are closed once they are on their way, and also when this raises.

        Raises
        ------
        HandoffError
            The message is too long, or has the wrong number of descriptors. Nothing was sent.
        ConnectionLost
            The peer is gone, or 64 messages wait for it already: disconnected.
        """
        owned = list(fds)
        try:
            data = encode(message)
            if len(owned) != expected_fds(message):
                raise HandoffError(f"{message.kind!r} needs {expected_fds(message)} descriptors, not {len(owned)}")
            if self.closed:
                raise ConnectionLost("the hand-off connection is closed")
            if len(self._queue) >= MAX_QUEUED:
                self.close()
                raise ConnectionLost(f"the peer (pid {self.peer.pid}) left {MAX_QUEUED} messages unread: disconnected")
        except HandoffError:
            memfd.close_all(owned)
            raise
        self._queue.append((data, owned))
        self._room.clear()
        if len(self._queue) == 1:
            self._pump()
        if self.closed:
            raise ConnectionLost(f"the peer (pid {self.peer.pid}) is gone")

    async def flush(self, *, timeout_s: float) -> None:
        """Wait until the peer's socket took everything: call it between the many messages of a joining worker.

        Raises
        ------
        ConnectionLost
            The peer is gone, or did not read for `timeout_s`: disconnected.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._room.wait()
        except TimeoutError:
            self.close()
            raise ConnectionLost(
                f"the peer (pid {self.peer.pid}) read nothing for {timeout_s} s: disconnected"
            ) from None
        if self.closed:
            raise ConnectionLost("the hand-off connection is closed")

    async def receive(self) -> Received:
        """The next message. One caller at a time; may be cancelled without losing anything.

        Raises
        ------
        ConnectionLost
            The peer is gone.
        HandoffError
            The peer broke the protocol: disconnected.
        """
        while True:
            if self.closed:
                raise ConnectionLost("the hand-off connection is closed")
            try:
                return self._receive_now()
            except BlockingIOError:
                await self._readable()
            except HandoffError:
                self.close()
                raise

    def close(self) -> None:
        """Disconnect; queued messages and their descriptors are dropped. Idempotent."""
        if self.closed:
            return
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        while self._queue:
            memfd.close_all(self._queue.popleft()[1])
        self._room.set()
        if self._waiter is not None:
            wake(self._waiter)

    def _receive_now(self) -> Received:
        try:
            data, ancillary, flags, _ = self._sock.recvmsg(RECEIVE_BYTES, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            raise
        except OSError as error:
            raise ConnectionLost(f"the peer (pid {self.peer.pid}) is gone: {error.strerror}") from error
        fds = _descriptors_in(ancillary)
        try:
            return Received(_checked_message(data, fds=fds, flags=flags), fds)
        except BaseException:
            memfd.close_all(fds)
            raise

    async def _readable(self) -> None:
        if self._waiter is not None:
            raise RuntimeError("two tasks receive from one hand-off connection")
        self._waiter = self._loop.create_future()
        try:
            await until_readable(self._sock, self._waiter)
        finally:
            self._waiter = None

    def _pump(self) -> None:
        """Send what is queued until the peer's buffer is full; go on when it has room."""
        while self._queue:
            data, fds = self._queue[0]
            try:
                socket.send_fds(self._sock, [data], fds, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                self._loop.add_writer(self._sock, self._pump)
                return
            except OSError as error:
                log.info("hand-off to pid %s failed: %s", self.peer.pid, error.strerror)
                self.close()
                return
            self._queue.popleft()
            memfd.close_all(fds)
        self._loop.remove_writer(self._sock)
        self._room.set()


def peer_of(sock: socket.socket) -> Peer:
    """Who is at the other end of a connected Unix socket."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return Peer(*_CREDENTIALS.unpack(raw))


def _descriptors_in(ancillary: Sequence[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return list(found)


def _checked_message(data: bytes, *, fds: Sequence[int], flags: int) -> Message:
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        raise HandoffError(f"a message was cut short (flags {flags:#x}): too long, or too many descriptors")
    if not data and not fds:
        raise ConnectionLost("the peer closed the connection")
    message = decode(data)
    if len(fds) != expected_fds(message):
        raise HandoffError(f"{message.kind!r} came with {len(fds)} descriptors instead of {expected_fds(message)}")
    return message


async def until_readable(sock: socket.socket, waiter: asyncio.Future[None]) -> None:
    """Wait for `sock`; unlike asyncio's own calls this takes nothing out of it, so that cancelling loses nothing."""
    loop = asyncio.get_running_loop()
    loop.add_reader(sock, wake, waiter)
    try:
        await waiter
    finally:
        if sock.fileno() >= 0:
            loop.remove_reader(sock)


def wake(waiter: asyncio.Future[None]) -> None:
    """Let a waiter go on, unless it does already."""
    if not waiter.done():
        waiter.set_result(None)
