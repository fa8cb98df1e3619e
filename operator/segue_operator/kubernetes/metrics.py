"""What only an operator of a cluster counts: its calls of the API server, Events, watches.

Separate from `segue_operator.metrics`, which every operator tells. Labels are bounded: no voice and no pod is in them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from segue_operator.kubernetes.api import Api
from segue_operator.kubernetes.events import ClusterEvents
from segue_operator.kubernetes.wiring import Watching


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Everything that is counted."""

    api: Api
    events: ClusterEvents
    watching: Watching


class ClusterCollector(Collector):
    """One scrape."""

    def __init__(self, counted: Counted) -> None:
        self._counted = counted

    @override
    def collect(self) -> Iterator[Metric]:
        counted = self._counted
        calls = CounterMetricFamily(
            "segue_operator_api_requests", "Calls of the API server (code 0: no answer).", labels=["verb", "code"]
        )
        for (verb, code), count in sorted(counted.api.requests.items()):
            calls.add_metric([verb, str(code)], count)
        yield calls
        events = CounterMetricFamily("segue_operator_events", "Kubernetes Events.", labels=["outcome"])
        events.add_metric(["written"], counted.events.posted)
        events.add_metric(["dropped"], counted.events.dropped)
        yield events
        restarts = CounterMetricFamily("segue_operator_watch_restarts", "Watches begun again.", labels=["watch"])
        for watch in counted.watching.watches:
            restarts.add_metric([watch.name], counted.watching.restarts[watch.name])
        yield restarts
