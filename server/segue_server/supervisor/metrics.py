"""The server's numbers in Prometheus' words.

Labels are bounded: revisions that no worker has any more are added up as `past`, voices beyond the first
`MAX_VOICES` as `other`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from segue.memory.stats_layout import BATCH_BUCKETS, BUCKETS_S, Outcome, RowCell, WorkerCell
from segue.memory.stats_reader import Counters, Histogram, WorkerReading
from segue_server.supervisor.ledger import RevisionKey
from segue_server.supervisor.totals import Totals
from segue_server.supervisor.usage import Usage

MAX_VOICES = 500
PAST = "past"
OTHER = "other"

_ROW_COUNTERS = (
    ("segue_shielded", "Failures that another revision answered before the listener noticed.", RowCell.SHIELDED),
    ("segue_cache_hits", "Requests answered from the result cache.", RowCell.CACHE_HITS),
    (
        "segue_listeners_joined",
        "Requests of listeners who spoke with another voice before, as far as one worker saw both.",
        RowCell.LISTENERS_JOINED,
    ),
    (
        "segue_listeners_left",
        "Listeners who spoke with it and then with another voice, as far as one worker saw both.",
        RowCell.LISTENERS_LEFT,
    ),
)
_WORKER_COUNTERS = (
    ("segue_refused_full", "Requests answered 429.", WorkerCell.REFUSED_FULL),
    ("segue_sent_bytes", "Bytes of bodies sent.", WorkerCell.BYTES_SENT),
    ("segue_unknown_handles", "Admissions under a word that named an unknown revision.", WorkerCell.UNKNOWN_HANDLES),
    ("segue_mirrors_dropped", "Copies dropped because listeners go first.", WorkerCell.MIRRORS_DROPPED),
    ("segue_sidecar_connections", "Tries to join a sidecar.", WorkerCell.RECONNECTS),
)
_RESPONSES = (
    ("2xx", WorkerCell.RESPONSES_2XX),
    ("4xx", WorkerCell.RESPONSES_4XX),
    ("5xx", WorkerCell.RESPONSES_5XX),
)


class Snapshot(Collector):
    """One scrape."""

    def __init__(
        self,
        totals: Totals,
        *,
        living: Sequence[WorkerReading],
        ready: int,
        restarts: int,
        usage: Mapping[str, Usage],
    ) -> None:
        """`ready` of the workers get traffic; `usage` is by their places."""
        self._totals = totals
        self._living = living
        self._ready = ready
        self._restarts = restarts
        self._usage = usage
        self._rows = bounded(totals.revisions.items(), current=totals.resident)

    @override
    def collect(self) -> Iterable[Metric]:
        """All metrics."""
        yield from self._per_revision()
        yield from self._per_server()
        yield from self._per_worker()
        yield from ProcessCollector(registry=None).collect()

    def _per_revision(self) -> Iterator[Metric]:
        labels = ["voice", "revision"]
        requests = CounterMetricFamily("segue_requests", "Rows by how they ended.", labels=[*labels, "outcome"])
        mirrors = CounterMetricFamily("segue_mirrors", "Copies by how they ended.", labels=[*labels, "outcome"])
        audio = CounterMetricFamily("segue_audio_seconds", "Speech made.", labels=labels)
        busy = CounterMetricFamily(
            "segue_revision_busy_seconds",
            "Time that engines computed for listeners; by segue_audio_seconds_total it is the real-time factor.",
            labels=labels,
        )
        flying = GaugeMetricFamily("segue_in_flight", "Rows that the engine has.", labels=labels)
        latency = HistogramMetricFamily("segue_latency_seconds", "From admission to the last sample.", labels=labels)
        first = HistogramMetricFamily("segue_first_audio_seconds", "From admission to first samples.", labels=labels)
        lost = bounded_counts(self._totals.died, rows=self._rows)
        for key, counters in self._rows.items():
            names = [key.voice, key.revision]
            for outcome in Outcome:
                requests.add_metric([*names, outcome.name.lower()], counters[RowCell(outcome)])
            mirrors.add_metric([*names, "success"], counters[RowCell.MIRROR_SUCCESSES])
            mirrors.add_metric([*names, "error"], counters[RowCell.MIRROR_ERRORS])
            audio.add_metric(names, counters[RowCell.AUDIO_MS] / 1000)
            busy.add_metric(names, counters[RowCell.BUSY_US] / 1e6)
            flying.add_metric(names, max(0, counters.in_flight - lost.get(key, 0)))
            _add(latency, names, counters.latency)
            _add(first, names, counters.first_audio)
        for died, count in lost.items():
            requests.add_metric([died.voice, died.revision, "died"], count)
        yield from (requests, mirrors, audio, busy, flying, latency, first)
        for name, text, cell in _ROW_COUNTERS:
            family = CounterMetricFamily(name, text, labels=labels)
            for key, counters in self._rows.items():
                family.add_metric([key.voice, key.revision], counters[cell])
            yield family

    def _per_server(self) -> Iterator[Metric]:
        counts = self._totals.counts
        responses = CounterMetricFamily("segue_http_responses", "Responses by class.", labels=["class"])
        for name, cell in _RESPONSES:
            responses.add_metric([name], counts[cell])
        yield responses
        for name, text, cell in _WORKER_COUNTERS:
            yield CounterMetricFamily(name, text, value=counts[cell])
        busy_s = counts[WorkerCell.BUSY_NS] / 1e9
        yield CounterMetricFamily("segue_engine_busy_seconds", "Time that engine threads computed.", value=busy_s)
        batches = HistogramMetricFamily("segue_batch_rows", "Rows stepped together.")
        bounds = [*map(str, BATCH_BUCKETS), "+Inf"]
        batches.add_metric([], _cumulative(bounds, self._totals.batch_sizes), counts[WorkerCell.BATCH_ROWS])
        yield batches
        waits = HistogramMetricFamily(
            "segue_queue_wait_seconds", "From the admission of a listener's row until an engine took it."
        )
        bounds_s = [*map(str, BUCKETS_S), "+Inf"]
        waits.add_metric(
            [], _cumulative(bounds_s, self._totals.queue_waits), counts[WorkerCell.QUEUE_WAIT_SUM_US] / 1e6
        )
        yield waits
        yield CounterMetricFamily("segue_worker_restarts", "Workers started again.", value=self._restarts)
        for name, text, value in (
            ("segue_workers", "Workers that live.", len(self._living)),
            ("segue_workers_ready", "Workers that get traffic.", self._ready),
            ("segue_queue_depth", "Unfinished answers.", sum(worker.queued for worker in self._living)),
            ("segue_cache_bytes", "Size of the result caches.", sum(worker.cache_bytes for worker in self._living)),
            ("segue_cache_entries", "Results kept.", sum(worker.cache_entries for worker in self._living)),
        ):
            yield GaugeMetricFamily(name, text, value=value)

    def _per_worker(self) -> Iterator[Metric]:
        labels = ["worker"]
        cpu = CounterMetricFamily("segue_worker_cpu_seconds", "CPU time of a worker since it began.", labels=labels)
        memory = GaugeMetricFamily(
            "segue_worker_memory_bytes",
            "Resident memory of a worker; `shared` holds the weights, once for all workers together.",
            labels=[*labels, "kind"],
        )
        for name, usage in self._usage.items():
            cpu.add_metric([name], usage.cpu_s)
            memory.add_metric([name, "private"], usage.private_bytes)
            memory.add_metric([name, "shared"], usage.shared_bytes)
        yield from (cpu, memory)


def bounded(rows: Iterable[tuple[RevisionKey, Counters]], *, current: Set[RevisionKey]) -> dict[RevisionKey, Counters]:
    """Add up what should not have labels of its own; the revisions that stay get their first ten digits."""
    voices: set[str] = set()
    found: dict[RevisionKey, Counters] = {}
    for key, counters in rows:
        if len(voices) < MAX_VOICES:
            voices.add(key.voice)
        voice = key.voice if key.voice in voices else OTHER
        label = RevisionKey(voice, key.revision[:10] if key in current else PAST)
        found[label] = found.get(label, Counters()) + counters
    return found


def bounded_counts(counts: dict[RevisionKey, int], *, rows: dict[RevisionKey, Counters]) -> dict[RevisionKey, int]:
    """The same for plain counts, with the labels that `rows` have."""
    found: dict[RevisionKey, int] = {}
    for key, count in counts.items():
        label = RevisionKey(key.voice, key.revision[:10])
        if label not in rows:
            label = RevisionKey(key.voice if RevisionKey(key.voice, PAST) in rows else OTHER, PAST)
        found[label] = found.get(label, 0) + count
    return found


def _add(family: HistogramMetricFamily, labels: list[str], histogram: Histogram) -> None:
    bounds = [*map(str, BUCKETS_S), "+Inf"]
    family.add_metric(labels, _cumulative(bounds, histogram.counts), histogram.sum_s)


def _cumulative(bounds: Sequence[str], counts: Sequence[int]) -> list[tuple[str, float]]:
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip(bounds, counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets
