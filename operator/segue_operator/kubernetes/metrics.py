"""What the operator counts, for Prometheus.

Read from the parts at each scrape, so that nobody has to keep two books. Labels are bounded: no voice and no pod is in
them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from segue_operator.kubernetes.api import Api
from segue_operator.kubernetes.events import ClusterEvents
from segue_operator.kubernetes.pods import PodBook
from segue_operator.kubernetes.voices import KubernetesCluster
from segue_operator.kubernetes.wiring import Watching


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Everything that is counted.

    Attributes
    ----------
    leading
        Whether this operator leads now.
    """

    api: Api
    cluster: KubernetesCluster
    pods: PodBook
    events: ClusterEvents
    watching: Watching
    leading: Callable[[], bool]


class _OperatorCollector(Collector):
    def __init__(self, counted: Counted) -> None:
        self._counted = counted

    @override
    def collect(self) -> Iterator[Metric]:
        yield from self._gauges()
        yield from self._counters()

    def _gauges(self) -> Iterator[Metric]:
        counted = self._counted
        leading = float(counted.leading())
        yield GaugeMetricFamily("segue_operator_leading", "1 while this operator leads.", value=leading)
        voices = GaugeMetricFamily("segue_operator_voices", "VoiceModels by phase.", labels=["phase"])
        for phase, count in sorted(_phases(counted.cluster).items()):
            voices.add_metric([phase], count)
        yield voices
        problems = len(counted.cluster.problems())
        yield GaugeMetricFamily("segue_operator_unusable_voices", "VoiceModels that cannot be used.", value=problems)
        yield GaugeMetricFamily("segue_operator_pods", "Pods of all fleets.", value=len(counted.pods.records()))

    def _counters(self) -> Iterator[Metric]:
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


def _phases(cluster: KubernetesCluster) -> Counter[str]:
    return Counter((body.get("status") or {}).get("phase", "Unknown") for body in cluster.seen.bodies.values())


def registry_of(counted: Counted) -> CollectorRegistry:
    """A registry that shows it all."""
    registry = CollectorRegistry()
    registry.register(_OperatorCollector(counted))
    return registry
