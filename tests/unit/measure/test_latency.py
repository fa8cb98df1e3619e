"""Latency figures mean what they say."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from segue_cli.measure.environment import environment, write_report
from segue_cli.measure.latency import Spread, compare, longest_silence_s
from segue_cli.measure.shots import Record

MS = 1_000_000


def answered(begin_ms: float, end_ms: float, *, error: str = "") -> Record:
    begin, end = int(begin_ms * MS), int(end_ms * MS)
    return Record(0, begin, begin, end, end, 200, "a" * 64, "", "", 10, "d", error)


def test_spread_of_nothing_is_not_a_number() -> None:
    assert math.isnan(Spread.of([]).p99)


def test_spread() -> None:
    spread = Spread.of([float(value) for value in range(101)])
    assert (spread.p50, spread.p90, spread.p99, spread.max) == (50, 90, 99, 100)


def test_requests_that_touch_an_interval_are_compared_with_the_others() -> None:
    records = [
        answered(0, 10),
        answered(95, 125),
        answered(150, 180),
        answered(250, 260),
        answered(120, 130, error="x"),
    ]
    comparison = compare(records, [(100 * MS, 200 * MS)])
    assert (comparison.during_count, comparison.besides_count) == (2, 2)
    assert comparison.p99_ratio == pytest.approx(3.0)


def test_longest_silence_counts_from_the_begin_to_the_end() -> None:
    records = [answered(0, 100), answered(0, 200), answered(0, 900, error="cut")]
    assert longest_silence_s(records, (0, 1000 * MS)) == pytest.approx(0.8)


def test_report_carries_its_environment_and_no_nan(tmp_path: Path) -> None:
    write_report(tmp_path / "x" / "a.json", {"p99": float("nan"), "list": [1.5]}, environment())
    report = json.loads((tmp_path / "x" / "a.json").read_text())
    assert report["p99"] is None
    assert report["list"] == [1.5]
    assert {"date", "cpu", "cores", "commit", "command", "versions"} <= report["environment"].keys()
