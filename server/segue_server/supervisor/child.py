"""One worker process as its supervisor holds it.

Separate from the place that it fills: a place is filled many times, and for a while twice, when a worker is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from segue.errors import ArenaCorrupt
from segue.memory.stats import create_stats_memfd
from segue.memory.stats_layout import ROWS
from segue.memory.stats_reader import StatsReader
from segue_server.channel import BadReport, Report
from segue_server.supervisor.ledger import Ledger

MAX_NAMES = 2 * ROWS

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """How workers are started."""

    config_path: Path
    listen_fd: int
    threads: int
    log_format: str


class Child:
    """A worker process, its channel and its stats page."""

    def __init__(self, name: str, generation: int, *, changed: Callable[[], None]) -> None:
        """To fill the place `name`; `changed` is called with each report."""
        self.name = name
        self.generation = generation
        self.report = Report()
        self.names: dict[int, tuple[str, str]] = {}
        self.ledger = Ledger()
        self.started_s = time.monotonic()
        self._changed = changed
        self._process: asyncio.subprocess.Process | None = None
        self._stats_fd = create_stats_memfd()
        self._reader: StatsReader | None = None
        self._listener: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

    @property
    def pid(self) -> int:
        """0 before it was started."""
        return self._process.pid if self._process is not None else 0

    @property
    def stats(self) -> StatsReader | None:
        """Its numbers; None while it has not begun to count."""
        if self._reader is None:
            with contextlib.suppress(ArenaCorrupt):
                self._reader = StatsReader(self._stats_fd)
        return self._reader

    @property
    def ready(self) -> bool:
        """Whether it should get traffic."""
        return self.report.listening and not self.report.unready

    async def start(self, orders: Orders) -> None:
        """Start a fresh interpreter that inherits socket, page and channel, and nothing else."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "segue_server.worker", "--config", str(orders.config_path), "--name", self.name),
                *("--generation", str(self.generation), "--listen-fd", str(orders.listen_fd)),
                *("--stats-fd", str(self._stats_fd), "--channel-fd", str(theirs.fileno())),
                *("--threads", str(orders.threads), "--log-format", orders.log_format),
                pass_fds=(orders.listen_fd, self._stats_fd, theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        reader, self._writer = await asyncio.open_unix_connection(sock=ours)
        self._listener = asyncio.create_task(self._listen(reader))

    async def wait(self) -> int:
        """Until it is gone; returns its exit status (negative: the signal that killed it)."""
        if self._process is None:
            raise RuntimeError("the worker was never started")
        status = await self._process.wait()
        if self._listener is not None:
            await asyncio.wait((self._listener,), timeout=1.0)
        return status

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it still lives."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def end(self, number: signal.Signals, *, within_s: float) -> None:
        """Ask it to leave, and make it leave when it does not within `within_s`."""
        self.send(number)
        try:
            async with asyncio.timeout(within_s):
                await self.wait()
        except TimeoutError:
            log.error("worker %s (pid %d) did not end within %g s: killed", self.name, self.pid, within_s)
            self.send(signal.SIGKILL)
            await self.wait()

    def close(self) -> None:
        """Let its descriptors go, once its numbers are taken over. Idempotent."""
        if self._listener is not None:
            self._listener.cancel()
        if self._writer is not None:
            self._writer.close()
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._stats_fd >= 0:
            os.close(self._stats_fd)
            self._stats_fd = -1

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            try:
                self.report = Report.decode(line)
            except BadReport as error:
                log.error("worker %s (pid %d): %s", self.name, self.pid, error)
                continue
            self._remember(self.report.names)
            self._changed()

    def _remember(self, names: Mapping[int, tuple[str, str]]) -> None:
        """Which handle is which revision; the oldest are forgotten long after their rows are gone."""
        self.names |= names
        while len(self.names) > MAX_NAMES:
            del self.names[next(iter(self.names))]
