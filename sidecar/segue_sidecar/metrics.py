"""The sidecar in figures, for Prometheus. A registry of its own; labels are bounded.

Gauges are read from the books when somebody asks, so they cannot drift from them.
"""

from __future__ import annotations

import time
from collections import Counter as Count
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from segue.memory.interface import WeightMemory
from segue.memory.voice_view import model_of
from segue.wire import RESTING, ModelsPhase, RevisionPhase
from segue_sidecar.books import Books
from segue_sidecar.throttle import Pacer
from segue_sidecar.workers import Roster, WorkerPhase

_ON_THE_WAY = tuple(
    phase for phase in RevisionPhase if phase not in {RevisionPhase.READY, RevisionPhase.FAILED, *RESTING}
)
_POOL = {
    "budget": "what may be used",
    "used": "what is not proven to be free, the lingering part included",
    "free": "what an allocation could still get",
    "lingering": "let go, and still being spoken with",
    "spare": "pre-faulted for the next version, and given up where room is needed",
    "peak": "the most that used and spare ever came to since the start",
}
_COLD_BUCKETS_S = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30)
_POOLS = {"host": ("pool", "Memory for weights"), "gpu": ("gpu_pool", "Memory for weights on the device")}
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
        ProcessCollector(registry=self.registry)

        self.cold_starts = Counter(
            "segue_sidecar_cold_starts",
            "Voices brought up for a request, by where their weights came from.",
            ["source"],
            registry=self.registry,
        )
        self.cold_start_seconds = Histogram(
            "segue_sidecar_cold_start_seconds",
            "From the first request for a cold voice to its word.",
            ["source"],
            buckets=_COLD_BUCKETS_S,
            registry=self.registry,
        )
        self.cold_start_failures = Counter(
            "segue_sidecar_cold_start_failures",
            "Voices that could not be brought up for a request: PoolFull, Failed, NobodyWaits.",
            ["reason"],
            registry=self.registry,
        )
        self.evictions = Counter(
            "segue_sidecar_evictions",
            "Revisions that left memory: for a rollout, for a request, idle.",
            ["reason"],
            registry=self.registry,
        )

    def rose(self, source: str, took_s: float) -> None:
        """A voice was brought up for a request."""
        self.cold_starts.labels(source).inc()
        self.cold_start_seconds.labels(source).observe(took_s)

    def stayed_down(self, reason: str) -> None:
        """One was not."""
        self.cold_start_failures.labels(reason).inc()

    def left(self, reason: str) -> None:
        """A revision left memory."""
        self.evictions.labels(reason).inc()

    def child_ended(self, kind: str, outcome: str) -> None:
        """A child brought a result (`ok`), or the reason why not."""
        self.children.labels(kind, outcome).inc()


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
        certificate_ends_s: Callable[[], float | None],
        prepared_bytes: Callable[[], int],
    ) -> None:
        self._books = books
        self._memory = memory
        self._roster = roster
        self._pacer = pacer
        self._silent_s = silent_s
        self._certificate_ends_s = certificate_ends_s
        self._prepared_bytes = prepared_bytes

    @override
    def collect(self) -> Iterable[Metric]:
        yield from self._pool()
        phases = Count(entry.phase for entry in self._books.revisions())
        yield _labelled(
            "segue_sidecar_revisions", "Revisions by phase.", "phase", {p.value: phases[p] for p in RevisionPhase}
        )
        yield _labelled(
            "segue_sidecar_revision_oldest_seconds",
            "How long the revision that has been in a phase for longest has been in it; 0: none is.",
            "phase",
            self._oldest_s(),
        )
        workers = Count(worker.phase for worker in self._roster)
        yield _labelled(
            "segue_sidecar_workers", "Server workers by phase.", "phase", {p.value: workers[p] for p in WorkerPhase}
        )
        yield _gauge("segue_sidecar_voices", "Voices on this pod.", len(self._books.voices))
        watched = sum(voice.watch is not None for voice in self._books.voices.values())
        yield _gauge("segue_sidecar_watches_open", "Voices under an open watch.", watched)
        yield from self._models()
        yield _gauge("segue_sidecar_prepared_bytes", "Prepared parts on disk.", self._prepared_bytes())
        yield _gauge("segue_sidecar_child_duty", "Share of time that children may run.", self._pacer.duty)
        yield _gauge("segue_sidecar_leader_silent_seconds", "Since the leader was last heard.", self._silent_s())
        ends_s = self._certificate_ends_s()
        if ends_s is not None:
            name = "segue_sidecar_certificate_expiry_timestamp_seconds"
            yield _gauge(name, "When the sidecar's certificate ends.", ends_s)

    def _oldest_s(self) -> dict[str, float]:
        now_ns = time.time_ns()
        oldest = {phase.value: 0.0 for phase in _ON_THE_WAY}
        for entry in self._books.revisions():
            if entry.phase in _ON_THE_WAY and entry.since_ns:
                oldest[entry.phase.value] = max(oldest[entry.phase.value], (now_ns - entry.since_ns) / 1e9)
        return oldest

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
        for place, usage in self._memory.budgets().items():
            prefix, text = _POOLS[place]
            for name, value in (
                ("budget", usage.budget_bytes),
                ("used", usage.used_bytes),
                ("free", max(0, usage.budget_bytes - usage.used_bytes)),
                ("lingering", usage.lingering_bytes),
                ("spare", usage.spare_bytes),
                ("peak", usage.peak_bytes),
            ):
                yield _gauge(f"segue_sidecar_{prefix}_{name}_bytes", f"{text}: {_POOL[name]}.", value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _labelled(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
