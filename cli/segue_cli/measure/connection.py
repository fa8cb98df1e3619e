"""A very small HTTP/1.1 client connection for speech requests.

Separate from httpx because a load generator shares two cores with what it measures: a full client takes over a
millisecond of CPU a request, this a small fraction. It speaks plain HTTP to a host and port, keeps the connection,
times the first byte of the body, and notices an answer that was cut.
"""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field

import httptools
from typing_extensions import override

KEPT_HEADERS = {
    b"segue-revision": "revision",
    b"segue-shielded": "shielded",
    b"segue-cache": "cache",
    b"retry-after": "retry_after",
    b"content-type": "content_type",
}


@dataclass(slots=True)
class Answer:
    """One response, filled while it arrives."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    first_ns: int = 0
    end_ns: int = 0
    chunks: list[bytes] = field(default_factory=list)
    error: str = ""

    @property
    def body(self) -> bytes:
        """All bytes of the body."""
        return b"".join(self.chunks)


def encode_post(*, path: str, host: str, headers: Mapping[str, str], body: Mapping[str, object]) -> bytes:
    """The bytes of one POST request with a JSON body."""
    content = json.dumps(body).encode()
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {host}",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


class SpeechConnection(asyncio.Protocol):
    """One keep-alive connection with at most one request on it.

    Attributes
    ----------
    exchanges
        How many requests were sent on it.
    """

    def __init__(self) -> None:
        self.exchanges = 0
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._answer = Answer()
        self._waiter: asyncio.Future[Answer] | None = None
        self._closing = False

    @classmethod
    async def open(cls, host: str, port: int, *, timeout_s: float) -> SpeechConnection:
        """Connect; raises `OSError` or `TimeoutError`."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout_s):
            _, connection = await loop.create_connection(cls, host, port)
        return connection

    @property
    def usable(self) -> bool:
        """Whether another request may be sent on it."""
        return self._transport is not None and not self._closing

    async def exchange(self, request: bytes, *, timeout_s: float) -> Answer:
        """Send one request and wait for the whole answer. Never raises for what the peer does: see `Answer.error`."""
        if self._transport is None:
            return Answer(error="not connected", end_ns=time.monotonic_ns())
        self._answer = answer = Answer()
        self._parser = httptools.HttpResponseParser(self)
        self._waiter = asyncio.get_running_loop().create_future()
        self.exchanges += 1
        self._transport.write(request)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._waiter
        except TimeoutError:
            answer.error = "timed out"
            answer.end_ns = time.monotonic_ns()
            self.close()
            return answer
        finally:
            self._waiter = None

    def close(self) -> None:
        """Drop the connection, whatever is on it."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.Protocol -------------------------------------------------------------------------------------------

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    @override
    def data_received(self, data: bytes) -> None:
        if self._parser is None or self._waiter is None:
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._finish(f"malformed answer: {error}")
            self.close()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._closing = True
        self._finish("cut" if self._answer.status else "connection lost")

    # --- httptools callbacks ----------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the few headers that are looked at."""
        lowered = name.lower()
        kept = KEPT_HEADERS.get(lowered)
        if kept is not None:
            self._answer.headers[kept] = value.decode("latin-1")
        elif lowered == b"connection" and value.lower() == b"close":
            self._closing = True

    def on_headers_complete(self) -> None:
        """The status is known."""
        assert self._parser is not None
        self._answer.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if not self._answer.first_ns:
            self._answer.first_ns = time.monotonic_ns()
        self._answer.chunks.append(body)

    def on_message_complete(self) -> None:
        """The last byte was read."""
        self._finish("")

    def _finish(self, error: str) -> None:
        if self._waiter is None or self._waiter.done():
            return
        self._answer.error = error
        self._answer.end_ns = time.monotonic_ns()
        self._waiter.set_result(self._answer)


def audio_of_events(body: bytes) -> tuple[bytes, bool]:
    """Decode server-sent speech events.

    Returns
    -------
    tuple of bytes and bool
        The audio, and whether the `speech.audio.done` event was there.
    """
    pieces: list[bytes] = []
    done = False
    for line in body.splitlines():
        if not line.startswith(b"data:"):
            continue
        content = line[5:].strip()
        if content == b"[DONE]":
            continue
        event = json.loads(content)
        match event.get("type"):
            case "speech.audio.delta":
                pieces.append(b64decode(event.get("audio") or event.get("delta") or ""))
            case "speech.audio.done":
                done = True
            case _:
                pass
    return b"".join(pieces), done
