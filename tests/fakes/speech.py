"""A speech server of one file that measurements are tested against: it can cut, stall and refuse on demand."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np

RATE_HZ = 24_000


def tone(text: str, *, revision: str) -> bytes:
    """Half a second of s16le that depends on the text and the revision."""
    frequency_hz = 200 + len(text) * 10 + (50 if revision.startswith("b") else 0)
    time_s = np.arange(RATE_HZ // 2) / RATE_HZ
    return (np.sin(2 * np.pi * frequency_hz * time_s) * 8000).astype("<i2").tobytes()


@dataclass
class FakeSpeech:
    """What the server does next; tests change it while it runs."""

    revision: str = "a" * 64
    refuse_texts: set[str] = field(default_factory=set)
    cut_texts: set[str] = field(default_factory=set)
    stall_texts: set[str] = field(default_factory=set)
    served: int = 0
    sessions: set[str] = field(default_factory=set)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Serve on a free port of the loopback; yields the port."""
        server = await asyncio.start_server(self._converse, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            await server.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        request = json.loads(await reader.readexactly(int(headers["content-length"])))
        self.served += 1
        self.sessions.add(headers.get("segue-session", ""))
        text, revision = request["input"], self.revision
        if text in self.stall_texts:
            await asyncio.sleep(60)
        if text in self.refuse_texts:
            writer.write(b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")
            return True
        audio = tone(text, revision=revision)
        pieces = [audio[:6000], audio[6000:]]
        if request.get("stream_format") == "sse":
            pieces = [_event(type="speech.audio.delta", audio=base64.b64encode(p).decode()) for p in pieces]
            pieces.append(_event(type="speech.audio.done"))
        writer.write(f"HTTP/1.1 200 OK\r\nSegue-Revision: {revision}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        for index, piece in enumerate(pieces):
            if text in self.cut_texts and index:
                return False
            writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        return True


def _event(**fields: str) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"
