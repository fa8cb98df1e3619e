"""The sidecar in figures, for Prometheus. A registry of its own; labels are bounded.

Gauges are read from the books when somebody asks, so they cannot drift from them.
"""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from segue.memory.interface import WeightMemory
from segue.memory.voice_view import model_of
from segue.wire import ModelsPhase, RevisionPhase
from segue_sidecar.books import Books
from segue_sidecar.throttle import Pacer
from segue_sidecar.workers import Roster, WorkerPhase

_STORE_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05)


class Metrics:
    """All of it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.stores = Counter("segue_sidecar_stores", "Words stored in the pointer page.", registry=self.registry)
        self.store_seconds = Histogram(
            "segue_sidecar_receive_to_store_seconds",
            "From a pointer command received to its word stored.",
            buckets=_STORE_BUCKETS_S,
            registry=self.registry,
        )
        self.refusals = Counter(
            "segue_sidecar_refusals", "Control commands refused, by reason.", ["reason"], registry=self.registry
        )
        self.children = Counter(
            "segue_sidecar_children",
            "Children that ended, by kind and outcome.",
            ["kind", "outcome"],
            registry=self.registry,
        )

    def child_ended(self, kind: str, outcome: str) -> None:
        """A child brought a result (`ok`), or the reason why not."""
        self.children.labels(kind, outcome).inc()

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)


class BooksCollector(Collector):
    """What the books say now."""

    def __init__(
        self,
        *,
        books: Books,
        memory: WeightMemory,
        roster: Roster,
        pacer: Pacer,
        silent_s: Callable[[], float],
    ) -> None:
        self._books = books
        self._memory = memory
        self._roster = roster
        self._pacer = pacer
        self._silent_s = silent_s

    @override
    def collect(self) -> Iterable[Metric]:
        yield from self._pool()
        phases = Count(entry.phase for entry in self._books.revisions())
        yield _labelled(
            "segue_sidecar_revisions", "Revisions by phase.", "phase", {p.value: phases[p] for p in RevisionPhase}
        )
        workers = Count(worker.phase for worker in self._roster)
        yield _labelled(
            "segue_sidecar_workers", "Server workers by phase.", "phase", {p.value: workers[p] for p in WorkerPhase}
        )
        yield _gauge("segue_sidecar_voices", "Voices on this pod.", len(self._books.voices))
        watched = sum(voice.watch is not None for voice in self._books.voices.values())
        yield _gauge("segue_sidecar_watches_open", "Voices under an open watch.", watched)
        yield from self._models()
        yield _gauge("segue_sidecar_child_duty", "Share of time that children may run.", self._pacer.duty)
        yield _gauge("segue_sidecar_leader_silent_seconds", "Since the leader was last heard.", self._silent_s())

    def _models(self) -> Iterator[Metric]:
        ready = {engine: int(each.phase is ModelsPhase.READY) for engine, each in self._books.models.items()}
        yield _labelled("segue_sidecar_shared_models_ready", "Whether an engine's shared models are.", "engine", ready)
        sizes = GaugeMetricFamily(
            "segue_sidecar_shared_model_bytes", "Arena memory of a shared model.", labels=["engine", "model"]
        )
        absent = {engine: len(each.absent) for engine, each in self._books.models.items()}
        for engine, each in self._books.models.items():
            for part in each.parts:
                sizes.add_metric([engine, model_of(part.name)], part.size_bytes)
        yield sizes
        yield _labelled("segue_sidecar_shared_models_absent", "Shared models that are not there.", "engine", absent)

    def _pool(self) -> Iterator[Metric]:
        usage = self._memory.usage()
        for name, value in (
            ("budget", usage.budget_bytes),
            ("used", usage.used_bytes),
            ("lingering", usage.lingering_bytes),
            ("spare", usage.spare_bytes),
            ("peak", usage.peak_bytes),
        ):
            yield _gauge(f"segue_sidecar_pool_{name}_bytes", f"Arena memory: {name}.", value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _labelled(name: str, text: str, label: str, values: dict[str, int]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
