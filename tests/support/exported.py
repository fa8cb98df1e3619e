"""What the three processes export, as Prometheus would keep it: from their own collectors, every family with a value.

Separate from the tests of dashboards and of alerts, which both ask whether what is asked for exists.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from segue.memory.host import HostMemory
from segue.memory.stats_layout import BATCH_BUCKETS, WorkerCell, WorkerState
from segue.memory.stats_reader import Counters, WorkerReading
from segue_operator.kubernetes.metrics import Counted, registry_of
from segue_operator.triggers.wiring import build_triggers
from segue_server.supervisor.ledger import RevisionKey
from segue_server.supervisor.metrics import Snapshot
from segue_server.supervisor.totals import Totals
from segue_sidecar.books import Books
from segue_sidecar.journal import Journal
from segue_sidecar.metrics import BooksCollector, Metrics
from segue_sidecar.throttle import Pacer
from segue_sidecar.workers import Roster

VOICE, REVISION = "voices/narrator", "a" * 64
POD = {
    "namespace": "voices",
    "pod": "segue-default-7c9f6d5b8-x2x9z",
    "container": "server",
    "endpoint": "status",
    "instance": "10.0.0.7:8001",
    "job": "voices/segue-default",
    "segue_dev_fleet": "default",
}
"""Labels that a PodMonitor of the chart adds to each figure of a fleet's pod."""

OPERATOR = {
    "namespace": "segue-system",
    "pod": "segue-operator-5d4c8f7b9-k8s2p",
    "container": "operator",
    "endpoint": "http",
    "instance": "10.0.0.9:8080",
    "job": "segue-system/segue-operator",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One series at one time. `family` is the name under which its type is known."""

    name: str
    labels: dict[str, str]
    value: float
    family: str
    kind: str


def exported(folder: Path) -> list[Figure]:
    """All figures of one server, one sidecar and one operator. `folder` is the sidecar's journal's."""
    return [*_figures(_of_server(), POD), *_figures(_of_sidecar(folder), POD), *_figures(_of_operator(), OPERATOR)]


def names(folder: Path) -> set[str]:
    """Everything that can be asked for."""
    return {figure.name for figure in exported(folder)}


def _figures(text: str, target: dict[str, str]) -> Iterator[Figure]:
    for family in text_string_to_metric_families(text):
        assert family.samples, f"{family.name} has no value here: give it one"
        for sample in family.samples:
            yield Figure(sample.name, {**target, **sample.labels}, sample.value, family.name, family.type)


def _of_server() -> str:
    key = RevisionKey(VOICE, REVISION)
    counts = Counter({cell: 1 for cell in WorkerCell if cell >= WorkerCell.BUSY_NS})
    totals = Totals(
        revisions={key: _busy_counters(), RevisionKey(VOICE, "gone"): _busy_counters()},
        resident={key},
        died=Counter({key: 1}),
        counts=counts,
        batch_sizes=[1] * (len(BATCH_BUCKETS) + 1),
    )
    registry = CollectorRegistry()
    registry.register(Snapshot(totals, living=[_busy_worker()], ready=1, restarts=1))
    return generate_latest(registry).decode()


def _busy_counters() -> Counters:
    """One of everything, and one more that has not ended."""
    _, *others = Counters().cells
    return Counters((3, *(1 for _ in others)))


def _busy_worker() -> WorkerReading:
    return WorkerReading(
        pid=1,
        generation=1,
        created_ns=1,
        state=WorkerState.SERVING,
        heartbeat_ns=1,
        queued=1,
        busy_ns=1,
        cache_bytes=1,
        cache_entries=1,
        counts={},
        batch_sizes=(),
    )


def _of_sidecar(folder: Path) -> str:
    metrics, memory = Metrics(), HostMemory(1 << 20, spares=0)
    books = Books(Journal(folder / "journal.log"))
    collector = BooksCollector(
        books=books, memory=memory, roster=Roster(), pacer=Pacer(), silent_s=lambda: 1.0, prepared_bytes=lambda: 0
    )
    metrics.registry.register(collector)
    metrics.stores.inc()
    metrics.store_seconds.observe(0.0002)
    metrics.refusals.labels("StaleFence").inc()
    metrics.child_ended("fetch", "ok")
    metrics.rose("disk", 0.3)
    metrics.stayed_down("PoolFull")
    metrics.left("idle")
    try:
        return metrics.text().decode()
    finally:
        memory.close()


def _of_operator() -> str:
    """Only what is read of its parts is there."""
    parts = SimpleNamespace(
        api=SimpleNamespace(requests={("GET", 200): 5, ("PATCH", 409): 1, ("GET", 0): 1}),
        cluster=SimpleNamespace(
            seen=SimpleNamespace(bodies={VOICE: {"status": {"phase": "Watching"}}}), problems=lambda: ("one",)
        ),
        pods=SimpleNamespace(records=lambda: ("one",)),
        events=SimpleNamespace(posted=2, dropped=1),
        watching=SimpleNamespace(watches=(SimpleNamespace(name="pods"),), restarts=Counter(pods=1)),
        leading=lambda: True,
    )
    registry = registry_of(cast(Counted, parts))
    triggers = build_triggers(
        hooks=None, prometheus=None, voice_exists=lambda _: True, wake=lambda _: None, now=lambda: datetime.now(UTC)
    )
    triggers.calls.labels("200").inc()
    registry.register(triggers.calls)
    return generate_latest(registry).decode()
