"""What an operator counts, for Prometheus, wherever its voices live.

Read from the parts at each scrape, so that nobody has to keep two books. Labels are bounded: a voice is in them while
it exists, a pod never is. What only an operator of a cluster has is in `kubernetes/metrics.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from segue.model import Phase
from segue_operator.tallies import Tallies
from segue_operator.voice_figures import VoiceFigures

_TIMES: tuple[tuple[str, str, Callable[[VoiceFigures], float | None]], ...] = (
    (
        "segue_operator_last_switch_timestamp_seconds",
        "When every pod had flipped for the last time.",
        lambda voice: voice.switched_s,
    ),
    (
        "segue_operator_last_rollback_timestamp_seconds",
        "When a version was taken back for the last time.",
        lambda voice: voice.rolled_back_s,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Everything that is counted.

    Attributes
    ----------
    leading
        Whether this operator leads now.
    unusable
        VoiceModels that cannot be used.
    pods, unreachable
        Pods of all fleets, and those of them that do not answer; None: this operator asks none.
    certificate_ends_s
        Of the operator's own pair; None: it has none.
    """

    leading: Callable[[], bool]
    voices: Callable[[], Iterable[VoiceFigures]]
    unusable: Callable[[], int]
    pods: Callable[[], int]
    unreachable: Callable[[], int | None]
    tallies: Tallies
    certificate_ends_s: Callable[[], float | None] = field(default=lambda: None)


class OverviewCollector(Collector):
    """One scrape."""

    def __init__(self, overview: Overview) -> None:
        self._overview = overview

    @override
    def collect(self) -> Iterator[Metric]:
        overview = self._overview
        voices = list(overview.voices())
        yield _gauge("segue_operator_leading", "1 while this operator leads.", float(overview.leading()))
        yield from _phases(voices)
        yield _gauge("segue_operator_unusable_voices", "VoiceModels that cannot be used.", overview.unusable())
        yield _gauge("segue_operator_pods", "Pods of all fleets.", overview.pods())
        unreachable = overview.unreachable()
        if unreachable is not None:
            yield _gauge("segue_operator_pods_unreachable", "Pods that do not answer the leader.", unreachable)
        yield from self._business(voices)
        ends_s = overview.certificate_ends_s()
        if ends_s is not None:
            name = "segue_operator_certificate_expiry_timestamp_seconds"
            yield _gauge(name, "When the operator's certificate ends.", ends_s)

    def _business(self, voices: list[VoiceFigures]) -> Iterator[Metric]:
        tallies = self._overview.tallies
        switches = CounterMetricFamily("segue_operator_switches", "Rollouts that flipped every pod.", labels=["voice"])
        rollbacks = CounterMetricFamily("segue_operator_rollbacks", "Versions that were taken back.", labels=["voice"])
        for voice in voices:
            switches.add_metric([voice.key], tallies.switches[voice.key])
            rollbacks.add_metric([voice.key], tallies.rollbacks[voice.key])
        reasons = CounterMetricFamily(
            "segue_operator_rollback_reasons", "Versions that were taken back, by the reason.", labels=["reason"]
        )
        for reason, count in sorted(tallies.reasons.items()):
            reasons.add_metric([reason], count)
        yield from (switches, rollbacks, reasons)
        for name, text, time_of in _TIMES:
            family = GaugeMetricFamily(name, text, labels=["voice"])
            for voice in voices:
                at_s = time_of(voice)
                if at_s is not None:
                    family.add_metric([voice.key], at_s)
            yield family


def overview_registry(overview: Overview) -> CollectorRegistry:
    """A registry that shows it, and what the process costs."""
    registry = CollectorRegistry()
    registry.register(OverviewCollector(overview))
    ProcessCollector(registry=registry)
    return registry


def _phases(voices: list[VoiceFigures]) -> Iterator[Metric]:
    counts = Counter({phase.value: 0 for phase in Phase})
    counts.update(voice.phase for voice in voices)
    by_phase = GaugeMetricFamily("segue_operator_voices", "VoiceModels by phase.", labels=["phase"])
    for phase, count in sorted(counts.items()):
        by_phase.add_metric([phase], count)
    since = GaugeMetricFamily(
        "segue_operator_rollout_since_timestamp_seconds",
        "Since when a voice that is not Idle has been in its phase.",
        labels=["voice", "phase"],
    )
    for voice in voices:
        if voice.phase != Phase.IDLE.value and voice.phase_since_s is not None:
            since.add_metric([voice.key, voice.phase], voice.phase_since_s)
    yield from (by_phase, since)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
