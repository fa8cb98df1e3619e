"""How long each voice took to come up, as the sidecar's log has it: a line for each, where the metrics have buckets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from segue_cli.measure.latency import percentile

SOURCES = ("memory", "disk", "source")
_ROSE = re.compile(r"came up from (\w+) in ([0-9.]+) s")

Rise = tuple[str, float]
"""Where the weights came from, and the seconds from the first request to the word."""


def rises_in(log: Path) -> list[Rise]:
    """All of them so far."""
    text = log.read_text(encoding="utf-8", errors="replace")
    return [(source, float(took)) for source, took in _ROSE.findall(text)]


def by_source(rises: Iterable[Rise]) -> dict[str, dict[str, float]]:
    """Milliseconds of each source that there was."""
    known = list(rises)
    took_ms = {source: [took_s * 1e3 for name, took_s in known if name == source] for source in SOURCES}
    return {source: summary(times) for source, times in took_ms.items() if times}


def summary(times_ms: Sequence[float]) -> dict[str, float]:
    """Count, p50, p99 and the longest."""
    return {
        "count": len(times_ms),
        "p50": round(percentile(times_ms, 50), 1),
        "p99": round(percentile(times_ms, 99), 1),
        "max": round(max(times_ms), 1),
    }
