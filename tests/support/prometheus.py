"""A Prometheus of our own on loopback: real HTTP, answers that a test chooses."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs


def vector(*values: str, **labels: str) -> dict[str, Any]:
    """A successful answer with one series a value; none: an empty result."""
    series = [{"metric": labels, "value": [1_795_341_600.123, value]} for value in values]
    return {"status": "success", "data": {"resultType": "vector", "result": series}}


@dataclass
class Prometheus:
    """Answers every query the same way until told otherwise.

    Attributes
    ----------
    answer
        A dict is sent as JSON, bytes as they are.
    hang
        While it is set, queries get no answer.
    asked
        (query, Authorization header) of every request so far.
    most_at_once
        The most requests that were under way together.
    """

    answer: dict[str, Any] | bytes = field(default_factory=vector)
    status: int = 200
    hang: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)
    under_way: int = 0
    most_at_once: int = 0
    port: int = 0
    delay_s: float = 0.0

    @asynccontextmanager
    async def serving(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
        """Serve on a free port; the base URL."""
        server = await asyncio.start_server(self._connection, "127.0.0.1", self.port, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        connections = self._tasks = set[asyncio.Task[None]]()
        try:
            yield f"{'https' if tls else 'http'}://localhost:{self.port}"
        finally:
            server.close()
            for task in connections:
                task.cancel()
            await asyncio.gather(*connections, return_exceptions=True)
            await server.wait_closed()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.under_way += 1
                self.most_at_once = max(self.most_at_once, self.under_way)
                try:
                    await self._answer(head, reader, writer)
                finally:
                    self.under_way -= 1
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        form = parse_qs((await reader.readexactly(int(headers["content-length"]))).decode())
        assert first == "POST /api/v1/query HTTP/1.1", first
        self.asked.append((form["query"][0], headers.get("authorization", "")))
        await asyncio.sleep(self.delay_s)
        if self.hang:
            await asyncio.Event().wait()
        body = self.answer if isinstance(self.answer, bytes) else json.dumps(self.answer).encode()
        writer.write(f"HTTP/1.1 {self.status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
