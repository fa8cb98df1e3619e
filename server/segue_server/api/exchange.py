"""One HTTP request on its way: its body in bounds, its answer in order, its connection cut where nothing else helps.

Separate from what is asked and answered, which differs from API to API.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from segue.errors import SegueError
from segue_server.api.errors import ApiError
from segue_server.api.protocol import SCOPE_KEY, BoundedProtocol
from segue_server.api.request_trace import RequestTrace
from segue_server.synthesis.flight import ReaderLeft

MOST_DISCARDED_BYTES = 16 << 20
"""A body that is too large is read up to here and thrown away, so that its sender hears why it is refused."""

Header = tuple[bytes, bytes]

log = logging.getLogger(__name__)


class ClientGone(SegueError):
    """The client left before anything was sent."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and where its answer goes, and its trace where traces are wanted."""

    scope: Scope
    receive: Receive
    send: Send
    request_id: str
    trace: RequestTrace | None = None

    @property
    def headers(self) -> Headers:
        """Of the request."""
        return Headers(scope=self.scope)

    @property
    def pin(self) -> str | None:
        """The resident revision that is asked for."""
        return self.headers.get("segue-pin")

    @property
    def use_cache(self) -> bool:
        """Whether the result cache may answer."""
        return self.headers.get("segue-cache", "").lower() != "no-store"

    @property
    def client(self) -> str | None:
        """The address it came from."""
        client = self.scope.get("client")
        return client[0] if client else None

    @property
    def connection(self) -> BoundedProtocol | None:
        """The connection, where the server is ours."""
        found = self.scope.get(SCOPE_KEY)
        return found if isinstance(found, BoundedProtocol) else None

    async def read_body(self, *, max_bytes: int, timeout_s: float) -> bytes:
        """All of the body.

        Raises
        ------
        ClientGone
            It left meanwhile.
        ApiError
            408: not in time. 413: too large.
        """
        pieces: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    message = await self.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone("the client left while it was sending")
                    piece = message.get("body", b"")
                    size += len(piece)
                    if size <= max_bytes:
                        pieces.append(piece)
                    elif size > MOST_DISCARDED_BYTES:
                        raise _too_large(size, max_bytes)
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            raise ApiError(408, f"the body was not complete after {timeout_s:g} s", code="request_timeout") from None
        if size > max_bytes:
            raise _too_large(size, max_bytes)
        return b"".join(pieces)

    async def begin(self, status: int, headers: list[Header]) -> None:
        """Send status and headers."""
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def send_body(self, body: bytes, *, more: bool, timeout_s: float) -> None:
        """Send, if the client takes it in time; a client that takes nothing is cut off.

        Raises
        ------
        ReaderLeft
            It was cut off.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self.send({"type": "http.response.body", "body": body, "more_body": more})
        except TimeoutError:
            log.info("request %s: the client took nothing for a while, and is cut off", self.request_id)
            if self.connection is not None:
                self.connection.abort()
            raise ReaderLeft("the client takes nothing") from None

    async def send_error(self, error: ApiError, headers: list[Header]) -> None:
        """Answer with an error; nothing was sent before."""
        if self.trace is not None:
            self.trace.failed(str(error), status=error.status)
        body = error.body
        sent = [*headers, *error.headers, (b"content-length", str(len(body)).encode())]
        if error.status in (408, 413):
            sent.append((b"connection", b"close"))  # the rest of the body is not read
        await self.begin(error.status, sent)
        await self.send({"type": "http.response.body", "body": body, "more_body": False})

    def cut(self, error: SegueError) -> None:
        """End the connection in the middle of the answer."""
        if self.trace is not None:
            self.trace.failed(str(error))
        if self.connection is None:
            raise error
        self.connection.cut()


def header_value(text: str) -> bytes:
    """What a client wrote, fit for a header: a line break in a name must not begin a header of its own."""
    return "".join(char if " " <= char <= "~" else "?" for char in text).encode()


def _too_large(size: int, max_bytes: int) -> ApiError:
    return ApiError(413, f"the body has {size} bytes or more; at most {max_bytes} are taken", code="body_too_large")
