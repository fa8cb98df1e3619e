"""Who commands: one operator at a time, with a term that never goes back.

Separate because a fence is a promise to the sidecars: two operators with the same term, or one whose term fell after
a clock was set back, could undo each other's flips. Here is what the loop asks for (`Fences`) and the answer of one
machine: a lock on a file gives one leader, and the term is written down before the first command is sent under it. In a
cluster a Lease takes the file's place (`kubernetes/lease.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from segue.errors import SegueError
from segue.wire import Fence
from segue_operator.files import write_atomically


class NotLeader(SegueError):
    """Another operator holds the lock."""


class NotLeading(SegueError):
    """This operator led, and another may lead by now: nothing more may be sent or written."""


class Fences(Protocol):
    """Fences of one leadership: the sequence rises with every command, the term only to overtake an older one."""

    @property
    def term(self) -> int:
        """The term now."""
        ...

    def next(self) -> Fence:
        """The fence of the next command, asked for just before it is sent.

        Raises
        ------
        NotLeading
            Another operator may lead by now.
        """
        ...

    def check(self) -> None:
        """Raise `NotLeading` where another operator may lead by now."""
        ...

    def under_way(self) -> contextlib.AbstractContextManager[None]:
        """Around commands and writes: checks, and lets a leader that hands over wait for what it began."""
        ...

    async def outrun(self, term: int) -> None:
        """Take a term higher than `term`, and write it down before it is used.

        For sidecars that have seen a higher one than ours: a state directory that was put back from a copy, a Lease
        that was deleted by hand. Whoever leads now is still the only one.
        """
        ...


@dataclass(slots=True)
class UnderWay:
    """Counts what was begun and has not ended."""

    _count: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Around one thing."""
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
            self._changed.set()

    async def none(self) -> None:
        """Wait until all has ended."""
        while self._count:
            self._changed.clear()
            await self._changed.wait()


@dataclass(slots=True)
class FileFences:
    """Fences of whoever holds the lock of the directory that `file` is in: nobody can take it from a living process."""

    file: Path
    unix_s: Callable[[], float] = time.time
    term: int = 0
    _sequence: int = 0

    def next(self) -> Fence:
        """See `Fences`."""
        self._sequence += 1
        return Fence(self.term, self._sequence)

    def check(self) -> None:
        """See `Fences`. The lock holds for as long as the process lives."""

    def under_way(self) -> contextlib.AbstractContextManager[None]:
        """See `Fences`. The lock goes with the process, and nothing of it is under way then."""
        return contextlib.nullcontext()

    async def outrun(self, term: int) -> None:
        """See `Fences`."""
        if self.term <= term:
            self.raise_term(above=term)

    def raise_term(self, *, above: int = 0) -> None:
        """Take a term higher than any known one; once at the start, and to outrun."""
        last = max(above, self.term)
        with suppress(OSError, ValueError, TypeError, KeyError):
            last = max(last, int(json.loads(self.file.read_text(encoding="utf-8"))["term"]))
        chosen = max(last + 1, int(self.unix_s()))
        write_atomically(self.file, json.dumps({"term": chosen}), durable=True)
        self.term = chosen


@dataclass(frozen=True, slots=True)
class Leadership:
    """Held until `release` or the end of the process."""

    lock_fd: int
    fences: FileFences

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
    fences = FileFences(directory / "leader.json", unix_s)
    fences.raise_term()
    return Leadership(fd, fences)
