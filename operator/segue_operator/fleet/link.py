"""HTTP/1.1 to one sidecar over non-blocking TLS sockets: what thousands of pods are talked to with.

Separate from `segue.control`, whose calls it carries, and not made of httpx or asyncio's own TLS: of those a call costs
several times as much as the call itself, and an idle connection holds buffers of 59 to 300 KiB. Here OpenSSL reads
from the socket directly, one `epoll` registration lasts as long as the connection, and nothing is buffered while
nothing is said. Only what a sidecar answers is understood: whole bodies, no redirects, no compression.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httptools

from segue.control import Answer, Request
from segue.errors import ControlUnreachable

CONNECTIONS_KEPT = 2
"""Of one pod while it is asked often: one waits for news, one carries commands."""

MOST_BYTES = 64 << 20
"""A larger answer is none of a sidecar."""

_CHUNK_BYTES = 64 * 1024


class _Cut(Exception):
    """The connection ended; `unused`: before a byte of the answer, so that the call may be made again."""

    def __init__(self, message: str, *, unused: bool) -> None:
        super().__init__(message)
        self.unused = unused


@dataclass(slots=True)
class Link:
    """All connections to one pod.

    Parameters
    ----------
    url
        `https://ADDRESS:PORT`, or `http://` without TLS.
    tls
        From `segue.tls.client_context`, one for all pods of a fleet; it checks the name in the certificate.
    """

    url: str
    tls: ssl.SSLContext | None = None
    _free: list[_Connection] = field(default_factory=list)
    _busy: set[_Connection] = field(default_factory=set)
    _closed: bool = False

    async def exchange(self, request: Request) -> Answer:
        """See `segue.control.Line`. A connection that had died unnoticed is replaced once."""
        try:
            while True:
                connection = self._take()
                reused = connection is not None
                try:
                    return await self._on(connection or await self._open(request.timeout_s), request)
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
        for connection in [*self._free, *self._busy]:
            connection.close()
        self._free.clear()

    def rest(self) -> None:
        """See `segue.control.Line`."""
        for connection in self._free:
            connection.close()
        self._free.clear()

    def _take(self) -> _Connection | None:
        """A connection that nobody uses; those that the sidecar closed meanwhile are dropped."""
        while self._free:
            connection = self._free.pop()
            if connection.usable:
                return connection
        return None

    async def _on(self, connection: _Connection, request: Request) -> Answer:
        self._busy.add(connection)
        try:
            async with asyncio.timeout(request.timeout_s + request.extra_s):
                answer = await connection.exchange(request)
        except BaseException:
            connection.close()
            raise
        finally:
            self._busy.discard(connection)
        if connection.usable and not self._closed and len(self._free) < CONNECTIONS_KEPT:
            self._free.append(connection)
        else:
            connection.close()
        return answer

    async def _open(self, timeout_s: float) -> _Connection:
        self._require_open()
        parts = urlsplit(self.url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        async with asyncio.timeout(timeout_s):
            connection = await _connect(host, port, self.tls if parts.scheme == "https" else None, parts.netloc)
        try:
            self._require_open()
        except _Cut:
            connection.close()
            raise
        return connection

    def _require_open(self) -> None:
        if self._closed:
            raise _Cut("this link was closed", unused=False)


async def _connect(host: str, port: int, tls: ssl.SSLContext | None, netloc: str) -> _Connection:
    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(sock, (host, port))
        if tls is not None:
            sock = tls.wrap_socket(sock, do_handshake_on_connect=False)
            await _shake_hands(sock)
        return _Connection(sock, loop, netloc)
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


class _Connection:
    """One socket, one call at a time."""

    __slots__ = ("_answer", "_body", "_fd", "_headers", "_host", "_loop", "_parser", "_size", "_sock", "usable")

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop, host: str) -> None:
        self._sock, self._loop, self._host = sock, loop, host
        self._fd = sock.fileno()
        self._answer: asyncio.Future[int] | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._size = 0
        self.usable = True
        loop.add_reader(self._fd, self._on_readable)

    async def exchange(self, request: Request) -> Answer:
        """Write the request, read the answer.

        Raises
        ------
        _Cut, OSError, HttpParserError
            The connection is of no use any more.
        """
        if not self.usable:
            raise _Cut("the connection was closed", unused=True)
        self._answer = self._loop.create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._headers, self._body, self._size = {}, [], 0
        if request.on_write is not None:
            request.on_write(time.monotonic_ns())
        sent_ns = time.time_ns()
        try:
            await self._write(_head(request, self._host) + (request.content or b""))
            received_ns = await self._answer
            status = self._parser.get_status_code()
        finally:
            self._answer = self._parser = None
        return Answer(
            status=status,
            content=b"".join(self._body),
            headers=self._headers,
            sent_ns=sent_ns,
            received_ns=received_ns,
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
        while view:
            try:
                view = view[self._sock.send(view) :]
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                await self._writable()
            except OSError as error:
                raise _Cut(f"could not be written to: {error}", unused=True) from error

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
        if self._parser is None:
            raise OSError("the sidecar spoke before it was asked")
        self._size += len(data)
        if self._size > MOST_BYTES:
            raise OSError(f"the answer has more than {MOST_BYTES} bytes")
        self._parser.feed_data(data)

    def _fail(self, message: str) -> None:
        """Nothing more can come."""
        if self.usable:
            self.usable = False
            self._loop.remove_reader(self._fd)
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(_Cut(message, unused=self._size == 0))

    # --- what the parser calls ------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        """Some of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """The answer is whole."""
        if self._parser is not None and not self._parser.should_keep_alive():
            self.usable = False
            self._loop.remove_reader(self._fd)
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(time.time_ns())


def _head(request: Request, host: str) -> bytes:
    """The request line and headers. Values are ours, never a peer's, and none has a line break."""
    lines = [f"{request.method} {request.target} HTTP/1.1", f"host: {host}"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    if request.content is not None or request.method != "GET":
        lines.append(f"content-length: {len(request.content or b'')}")
    return "\r\n".join((*lines, "", "")).encode("latin-1")
