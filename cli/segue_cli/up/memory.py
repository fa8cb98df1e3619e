"""How much memory may voices take, when nobody said?"""

from __future__ import annotations

import re
from pathlib import Path

from segue.errors import SegueError

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
SHARE = 0.25
LEAST_BYTES, MOST_BYTES = 256 << 20, 16 << 30


class InvalidAmount(SegueError):
    """Not an amount of memory."""


def parse_bytes(text: str) -> int:
    """Read `512Mi`, `2G`, `1073741824`; every unit is binary.

    Raises
    ------
    InvalidAmount
        Anything else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKmMgGtT]?)(?:i?[bB]?)", text.strip())
    if match is None:
        raise InvalidAmount(f"an amount of memory is written 512Mi or 2Gi, not {text!r}")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def default_budget_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """A quarter of what is available now, between 256 MiB and 16 GiB."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        found = None
    available = int(found[1]) << 10 if found else 4 << 30
    return max(LEAST_BYTES, min(MOST_BYTES, int(available * SHARE)))
