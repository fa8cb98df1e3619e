"""What a process of ours costs the machine, by the kernel's books.

Separate because it is the one thing that a worker does not count itself: a figure about a program that hangs must not
come from the program. See proc(5).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_KIB = 1024
_UTIME, _STIME = 11, 12
"""Places in `/proc/PID/stat` behind the name in brackets, which may hold anything."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process.

    Attributes
    ----------
    cpu_s
        CPU time of all its threads since it began.
    private_bytes
        Memory that is its own: heaps, stacks.
    shared_bytes
        Memory that it maps and others may map as well; most of it are the weights, once for all workers together.
    """

    cpu_s: float
    private_bytes: int
    shared_bytes: int


def usage_of(pid: int, *, proc: Path = Path("/proc")) -> Usage | None:
    """What the process uses now; None: it is gone."""
    try:
        stat = (proc / str(pid) / "stat").read_text(encoding="ascii", errors="replace")
        status = (proc / str(pid) / "status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    ticks = int(fields[_UTIME]) + int(fields[_STIME])
    sizes = {name: value for name, _, value in (line.partition(":") for line in status.splitlines())}

    def size_bytes(name: str) -> int:
        return int(sizes.get(name, "0 kB").split()[0]) * _KIB

    return Usage(
        cpu_s=ticks / _TICKS_A_SECOND,
        private_bytes=size_bytes("RssAnon"),
        shared_bytes=size_bytes("RssFile") + size_bytes("RssShmem"),
    )
