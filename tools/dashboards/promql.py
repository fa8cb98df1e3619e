"""How queries are written here: which series are asked for, and over how long.

Separate from the pages because of two traps that must be avoided the same way everywhere:

- A revision that no worker has any more is added to the series `revision="past"` with all that it ever counted. To
  `rate` that is thousands of requests in one second, so rates by voice or revision leave `past` out.
- A share of nothing is `NaN`, which is red or green by accident; see `share`.
"""

from __future__ import annotations

from segue.memory.stats_layout import ERRORS
from segue_server.supervisor.metrics import PAST

STEP = "30s"
"""The least distance of two points: how often the chart's PodMonitors scrape."""

LIVE = f'revision!="{PAST}"'
FAILED = f'outcome=~"{"|".join([*(outcome.name.lower() for outcome in ERRORS), "died"])}"'
"""Outcomes that count against a revision, as its canary counts them, and rows that a worker took with it."""

NOW = "5m"
"""Window of a figure that says how things are now, whatever time range the page shows."""

DRAWN = "$__rate_interval"
"""Window of a line."""


def series(name: str, *matchers: str) -> str:
    """A selector, `name{a="b",c="d"}`; empty matchers are left out."""
    inside = ",".join(filter(None, matchers))
    return f"{name}{{{inside}}}" if inside else name


def rate(name: str, *matchers: str, by: str = "", over: str = DRAWN) -> str:
    """Per second, added up over all series, or `by` labels (`"voice, revision"`)."""
    return f"{_sum(by)}(rate({series(name, *matchers)}[{over}]))"


def total(name: str, *matchers: str, by: str = "") -> str:
    """A gauge, added up."""
    return f"{_sum(by)}({series(name, *matchers)})"


def quantile(share_of_all: float, name: str, *matchers: str, by: str = "", over: str = DRAWN) -> str:
    """A quantile of the histogram `name`, between the bounds of its buckets."""
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({share_of_all:g}, {rate(f'{name}_bucket', *matchers, by=labels, over=over)})"


def mean(name: str, *matchers: str, by: str = "", over: str = DRAWN) -> str:
    """The mean of what the histogram `name` saw; nothing where it saw nothing."""
    counted = rate(f"{name}_count", *matchers, by=by, over=over)
    return f"{rate(f'{name}_sum', *matchers, by=by, over=over)} / ({counted} > 0)"


def share(part: str, whole: str) -> str:
    """`part` of `whole`, both by the same labels; nothing where there is no whole."""
    return f"{part} / ({whole} > 0)"


def failed_share(*matchers: str, by: str = "", over: str = DRAWN) -> str:
    """Requests that failed, of all."""
    failed = rate("segue_requests_total", *matchers, LIVE, FAILED, by=by, over=over)
    return share(failed, rate("segue_requests_total", *matchers, LIVE, by=by, over=over))


def how_many(vector: str) -> str:
    """The number of its series; 0 where there are none."""
    return f"count({vector}) or vector(0)"


def or_zero(expression: str) -> str:
    """0 where the expression has nothing to say."""
    return f"{expression} or vector(0)"


def _sum(by: str) -> str:
    return f"sum by ({by}) " if by else "sum"
