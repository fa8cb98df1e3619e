"""The server's numbers in Prometheus' words.

Labels are bounded: revisions that no worker has any more are added up as `past`, voices of which no worker has any,
and those beyond the first `MAX_VOICES`, as `other`. A worker has room for 1,024 revisions, and what is told of one
takes some 4 KB. What is over is told as a sum alone, without histograms: no rate may look at it anyhow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from segue.memory.stats_layout import BATCH_BUCKETS, BUCKETS_S, Outcome, RowCell, WorkerCell
from segue.memory.stats_reader import Counters, Histogram, WorkerReading
from segue_server.supervisor.ledger import RevisionKey
from segue_server.supervisor.totals import Totals
from segue_server.supervisor.usage import Usage

MAX_VOICES = 1000
PAST = "past"
OTHER = "other"
SHOWN_DIGITS = 10
FIRST_AUDIO_BOUNDS_S = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LATENCY_BOUNDS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0)
"""Those of `BUCKETS_S` that are told: two thirds of all that a server tells are buckets."""

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
        lost = bounded_counts(self._totals.died, current=self._totals.resident)
        for key, counters in self._rows.items():
            names = [key.voice, key.revision]
            for outcome in Outcome:
                if key.revision != PAST or counters[RowCell(outcome)]:  # nobody waits for the first of what is over
                    requests.add_metric([*names, outcome.name.lower()], counters[RowCell(outcome)])
            audio.add_metric(names, counters[RowCell.AUDIO_MS] / 1000)
            if key.revision == PAST:
                continue
            mirrors.add_metric([*names, "success"], counters[RowCell.MIRROR_SUCCESSES])
            mirrors.add_metric([*names, "error"], counters[RowCell.MIRROR_ERRORS])
            busy.add_metric(names, counters[RowCell.BUSY_US] / 1e6)
            flying.add_metric(names, max(0, counters.in_flight - lost.get(key, 0)))
            _add(latency, names, counters.latency, bounds_s=LATENCY_BOUNDS_S)
            _add(first, names, counters.first_audio, bounds_s=FIRST_AUDIO_BOUNDS_S)
        for died, count in lost.items():
            requests.add_metric([died.voice, died.revision, "died"], count)
        yield from (requests, mirrors, audio, busy, flying, latency, first)
        for name, text, cell in _ROW_COUNTERS:
            family = CounterMetricFamily(name, text, labels=labels)
            for key, counters in self._rows.items():
                if key.revision != PAST:
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
    label_of = _labels(current)
    found: dict[RevisionKey, Counters] = {}
    for key, counters in rows:
        label = label_of(key)
        found[label] = found.get(label, Counters()) + counters
    return found


def bounded_counts(counts: Mapping[RevisionKey, int], *, current: Set[RevisionKey]) -> dict[RevisionKey, int]:
    """The same for plain counts."""
    label_of = _labels(current)
    found: dict[RevisionKey, int] = {}
    for key, count in counts.items():
        label = label_of(key)
        found[label] = found.get(label, 0) + count
    return found


def _labels(current: Set[RevisionKey]) -> Callable[[RevisionKey], RevisionKey]:
    """Under which labels a revision is told, where these are with some worker."""
    voices = set(sorted({key.voice for key in current})[:MAX_VOICES])

    def label_of(key: RevisionKey) -> RevisionKey:
        if key.voice not in voices:
            return RevisionKey(OTHER, PAST)
        return RevisionKey(key.voice, key.revision[:SHOWN_DIGITS] if key in current else PAST)

    return label_of


def _add(family: HistogramMetricFamily, labels: list[str], histogram: Histogram, *, bounds_s: Sequence[float]) -> None:
    told = {*map(str, bounds_s), "+Inf"}
    buckets = _cumulative([*map(str, BUCKETS_S), "+Inf"], histogram.counts)
    family.add_metric(labels, [bucket for bucket in buckets if bucket[0] in told], histogram.sum_s)


def _cumulative(bounds: Sequence[str], counts: Sequence[int]) -> list[tuple[str, float]]:
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip(bounds, counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets
