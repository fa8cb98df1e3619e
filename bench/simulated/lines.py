"""Lines of JSON between the bench and the processes that it measures: a line in, a line out."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Self, TextIO

_LIMIT_BYTES = 256 << 20
"""The description of 5,000 pods is one line."""


async def read_lines(stream: TextIO) -> AsyncIterator[str]:
    """The lines of a pipe, until it ends."""
    reader = asyncio.StreamReader(limit=_LIMIT_BYTES)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), stream)
    try:
        while line := await reader.readline():
            yield line.decode()
    finally:
        transport.close()


class Process:
    """A process of the bench's own, asked and answering in lines; use it as an async context manager."""

    def __init__(self, module: str, *, log: Path) -> None:
        self._module, self._log = module, log
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                self._module,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                limit=_LIMIT_BYTES,
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        process = self._running()
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(20):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._running().pid

    async def ask(self, question: Any, *, within_s: float = 120.0) -> dict[str, Any]:
        """Say one line, hear one."""
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(question).encode() + b"\n")
        async with asyncio.timeout(within_s):
            await process.stdin.drain()
            line = await process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._module} ended: {tail(self._log)}")
        found: dict[str, Any] = json.loads(line)
        return found

    def _running(self) -> asyncio.subprocess.Process:
        assert self._process is not None, "use it as an async context manager"
        return self._process


def tail(log: Path, *, characters: int = 2000) -> str:
    """The end of a log."""
    return log.read_text(encoding="utf-8", errors="replace")[-characters:]


def said(sequence: Sequence[Sequence[Any]]) -> str:
    """Rows for the log."""
    return "; ".join(" ".join(str(part) for part in row) for row in sequence)
