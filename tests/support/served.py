"""A real server (supervisor and workers, as processes) beside a sidecar of the test's, for integration tests."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from tests.support.mini_sidecar import MiniSidecar
from tests.support.tone_engine import tone_part

from segue.engine import PreparedPart
from segue.memory.messages import VoiceName

ROOT = Path(__file__).parents[2]
HZ = 440.0
START_S = 40.0


@dataclass
class Served:
    """What is running."""

    process: asyncio.subprocess.Process
    sidecar: MiniSidecar
    client: httpx.AsyncClient
    status: httpx.AsyncClient
    ready: Mapping[str, Any]
    voice: VoiceName
    handle: int
    directory: Path

    @property
    def port(self) -> int:
        """Of the speech API."""
        return int(str(self.ready["listen"]).rpartition(":")[2])

    async def stats(self) -> dict[str, Any]:
        """`/stats`."""
        document: dict[str, Any] = (await self.status.get("/stats")).json()
        return document

    async def revision_stats(self, handle: int) -> dict[str, Any]:
        """The line of one revision in `/stats`."""
        digest = self.sidecar.revision(handle)
        lines = [line for line in (await self.stats())["revisions"] if line["revision"] == digest]
        assert len(lines) == 1, lines
        line: dict[str, Any] = lines[0]
        return line

    async def until_stats(self, handle: int, **expected: int) -> dict[str, Any]:
        """Wait until the revision's line says so; a failure shows what it says."""
        line: dict[str, Any] = {}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                while True:
                    line = await self.revision_stats(handle)
                    if all(line[key] == value for key, value in expected.items()):
                        return line
                    await asyncio.sleep(0.02)
        raise AssertionError(f"expected {expected}, found {line}")

    async def until(self, condition: Callable[[], Awaitable[bool]], *, timeout_s: float = 20.0) -> None:
        """Ask until it is so."""
        async with asyncio.timeout(timeout_s):
            while True:
                if await condition():
                    return
                await asyncio.sleep(0.02)

    async def speak(self, text: str, **fields: Any) -> httpx.Response:
        """Plain speech, raw samples unless said otherwise."""
        headers = fields.pop("headers", {})
        body = {"model": "tts-1", "voice": "narrator", "response_format": "pcm", "input": text, **fields}
        return await self.client.post("/v1/audio/speech", json=body, headers=headers)

    async def stop(self, *, within_s: float = 20.0) -> int:
        """SIGTERM, and the exit status."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(within_s):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def serving(
    directory: Path,
    *,
    part: PreparedPart | None = None,
    engine: str = "tone",
    parts: Mapping[str, PreparedPart] | None = None,
    **settings: Any,
) -> AsyncIterator[Served]:
    """A server with one voice, `default/narrator`, that speaks at 440 Hz; `engine` and `parts` make it another."""
    sidecar = MiniSidecar(directory, engine=engine)
    served: Served | None = None
    sidecar.start()
    voice = sidecar.voice("narrator")
    config = {
        "listen": "127.0.0.1:0",
        "statusListen": "127.0.0.1:0",
        "socketDir": str(directory),
        "readyFile": str(directory / "ready.json"),
        "engines": {"tone": "tests.support.tone_engine:ToneEngine"},
        "workers": 1,
        "drainSeconds": 5,
        **settings,
    }
    (directory / "server.json").write_text(json.dumps(config))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "segue_server", "--config", str(directory / "server.json"), "--log-format", "text"),
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        ready = await _until_ready(directory / "ready.json", process)
        await sidecar.until_joined(int(config["workers"]))
        handle = await sidecar.offer(voice, parts or {"tone": part or tone_part(HZ)})
        sidecar.point(voice, handle)
        async with (
            httpx.AsyncClient(base_url=ready["listen"], timeout=30, limits=httpx.Limits(max_connections=200)) as client,
            httpx.AsyncClient(base_url=ready["statusListen"], timeout=30) as status,
        ):
            served = Served(process, sidecar, client, status, ready, voice, handle, directory)
            await _until_serving(served)
            yield served
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(15):
                    await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
        await sidecar.close()
        if served is not None:
            await served.sidecar.close()  # the one that a test put in its place


async def _until_ready(path: Path, process: asyncio.subprocess.Process) -> dict[str, Any]:
    async with asyncio.timeout(START_S):
        while True:
            assert process.returncode is None, "the server ended while it started"
            if os.access(path, os.R_OK):
                document: dict[str, Any] = json.loads(await asyncio.to_thread(path.read_text))
                return document
            await asyncio.sleep(0.02)


async def _until_serving(served: Served) -> None:
    async with asyncio.timeout(START_S):
        while True:
            if (await served.status.get("/readyz")).status_code == 200:
                return
            await asyncio.sleep(0.02)
