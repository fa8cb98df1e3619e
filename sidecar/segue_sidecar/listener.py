"""Listening for HTTP: uvicorn's protocol on our own sockets.

Separate because `uvicorn.Server` installs signal handlers and serves one socket, and because half a request must not
hold a connection for ever: whatever a peer begins (a handshake, a head, a body) it has to finish in time, and a head
has a greatest size. A request that comes in behind another one on the same connection tells it to hurry.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import Any

import uvicorn
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from segue_sidecar.config import Address
from segue_sidecar.hurry import STATE_KEY, Hurry

MAX_HEAD_BYTES = 32 * 1024
_KEEP_ALIVE_S = 75
_DRAIN_LOOKS_S = 0.02


class _PunctualProtocol(HttpToolsProtocol):
    """Closes a connection whose request is not whole in time, or whose head is too large."""

    request_s = 10.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._in_body = False
        self._refused = False

    @override
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_rest()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._rest_is_there()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        if not self._in_body:
            self._head_bytes += len(data)
            if self._deadline is None:
                self._await_rest()
        super().data_received(data)
        if not self._in_body and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse()

    @override
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"][STATE_KEY] = Hurry()

    @override
    def on_headers_complete(self) -> None:
        self._in_body = True
        before: Any = self.cycle  # None before the first request
        if before is not None and not before.response_complete:
            before.scope["state"][STATE_KEY].ask()
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES:
            self._refuse()
        else:
            super().on_headers_complete()

    @override
    def on_body(self, body: bytes) -> None:
        if not self._refused:
            super().on_body(body)

    @override
    def on_message_complete(self) -> None:
        self._rest_is_there()
        self._in_body, self._head_bytes = False, 0
        if not self._refused:
            super().on_message_complete()

    def _refuse(self) -> None:
        self._refused = True
        self.transport.close()

    def _await_rest(self) -> None:
        self._deadline = asyncio.get_running_loop().call_later(self.request_s, self._give_up)

    def _rest_is_there(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        self.transport.close()


class HttpListener:
    """One ASGI application on one address."""

    def __init__(self, app: Any, *, tls: ssl.SSLContext | None = None, request_s: float) -> None:
        self._config = uvicorn.Config(
            app,
            loop="asyncio",
            http=HttpToolsProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
        )
        self._tls = tls
        self._request_s = request_s
        self._state = ServerState()
        self._server: asyncio.Server | None = None

    async def open(self, address: Address) -> tuple[str, int]:
        """Bind and listen; returns host and port, the port that was free where 0 was asked for.

        Raises
        ------
        OSError
            The address is taken or not ours.
        """
        self._config.load()
        punctual = type("PunctualProtocol", (_PunctualProtocol,), {"request_s": self._request_s})

        def protocol() -> asyncio.Protocol:
            made: asyncio.Protocol = punctual(config=self._config, server_state=self._state, app_state={})
            return made

        self._server = await asyncio.get_running_loop().create_server(
            protocol,
            address.host,
            address.port,
            ssl=self._tls,
            ssl_handshake_timeout=self._request_s if self._tls else None,
            ssl_shutdown_timeout=1.0 if self._tls else None,
            reuse_address=True,
        )
        sock = self._server.sockets[0]
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        host, port = sock.getsockname()[:2]
        return str(host), int(port)

    async def close(self, *, deadline_s: float) -> None:
        """Stop listening, let answers that are under way end, then disconnect everybody."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                while self._state.connections or self._state.tasks:  # noqa: ASYNC110 - uvicorn tells nobody
                    await asyncio.sleep(_DRAIN_LOOKS_S)
        for connection in list(self._state.connections):
            connection.transport.abort()
        for task in list(self._state.tasks):
            task.cancel()
        if self._state.tasks:
            await asyncio.wait(list(self._state.tasks))
        self._server = None
