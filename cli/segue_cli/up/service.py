"""One child process of `segue up`: started, watched, started again, stopped.

Separate from the supervisor, which knows that there are three of them and in which order they stop. Each child lives
in a session of its own (Ctrl-C reaches `up` only, which then stops them in order), gets SIGTERM from the kernel when
`up` dies, and writes to a log file rather than a pipe, so that a dead `up` breaks nobody's logging.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segue_cli.up.backoff import Backoff

PR_SET_PDEATHSIG = 1
READY_POLL_S = 0.05
LOG_LIMIT_BYTES = 32 << 20
TAIL_BYTES = 4096

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True, kw_only=True)
class Service:
    """What to run, and what became of it.

    Attributes
    ----------
    say
        Called with one line for people whenever something happens to the process.
    ready_file
        Written by the process once it really serves; believed only if it names the pid that runs now.
    stop_within_s
        SIGTERM first; SIGKILL after this long.
    keep_fd
        Descriptor that the child inherits (the lock of the state directory).
    """

    name: str
    argv: Sequence[str]
    ready_file: Path
    log_file: Path
    stop_within_s: float
    keep_fd: int
    say: Callable[[str], None]
    environment: dict[str, str] = field(default_factory=dict)
    backoff: Backoff = field(default_factory=Backoff)
    process: asyncio.subprocess.Process | None = None
    starts: int = 0
    changed: Callable[[], None] = lambda: None
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def pid(self) -> int | None:
        """The running process, if there is one."""
        return self.process.pid if self.process is not None and self.process.returncode is None else None

    async def run(self) -> None:
        """Keep the process running until `stop` is set, then end it."""
        while not self.stop.is_set():
            started = time.monotonic()
            process = self.process = await self._start()
            self.changed()
            await self._ended_or_told_to_stop(process)
            self.changed()
            if self.stop.is_set():
                await self._end(process)
                return
            delay = self.backoff.next_delay_s(ran_s=time.monotonic() - started)
            code = process.returncode or 0
            self.say(f"{self.name} {_how_it_ended(code)}; starting it again in {delay:.1f} s{self._last_words(code)}")
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self.stop.wait()

    async def _ended_or_told_to_stop(self, process: asyncio.subprocess.Process) -> None:
        waits = {asyncio.create_task(process.wait()), asyncio.create_task(self.stop.wait())}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _start(self) -> asyncio.subprocess.Process:
        self.starts += 1
        with suppress(FileNotFoundError):
            self.ready_file.unlink()
        rotate(self.log_file)
        parent = os.getpid()
        log = os.open(self.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            return await asyncio.create_subprocess_exec(
                *self.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                start_new_session=True,
                pass_fds=(self.keep_fd,),
                preexec_fn=lambda: _die_with(parent),
            )
        finally:
            os.close(log)

    def ready(self) -> dict[str, Any] | None:
        """What the running process wrote once it served, else None."""
        try:
            found = json.loads(self.ready_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) and found.get("pid") == self.pid else None

    async def wait_ready(self) -> dict[str, Any]:
        """Poll for the ready file of whichever process runs now. Callers bound it with `asyncio.timeout`."""
        while (found := self.ready()) is None:  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(READY_POLL_S)
        return found

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """SIGTERM, then SIGKILL after `stop_within_s`."""
        if process.returncode is not None:
            return
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(self.stop_within_s):
                await process.wait()
        except TimeoutError:
            self.say(f"{self.name} did not stop within {self.stop_within_s:.0f} s; killing it")
            self._signal(signal.SIGKILL)
            await process.wait()

    def kill(self) -> None:
        """End the process at once, and do not start it again."""
        self.stop.set()
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _last_words(self, code: int) -> str:
        """The last line of the log where the process ended by itself with an error."""
        if code <= 0:
            return ""
        line = last_line(self.log_file)
        return f"\n    {line}\n    (log: {self.log_file})" if line else ""


def _die_with(parent: int) -> None:
    """In the child before exec: ask for SIGTERM when the parent dies, and end if it already has."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _how_it_ended(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended by itself with exit code {code}"


def rotate(log_file: Path) -> None:
    """Move a log that has grown too long aside; one old one is kept."""
    with suppress(FileNotFoundError):
        if log_file.stat().st_size > LOG_LIMIT_BYTES:
            log_file.replace(log_file.with_suffix(".log.1"))


def last_line(log_file: Path) -> str:
    """The last line that is not empty."""
    try:
        with log_file.open("rb") as stream:
            stream.seek(max(0, log_file.stat().st_size - TAIL_BYTES))
            lines = stream.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
