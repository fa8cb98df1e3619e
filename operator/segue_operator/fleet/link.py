"""HTTP/1.1 to one sidecar over non-blocking TLS sockets: what thousands of pods are talked to with.

Separate from `segue.control`, whose calls it carries, and not made of httpx or asyncio's own TLS: of those a call costs
several times as much as the call itself, and an idle connection holds buffers of 59 to 300 KiB. Here OpenSSL reads
from the socket directly, one `epoll` registration lasts as long as the connection, and nothing is buffered while
nothing is said. Only what a sidecar answers is understood: whole bodies, no redirects, no compression.

In a large fleet even OpenSSL's own 34 KiB a connection count. There one connection is to do: a command is written
behind the long-poll that waits on it, which ends the wait (wire version 2).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httptools
import httpx

from segue.control import Answer, Request
from segue.errors import ControlUnreachable
from segue_operator.fleet.lull import Lull

ENDS_WAITS = 2
"""Wire version since which a request behind a long-poll ends its wait."""

MOST_BYTES = 64 << 20
"""A larger answer is none of a sidecar."""

_CHUNK_BYTES = 64 * 1024


class _Cut(Exception):
    """The connection ended; `unused`: before a byte of the answer, so that the call may be made again."""

    def __init__(self, message: str, *, unused: bool) -> None:
        super().__init__(message)
        self.unused = unused


@dataclass(slots=True, eq=False, weakref_slot=True)
class Link:
    """All connections to one pod.

    Attributes
    ----------
    url
        `https://ADDRESS:PORT`, or `http://` without TLS.
    tls
        From `segue.tls.client_context`, one for all pods of a fleet; it checks the name in the certificate.
    kept
        Connections that stay open between calls: two, one of which waits for news, or one for both.
    lull
        When commands are over: whoever waited for news and was cut short by one is told then, and not between two of
        thousands of commands.
    """

    url: str
    tls: ssl.SSLContext | None = None
    kept: int = 2
    lull: Lull = field(default_factory=Lull)
    _wire: int = 0
    _connections: list[_Connection] = field(default_factory=list)
    _closed: bool = False

    async def exchange(self, request: Request) -> Answer:
        """See `segue.control.Line`. A connection that had died unnoticed is replaced once."""
        try:
            while True:
                connection, reused = await self._connection(request)
                try:
                    return await self._on(connection, request)
                except _Cut as cut:
                    if not (reused and cut.unused):
                        raise
        except (OSError, _Cut, TimeoutError, httptools.HttpParserError) as error:
            what = "no answer in time" if isinstance(error, TimeoutError) and not str(error) else str(error)
            path = request.target.partition("?")[0]
            raise ControlUnreachable(f"{self.url}: {request.method} {path}: {type(error).__name__}: {what}") from error

    async def aclose(self) -> None:
        """See `segue.control.Line`. Whoever waits for an answer gets `ControlUnreachable`."""
        self._closed = True
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    def rest(self) -> None:
        """See `segue.control.Line`."""
        self._keep([connection for connection in self._connections if not connection.free])

    def hears(self, wire: int) -> None:
        """See `segue.control.Line`."""
        self._wire = wire

    async def _connection(self, request: Request) -> tuple[_Connection, bool]:
        """One to write the request on, and whether it was used before."""
        while True:
            self._keep([connection for connection in self._connections if connection.usable])
            free = next((connection for connection in self._connections if connection.free), None)
            if free is not None:
                return free, True
            if not self._shares():
                return await self._open(request.timeout_s), False
            if request.extra_s == 0.0:
                waiting = next((connection for connection in self._connections if connection.waits), None)
                return (waiting, True) if waiting is not None else (await self._open(request.timeout_s), False)
            await asyncio.wait([connection.until_free() for connection in self._connections[:1]])

    def _shares(self) -> bool:
        """Whether what is open is to do for one more call."""
        return bool(self._connections) and self.kept == 1 and self._wire >= ENDS_WAITS

    async def _on(self, connection: _Connection, request: Request) -> Answer:
        try:
            async with asyncio.timeout(request.timeout_s + request.extra_s):
                return await connection.exchange(request)
        except BaseException:
            connection.close()
            raise
        finally:
            if connection.free and len(self._connections) > self.kept:
                self._connections.remove(connection)
                connection.close()

    async def _open(self, timeout_s: float) -> _Connection:
        self._require_open()
        parts = urlsplit(self.url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        async with asyncio.timeout(timeout_s):
            tls = self.tls if parts.scheme == "https" else None
            connection = await _connect(host, port, tls, netloc=parts.netloc, lull=self.lull)
        try:
            self._require_open()
        except _Cut:
            connection.close()
            raise
        self._connections.append(connection)
        return connection

    def _require_open(self) -> None:
        if self._closed:
            raise _Cut("this link was closed", unused=False)

    def _keep(self, kept: list[_Connection]) -> None:
        for connection in self._connections:
            if connection not in kept:
                connection.close()
        self._connections = kept


async def _connect(host: str, port: int, tls: ssl.SSLContext | None, *, netloc: str, lull: Lull) -> _Connection:
    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(sock, (host, port))
        if tls is not None:
            sock = tls.wrap_socket(sock, do_handshake_on_connect=False)
            await _shake_hands(sock)
        return _Connection(sock, loop, host=netloc, lull=lull)
    except BaseException:
        sock.close()
        raise


async def _shake_hands(sock: ssl.SSLSocket) -> None:
    """Until both sides are proven; the context's own check of the name is part of it."""
    loop = asyncio.get_running_loop()
    while True:
        ready = loop.create_future()
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            loop.add_reader(sock.fileno(), _resolve, ready)
            try:
                await ready
            finally:
                loop.remove_reader(sock.fileno())
        except ssl.SSLWantWriteError:
            loop.add_writer(sock.fileno(), _resolve, ready)
            try:
                await ready
            finally:
                loop.remove_writer(sock.fileno())
        else:
            return


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class _Pending:
    """A call whose answer has not come yet."""

    __slots__ = ("body", "future", "headers", "is_wait", "received_ns", "size", "status")

    def __init__(self, future: asyncio.Future[None], *, is_wait: bool) -> None:
        self.future, self.is_wait = future, is_wait
        self.headers: dict[str, str] = {}
        self.body: list[bytes] = []
        self.size = self.status = self.received_ns = 0


class _Connection:
    """One socket; answers come in the order of the calls."""

    __slots__ = ("_fd", "_free", "_host", "_loop", "_lull", "_parser", "_pending", "_sock", "_writing", "usable")

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop, *, host: str, lull: Lull) -> None:
        self._sock, self._loop, self._host, self._lull = sock, loop, host, lull
        self._fd = sock.fileno()
        self._parser: Any = httptools.HttpResponseParser(self)
        self._pending: deque[_Pending] = deque()
        self._free: list[asyncio.Future[None]] = []
        self._writing = False
        self.usable = True
        loop.add_reader(self._fd, self._on_readable)

    @property
    def free(self) -> bool:
        """Whether nothing is under way on it."""
        return self.usable and not self._pending

    @property
    def waits(self) -> bool:
        """Whether all that is under way is a long-poll, which a call behind it would end."""
        return self.usable and not self._writing and len(self._pending) == 1 and self._pending[0].is_wait

    def until_free(self) -> asyncio.Future[None]:
        """Done once nothing is under way any more."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._free.append(future)
        return future

    async def exchange(self, request: Request) -> Answer:
        """Write the request, read the answer.

        Raises
        ------
        _Cut, OSError, HttpParserError
            The connection is of no use any more.
        """
        if not self.usable:
            raise _Cut("the connection was closed", unused=True)
        pending = _Pending(self._loop.create_future(), is_wait=request.extra_s > 0.0)
        self._pending.append(pending)
        if request.on_write is not None:
            request.on_write(time.monotonic_ns())
        sent_ns = time.time_ns()
        try:
            await self._write(_head(request, self._host) + (request.content or b""))
        except BaseException:
            pending.future.cancel()
            raise
        await pending.future
        return Answer(
            status=pending.status,
            content=b"".join(pending.body),
            headers=pending.headers,
            sent_ns=sent_ns,
            received_ns=pending.received_ns,
        )

    def close(self, why: str = "the connection was closed") -> None:
        """Close it, with a farewell where that goes without waiting."""
        self._fail(why)
        if self._sock.fileno() < 0:
            return
        if isinstance(self._sock, ssl.SSLSocket):
            with suppress(OSError, ValueError):
                self._sock.unwrap()
        self._sock.close()

    async def _write(self, data: bytes) -> None:
        """Usually one call; a large body may have to wait for the socket."""
        view = memoryview(data)
        self._writing = True
        try:
            while view:
                try:
                    view = view[self._sock.send(view) :]
                except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                    await self._writable()
        except OSError as error:
            raise _Cut(f"could not be written to: {error}", unused=True) from error
        finally:
            self._writing = False

    async def _writable(self) -> None:
        ready = self._loop.create_future()
        self._loop.add_writer(self._fd, _resolve, ready)
        try:
            await ready
        finally:
            if self._sock.fileno() >= 0:
                self._loop.remove_writer(self._fd)

    def _on_readable(self) -> None:
        try:
            while True:
                data = self._sock.recv(_CHUNK_BYTES)
                if not data:
                    self.close("the sidecar closed the connection")
                    return
                self._feed(data)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except (OSError, httptools.HttpParserError) as error:
            self.close(str(error))

    def _feed(self, data: bytes) -> None:
        if not self._pending:
            raise OSError("the sidecar spoke before it was asked")
        self._pending[0].size += len(data)
        if self._pending[0].size > MOST_BYTES:
            raise OSError(f"the answer has more than {MOST_BYTES} bytes")
        self._parser.feed_data(data)

    def _fail(self, message: str) -> None:
        """Nothing more can come. The parser goes: it knows us, and full collections, which would find it, are rare."""
        if self.usable:
            self.usable = False
            self._loop.remove_reader(self._fd)
            self._parser = None
        while self._pending:
            pending = self._pending.popleft()
            if not pending.future.done():
                pending.future.set_exception(_Cut(message, unused=pending.size == 0))
        self._tell_free()

    def _tell_free(self) -> None:
        waiting, self._free = self._free, []
        for future in waiting:
            _resolve(future)

    # --- what the parser calls ------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        if self._pending:
            self._pending[0].headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        """Some of the body."""
        if self._pending:
            self._pending[0].body.append(body)

    def on_message_complete(self) -> None:
        """The answer is whole."""
        if not self._pending:
            return
        pending = self._pending.popleft()
        parser = self._parser
        pending.status, pending.received_ns = parser.get_status_code(), time.time_ns()
        if pending.is_wait and self._pending and pending.status == httpx.codes.NOT_MODIFIED:
            self._lull.call(partial(_resolve, pending.future))
        else:
            _resolve(pending.future)
        if not parser.should_keep_alive():
            self._fail("the sidecar closed the connection")
        elif not self._pending:
            self._tell_free()


def _head(request: Request, host: str) -> bytes:
    """The request line and headers. Values are ours, never a peer's, and none has a line break."""
    lines = [f"{request.method} {request.target} HTTP/1.1", f"host: {host}"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    if request.content is not None or request.method != "GET":
        lines.append(f"content-length: {len(request.content or b'')}")
    return "\r\n".join((*lines, "", "")).encode("latin-1")
