"""Who commands: one operator per state directory, with a term that never goes back.

Separate because a fence is a promise to the sidecars: two operators with the same term, or one whose term fell after
a clock was set back, could undo each other's flips. A lock on a file gives one leader; the term is written down before
the first command is sent under it.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from segue.errors import SegueError
from segue.wire import Fence
from segue_operator.files import write_atomically


class NotLeader(SegueError):
    """Another operator holds the lock."""


@dataclass(slots=True)
class Fences:
    """Fences of one leadership: the sequence rises with every command, the term only to overtake an older one."""

    file: Path
    unix_s: Callable[[], float] = time.time
    term: int = 0
    _sequence: int = 0

    def next(self) -> Fence:
        """The fence of the next command."""
        self._sequence += 1
        return Fence(self.term, self._sequence)

    def outrun(self, term: int = 0) -> None:
        """Take a term higher than any known one, and write it down before it is used.

        Called once at the start, and where a sidecar has seen a higher one than ours (a state directory that was put
        back from a copy): the lock says that nobody else can be using that term.
        """
        if self.term > term > 0:
            return
        last = max(term, self.term)
        with suppress(OSError, ValueError, TypeError, KeyError):
            last = max(last, int(json.loads(self.file.read_text(encoding="utf-8"))["term"]))
        chosen = max(last + 1, int(self.unix_s()))
        write_atomically(self.file, json.dumps({"term": chosen}), durable=True)
        self.term = chosen


@dataclass(frozen=True, slots=True)
class Leadership:
    """Held until `release` or the end of the process."""

    lock_fd: int
    fences: Fences

    def release(self) -> None:
        """Let another operator lead."""
        os.close(self.lock_fd)


def take_leadership(directory: Path, *, unix_s: Callable[[], float] = time.time) -> Leadership:
    """Lock the directory and raise the term.

    Raises
    ------
    NotLeader
        Another operator leads; the message names its pid.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = directory / "leader.lock"
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        other = os.pread(fd, 32, 0).decode(errors="replace").strip()
        os.close(fd)
        raise NotLeader(f"another operator (pid {other or 'unknown'}) leads on {directory}; stop it first") from error
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    fences = Fences(directory / "leader.json", unix_s)
    fences.outrun()
    return Leadership(fd, fences)
