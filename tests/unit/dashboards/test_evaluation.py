"""What the queries evaluate to, by Prometheus' own tool."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.support.dashboards import QUERIES, VALUES
from tests.support.exported import Figure, exported
from tests.support.promql import filled
from tests.support.promtool import STEP_S, Expectation, Promtool, find_promtool, series_name
from tools.dashboards.voice import HEARD, heard_first, heard_no_more, takes_over

from segue_server.supervisor.metrics import PAST

pytestmark = pytest.mark.process
MINUTE = 60
ABOUT_WHAT_IS_NOT_THERE = {
    "overview: Pods without a worker A",
    "overview: Silent sidecars A",
    "fleet: Silent sidecars A",
    "voice: Pods disagree A",
    *(f"voice: {name}" for name in ("Heard first", "Takes over", "Heard no more")),
}
"""Queries without an answer where every pod serves, hears of a leader, and changes no revision."""

OR_ZERO = re.compile(r" or vector\(0\)$")


@pytest.fixture(scope="module")
def promtool() -> Promtool:
    return find_promtool()


def over_time(figure: Figure) -> str:
    """Counters rise by what they are in each step, gauges stay."""
    rises = figure.kind in ("counter", "histogram")
    return f"0+{figure.value:g}x240" if rises else f"{figure.value:g}x240"


def test_every_query_has_an_answer_where_the_processes_are_busy(promtool: Promtool, tmp_path: Path) -> None:
    series = {series_name(each.name, each.labels): over_time(each) for each in exported()}
    answered = [
        Expectation(f"count({OR_ZERO.sub('', query.expr)})", 90 * MINUTE, [{}])
        for query in QUERIES
        if query.where not in ABOUT_WHAT_IS_NOT_THERE
    ]
    assert len(answered) == len(QUERIES) - len(ABOUT_WHAT_IS_NOT_THERE)
    assert promtool.complaints(series, answered, folder=tmp_path) == ""


def test_an_answer_that_is_another_one_is_told_of(promtool: Promtool, tmp_path: Path) -> None:
    wrong = [Expectation("a", MINUTE, [{"b": "d"}]), Expectation("nothing", MINUTE, [{}]), Expectation("a", MINUTE, [])]
    complaints = promtool.complaints({series_name("a", {"b": "c"}): "1x10"}, wrong, folder=tmp_path)
    assert complaints.count("exp:") == 3


# --- markers ----------------------------------------------------------------------------------------------------------
# Twenty minutes are forty steps; thirty answers in each.

TALKS, RESTS = "+30x40", "+0x40"
MARKERS = {
    "first": filled(heard_first(), VALUES),
    "over": filled(takes_over(), VALUES),
    "gone": filled(heard_no_more(), VALUES),
}


def history(*stretches: str) -> str:
    """A counter over stretches of twenty minutes, each `+NxSTEPS`; a stretch begins where the last one ended."""
    values, at = [], 0
    for stretch in stretches:
        step, _, steps = stretch[1:].partition("x")
        values.append(f"{at + int(step)}+{step}x{int(steps) - 1}")
        at += int(step) * int(steps)
    return " ".join(["0", *values])


def heard(revision: str, *stretches: str) -> dict[str, str]:
    labels = {"voice": VALUES["voice"], "revision": revision, "pod": "one"}
    return {series_name(HEARD, labels): history(*stretches)}


def marks(**times_s: list[tuple[float, str]]) -> list[Expectation]:
    """Which revisions are marked at which minutes."""
    return [
        Expectation(
            MARKERS[marker],
            int(minute * MINUTE),
            [{"voice": VALUES["voice"], "revision": revision}] if revision else [],
        )
        for marker, times in times_s.items()
        for minute, revision in times
    ]


def test_a_switch_and_the_way_back_are_marked_and_nothing_else(promtool: Promtool, tmp_path: Path) -> None:
    series = heard("old", TALKS, RESTS, TALKS) | heard("new", RESTS, TALKS, RESTS)
    expected = marks(
        first=[(10, ""), (21, "new"), (30, ""), (41, ""), (50, "")],
        over=[(10, ""), (22, "new"), (30, ""), (42, "old"), (50, "")],
        gone=[(10, ""), (22.5, "old"), (30, ""), (42.5, "new"), (50, "")],
    )
    assert promtool.complaints(series, expected, folder=tmp_path) == ""


def test_a_canary_is_heard_first_and_takes_nothing_over(promtool: Promtool, tmp_path: Path) -> None:
    series = heard("old", TALKS, TALKS, TALKS) | heard("new", RESTS, "+3x40", RESTS)
    expected = marks(
        first=[(20.4, ""), (21, "new"), (30, "")], over=[(22, ""), (30, ""), (42, "")], gone=[(30, ""), (42.5, "new")]
    )
    assert promtool.complaints(series, expected, folder=tmp_path) == ""


def test_a_voice_that_nobody_spoke_with_for_a_while_is_not_marked(promtool: Promtool, tmp_path: Path) -> None:
    times: list[tuple[float, str]] = [(minute, "") for minute in (1, 2, 20.5, 21, 22, 30, 40.5, 41, 42, 44, 50)]
    expected = marks(first=times, over=times, gone=times)
    assert promtool.complaints(heard("only", TALKS, RESTS, TALKS), expected, folder=tmp_path) == ""


def test_a_rare_revision_is_not_gone_because_nobody_asked_for_two_minutes(promtool: Promtool, tmp_path: Path) -> None:
    series = heard("old", TALKS, TALKS) | heard("rare", "+1x40", "+0x40")
    quiet = series | heard("old", "+1x40", "+1x40")
    assert promtool.complaints(series, marks(gone=[(22.5, "")]), folder=tmp_path) == ""
    assert promtool.complaints(quiet, marks(gone=[(22.5, "")]), folder=tmp_path) == ""


def test_what_is_gone_is_no_revision(promtool: Promtool, tmp_path: Path) -> None:
    """A revision that nobody has any more is added to `past` at once."""
    past = {series_name(HEARD, {"voice": VALUES["voice"], "revision": PAST}): f"7x{20 * MINUTE // STEP_S} 5000x80"}
    expected = marks(first=[(21, "")], over=[(22, "")], gone=[(22.5, "")])
    assert promtool.complaints(heard("only", TALKS, TALKS, TALKS) | past, expected, folder=tmp_path) == ""
