"""Looking at running processes from outside, through /proc: memory, descriptors, children, stats pages.

Separate because nothing in here asks the processes themselves: a figure about a program should not come from it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from segue.errors import ArenaCorrupt
from segue.memory.stats_reader import StatsReader

STATS_MEMFD = "/memfd:segue-stats"
PAGE_MEMFD = "/memfd:segue-pointer-page"


def descendants(root: int) -> list[int]:
    """All living children of a process, and theirs, oldest first."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat_fields(int(entry.name))) is not None:
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    waiting = [root]
    while waiting:
        for child in sorted(parents.get(waiting.pop(0), [])):
            found.append(child)
            waiting.append(child)
    return found


def is_worker(pid: int) -> bool:
    """Whether a process is a worker of the server: it holds the pointer page."""
    try:
        if b"segue_server" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            return False
        entries = list(Path(f"/proc/{pid}/fd").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return False
    return any(_target(entry).startswith(PAGE_MEMFD) for entry in entries)


def _target(entry: Path) -> str:
    """What a descriptor is; empty for one that was closed meanwhile."""
    try:
        return str(entry.readlink())
    except OSError:
        return ""


def alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    fields = _stat_fields(pid)
    return fields is not None and fields[0] not in {"Z", "X"}


@dataclass(frozen=True, slots=True)
class Footprint:
    """Proportional set size of a process, in bytes.

    Attributes
    ----------
    own
        Anonymous memory and shared memory (arenas, pages): what the program itself asked for.
    files
        Its share of mapped files. Falls and rises with every other process on the machine that uses the same
        libraries, and costs nothing that the page cache would not hold anyway.
    """

    own: int
    files: int

    @property
    def total(self) -> int:
        """Both."""
        return self.own + self.files


def footprint(pid: int) -> Footprint:
    """From smaps_rollup; nothing for a process that has just ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return Footprint(0, 0)
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines[1:]}
    files = sizes.get("Pss_File", 0)
    return Footprint(own=sizes.get("Pss", 0) - files, files=files)


def open_descriptors(pid: int) -> int:
    """How many file descriptors a process has open; 0 when it has just ended."""
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return 0


def kill(pid: int) -> bool:
    """SIGKILL; False when it was gone already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


@contextlib.contextmanager
def stats_pages(worker_pids: list[int]) -> Iterator[dict[int, StatsReader]]:
    """Map the stats pages of workers, found among their open descriptors."""
    readers: dict[int, StatsReader] = {}
    try:
        for pid in worker_pids:
            reader = _stats_page_of(pid)
            if reader is not None:
                readers[pid] = reader
        yield readers
    finally:
        for reader in readers.values():
            reader.close()


def _stats_page_of(pid: int) -> StatsReader | None:
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError, ArenaCorrupt):
            if not str(entry.readlink()).startswith(STATS_MEMFD):
                continue
            fd = os.open(entry, os.O_RDONLY | os.O_CLOEXEC)
            try:
                reader = StatsReader(fd)
            finally:
                os.close(fd)
            if reader.worker().pid == pid:
                return reader
            reader.close()
    return None


def _stat_fields(pid: int) -> list[str] | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
