"""Child processes that are stopped when we say so, and killed when we are gone.

A test run can end without a word (SIGKILL, a timeout's `os._exit`). `PR_SET_PDEATHSIG` would not do: it follows the
*thread* that forked, and tests restart the API server from worker threads. So the children share a process group with a
shell that waits for the end of its standard input, which only we hold open, and then kills the group.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

POLL_S = 0.05
_STOP_S = 5.0
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Found = TypeVar("Found")


class ProcessEnded(Exception):
    """A child ended on its own; the message has the end of its log."""


def wait_for(
    probe: Callable[[], Found | None], *, within_s: float, what: str, now: Callable[[], object] = str
) -> Found:
    """Ask until there is an answer.

    Parameters
    ----------
    now
        What is so instead, for the message.

    Raises
    ------
    TimeoutError
        There was none in time.
    """
    deadline = time.monotonic() + within_s
    while (found := probe()) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within_s:g} s: {what} {now()}".rstrip())
        time.sleep(POLL_S)
    return found


def search_path() -> str:
    """PATH with the folders for root's programs, which it lacks on some machines."""
    return f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}"


class Leash:
    """The shell that kills what is left of its process group when we are gone, or close it."""

    def __init__(self) -> None:
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", "read _; kill -KILL 0"], stdin=subprocess.PIPE, process_group=0
        )

    @property
    def group(self) -> int:
        """The process group for `Child`."""
        return self._shell.pid

    def close(self) -> None:
        """Kill whoever is left."""
        assert self._shell.stdin is not None
        self._shell.stdin.close()
        self._shell.wait(_STOP_S)


class Child:
    """One process that can be stopped, killed, frozen and started again with the same arguments."""

    def __init__(self, arguments: Sequence[str | Path], *, log: Path, leash: Leash) -> None:
        self._arguments = [str(each) for each in arguments]
        self._log = log
        self._leash = leash
        self._process: subprocess.Popen[bytes] | None = None
        self.name = Path(self._arguments[0]).name

    @property
    def pid(self) -> int:
        """Of the running process."""
        return self._running().pid

    def start(self) -> None:
        """Start it, with its output at the end of its log."""
        if self._process is not None:
            raise RuntimeError(f"{self.name} runs already")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._log.parent,
                env={"PATH": search_path()},
                process_group=self._leash.group,
            )

    def check(self) -> None:
        """Raise `ProcessEnded` if it is gone."""
        code = self._running().poll()
        if code is not None:
            raise ProcessEnded(f"{self.name} ended with code {code}:\n{self.tail()}")

    def stop(self) -> None:
        """End it in good order, or by force where it takes too long; nothing happens if it does not run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash does; nothing happens if it does not run."""
        self._end(signal.SIGKILL)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Connections stay open and nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def tail(self, size_bytes: int = 3000) -> str:
        """The end of its log."""
        if not self._log.exists():
            return ""
        return self._log.read_bytes()[-size_bytes:].decode(errors="replace")

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process
