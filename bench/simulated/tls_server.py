"""HTTP/1.1 over TLS for thousands of connections in one process: what the simulated sidecars answer on.

Separate from the sidecars themselves, and not made of uvicorn: here one process stands for five thousand pods, and
asyncio's own TLS alone would take 300 KiB for each connection. What goes over the wire is the same.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar
from urllib.parse import parse_qs

import httptools

_CHUNK_BYTES = 64 * 1024
_BACKLOG = 8192
_Done = TypeVar("_Done")


@dataclass(frozen=True, slots=True)
class Call:
    """One request.

    Attributes
    ----------
    headers
        Names in lower case.
    address
        The local one, which tells the pods apart.
    more
        Makes a future that is done once another request comes in behind this one.
    """

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    address: str
    more: Callable[[], asyncio.Future[None]]


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer; `then` is called once it was written."""

    status: int
    content: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    then: Callable[[], None] | None = None


Handler = Callable[[Call], Awaitable[Reply]]


class TlsServer:
    """One port, all addresses of the loopback."""

    def __init__(self, context: ssl.SSLContext, handler: Handler) -> None:
        self._context, self._handler = context, handler
        self._listening = socket.socket()
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.handshakes = 0

    def open(self) -> int:
        """Listen on a free port of 0.0.0.0, since the pods' addresses are all of 127.0.0.0/8; returns the port."""
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listening.bind(("0.0.0.0", 0))
        self._listening.listen(_BACKLOG)
        self._listening.setblocking(False)
        asyncio.get_running_loop().add_reader(self._listening.fileno(), self._accept)
        return int(self._listening.getsockname()[1])

    def close(self) -> None:
        """Stop accepting; connections end with the process."""
        asyncio.get_running_loop().remove_reader(self._listening.fileno())
        self._listening.close()

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            for _ in range(64):
                sock, _ = self._listening.accept()
                task = asyncio.get_running_loop().create_task(self._serve(sock))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _serve(self, plain: socket.socket) -> None:
        plain.setblocking(False)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock = self._context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        self.connections += 1
        try:
            async with asyncio.timeout(10):
                await _until(sock, sock.do_handshake)
            self.handshakes += 1
            await _Conversation(sock, self._handler).run()
        except (OSError, TimeoutError):
            pass
        finally:
            self.connections -= 1
            sock.close()


async def _until(sock: ssl.SSLSocket, act: Callable[[], _Done]) -> _Done:
    """Do it as soon as the socket lets it; what it returns."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            return act()
        except ssl.SSLWantReadError:
            await _ready(loop.add_reader, loop.remove_reader, sock.fileno())
        except ssl.SSLWantWriteError:
            await _ready(loop.add_writer, loop.remove_writer, sock.fileno())


async def _ready(add: Callable[..., None], remove: Callable[[int], object], fd: int) -> None:
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    add(fd, resolve, ready)
    try:
        await ready
    finally:
        remove(fd)


def resolve(future: asyncio.Future[None]) -> None:
    """Whoever waits goes on; once is enough."""
    if not future.done():
        future.set_result(None)


class _Conversation:
    """One connection: a request, its answer, the next.

    The socket is watched from its first byte to its last, and read as soon as there is something: thousands of pods in
    one process cannot afford to register it anew for every request.
    """

    __slots__ = ("_address", "_body", "_calls", "_ended", "_handler", "_headers", "_news", "_parser", "_sock", "_url")

    def __init__(self, sock: ssl.SSLSocket, handler: Handler) -> None:
        self._sock, self._handler = sock, handler
        self._address = str(sock.getsockname()[0])
        self._parser = httptools.HttpRequestParser(self)
        self._calls: deque[Call] = deque()
        self._news: asyncio.Future[None] | None = None
        self._ended = False
        self._begin()

    async def run(self) -> None:
        """Until the peer hangs up."""
        loop, fd = asyncio.get_running_loop(), self._sock.fileno()
        loop.add_reader(fd, self._on_readable)
        try:
            self._on_readable()  # what came with the end of the handshake is in OpenSSL already
            while (call := await self._next()) is not None:
                await self._answer(await self._handler(call))
        finally:
            loop.remove_reader(fd)

    async def _next(self) -> Call | None:
        while not self._calls:
            if self._ended:
                return None
            await self._hear()
        return self._calls.popleft()

    def _hear(self) -> asyncio.Future[None]:
        """Done once another request came in, or none can come any more."""
        self._news = asyncio.get_running_loop().create_future()
        if self._calls or self._ended:
            self._news.set_result(None)
        return self._news

    def _tell(self) -> None:
        if self._news is not None:
            resolve(self._news)

    def _on_readable(self) -> None:
        try:
            while True:
                received = self._sock.recv(_CHUNK_BYTES)
                if not received:
                    break
                self._parser.feed_data(received)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except (OSError, httptools.HttpParserError):
            pass
        self._ended = True
        asyncio.get_running_loop().remove_reader(self._sock.fileno())
        self._tell()

    async def _answer(self, reply: Reply) -> None:
        lines = [f"HTTP/1.1 {reply.status} -", f"content-length: {len(reply.content)}"]
        lines += [f"{name}: {value}" for name, value in reply.headers]
        view = memoryview("\r\n".join((*lines, "", "")).encode("latin-1") + reply.content)
        while view:
            view = view[await _until(self._sock, partial(self._sock.send, view)) :]
        if reply.then is not None:
            reply.then()

    def _begin(self) -> None:
        self._headers: dict[str, str] = {}
        self._url = self._body = b""

    # --- what the parser calls ------------------------------------------------------------------------------------

    def on_url(self, url: bytes) -> None:
        """Some of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        """Some of the body."""
        self._body += body

    def on_message_complete(self) -> None:
        """The request is whole."""
        path, _, query = self._url.decode("latin-1").partition("?")
        method = self._parser.get_method().decode("ascii")
        asked = parse_qs(query) if query else {}
        call = Call(method, path, asked, self._headers, self._body, self._address, self._hear)
        self._calls.append(call)
        self._begin()
        self._tell()
