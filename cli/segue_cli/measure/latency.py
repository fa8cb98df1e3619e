"""Latency figures: percentiles, and one group against another.

Separate because five benches, the demo and its live log must all mean the same by `p99`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np

from segue_cli.measure.shots import Record

Interval = tuple[int, int]
"""Begin and end, CLOCK_MONOTONIC nanoseconds."""


def percentile(values: Sequence[float], percent: float) -> float:
    """Linear-interpolated percentile; NaN where there are no values."""
    return float(np.percentile(np.asarray(values, dtype=np.float64), percent)) if len(values) else float("nan")


@dataclass(frozen=True, slots=True)
class Spread:
    """A distribution in four figures."""

    p50: float
    p90: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """From samples; NaN where there are none."""
        if not len(values):
            return cls(*(float("nan"),) * 4)
        p50, p90, p99 = np.percentile(np.asarray(values, dtype=np.float64), (50, 90, 99))
        return cls(float(p50), float(p90), float(p99), float(max(values)))

    def as_json(self) -> dict[str, float]:
        """Rounded to a thousandth, for a report."""
        return {name: round(value, 3) for name, value in asdict(self).items()}


def latencies_ms(records: Sequence[Record]) -> list[float]:
    """Full latency of the answers that were complete."""
    return [record.latency_ns / 1e6 for record in records if record.ok]


def overlaps(record: Record, intervals: Sequence[Interval]) -> bool:
    """Whether the request was under way at any moment of the intervals."""
    return any(record.due_ns < end and record.end_ns > begin for begin, end in intervals)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Requests that overlap something (a preload) against those of the same run that do not."""

    during: Spread
    besides: Spread
    during_count: int
    besides_count: int

    @property
    def p99_ratio(self) -> float:
        """p99 during over p99 besides."""
        return self.during.p99 / self.besides.p99


def compare(records: Sequence[Record], intervals: Sequence[Interval]) -> Comparison:
    """Split complete answers by overlap with `intervals` (half-open, CLOCK_MONOTONIC)."""
    during = [record for record in records if record.ok and overlaps(record, intervals)]
    besides = [record for record in records if record.ok and not overlaps(record, intervals)]
    return Comparison(
        during=Spread.of(latencies_ms(during)),
        besides=Spread.of(latencies_ms(besides)),
        during_count=len(during),
        besides_count=len(besides),
    )


def longest_silence_s(records: Sequence[Record], interval: Interval) -> float:
    """The longest stretch inside the interval in which no request was answered: how long a listener hears a stall."""
    begin, end = interval
    ends = sorted(record.end_ns for record in records if record.ok and begin <= record.end_ns <= end)
    marks = [begin, *ends, end]
    return max(later - earlier for earlier, later in pairwise(marks)) / 1e9
