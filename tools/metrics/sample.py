"""What each process exports when it has one of everything: its own collectors, over parts that are made up.

Separate from the table because tests of dashboards and alerts ask the same: does what is asked for exist?
"""

from __future__ import annotations

import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from prometheus_client import CollectorRegistry, generate_latest

from segue.memory.host import HostMemory
from segue.memory.messages import PartRef, VoiceName
from segue.memory.stats_layout import BATCH_BUCKETS, BUCKETS_S, WorkerCell, WorkerState
from segue.memory.stats_reader import Counters, WorkerReading
from segue.memory.voice_view import shared_part
from segue.wire import FileSource, Gate, ProbeKind, ProbePhase, ProbeReport, RevisionPhase, RevisionRequest
from segue_operator.kubernetes.metrics import ClusterCollector, Counted
from segue_operator.metrics import Overview, overview_registry
from segue_operator.tallies import Tallies
from segue_operator.triggers.wiring import build_triggers
from segue_operator.voice_figures import VoiceFigures
from segue_server.supervisor.ledger import RevisionKey
from segue_server.supervisor.metrics import Snapshot
from segue_server.supervisor.totals import Totals
from segue_server.supervisor.usage import Usage
from segue_sidecar.books import Books
from segue_sidecar.entries import ModelsEntry, RevisionEntry, Said
from segue_sidecar.journal import Journal
from segue_sidecar.metrics import BooksCollector, Metrics
from segue_sidecar.throttle import Pacer
from segue_sidecar.voice_metrics import VoicesCollector
from segue_sidecar.workers import Roster

VOICE, REVISION = "voices/narrator", "a" * 64
SOME_TIME_S = 1_795_000_000.0


def texts() -> dict[str, str]:
    """The exposition of `server`, `sidecar` and `operator`."""
    return {"server": server_text(), "sidecar": sidecar_text(), "operator": operator_text()}


def server_text() -> str:
    """A server with a worker that did one of everything, and a revision that is gone."""
    key = RevisionKey(VOICE, REVISION)
    counts = Counter({cell: 1 for cell in WorkerCell if cell >= WorkerCell.BUSY_NS})
    totals = Totals(
        revisions={key: busy_counters(), RevisionKey(VOICE, "gone"): busy_counters()},
        resident={key},
        died=Counter({key: 1}),
        counts=counts,
        batch_sizes=[1] * (len(BATCH_BUCKETS) + 1),
        queue_waits=[1] * (len(BUCKETS_S) + 1),
    )
    registry = CollectorRegistry()
    usage = {"w0": Usage(cpu_s=1.0, private_bytes=1, shared_bytes=1)}
    registry.register(Snapshot(totals, living=[_busy_worker()], ready=1, restarts=1, usage=usage))
    return generate_latest(registry).decode()


def sidecar_text() -> str:
    """A sidecar with one voice that was probed, and one of every command."""
    metrics, memory = Metrics(), HostMemory(1 << 20, spares=0)
    with tempfile.TemporaryDirectory() as folder:
        books = Books(Journal(Path(folder) / "journal.log"))
        _add_voice(books)
        hubert = PartRef(name=shared_part("hubert"), digest="c" * 64, size_bytes=1)
        books.models["gpt-sovits"] = ModelsEntry(engine="gpt-sovits", parts=(hubert,), absent={"roberta": "no file"})
        metrics.registry.register(
            BooksCollector(
                books=books,
                memory=memory,
                roster=Roster(),
                pacer=Pacer(),
                silent_s=lambda: 1.0,
                certificate_ends_s=lambda: SOME_TIME_S,
                prepared_bytes=lambda: 1,
            )
        )
        metrics.registry.register(VoicesCollector(books=books, in_a_row=lambda _voice, _revision: 7))
        metrics.stores.inc()
        metrics.store_seconds.observe(0.0002)
        metrics.refusals.labels("StaleFence").inc()
        metrics.child_ended("fetch", "ok")
        metrics.rose("disk", 0.3)
        metrics.stayed_down("PoolFull")
        metrics.left("idle")
        try:
            return generate_latest(metrics.registry).decode()
        finally:
            memory.close()


def operator_text() -> str:
    """An operator of a cluster with one voice in its watch; of its parts only what is read is there."""
    voice = VoiceFigures(
        key=VOICE, phase="Watching", phase_since_s=SOME_TIME_S, switched_s=SOME_TIME_S, rolled_back_s=SOME_TIME_S
    )
    tallies = Tallies()
    tallies.switches[VOICE] += 1
    tallies.rollbacks[VOICE] += 1
    tallies.reasons["AlertFiring"] += 1
    registry = overview_registry(
        Overview(
            leading=lambda: True,
            voices=lambda: (voice,),
            unusable=lambda: 1,
            pods=lambda: 1,
            unreachable=lambda: 1,
            tallies=tallies,
            certificate_ends_s=lambda: SOME_TIME_S,
        )
    )
    parts = SimpleNamespace(
        api=SimpleNamespace(requests={("GET", 200): 5, ("PATCH", 409): 1, ("GET", 0): 1}),
        events=SimpleNamespace(posted=2, dropped=1),
        watching=SimpleNamespace(watches=(SimpleNamespace(name="pods"),), restarts=Counter(pods=1)),
    )
    registry.register(ClusterCollector(cast(Counted, parts)))
    triggers = build_triggers(
        hooks=None, prometheus=None, voice_exists=lambda _: True, wake=lambda _: None, now=lambda: datetime.now(UTC)
    )
    triggers.calls.labels("200").inc()
    registry.register(triggers.calls)
    return generate_latest(registry).decode()


def busy_counters() -> Counters:
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
        queue_waits=(),
    )


def _add_voice(books: Books) -> None:
    namespace, _, name = VOICE.partition("/")
    voice = books.new_voice(VoiceName(namespace, name), uid="uid")
    voice.say(Said(active=REVISION))
    request = RevisionRequest(engine="demo", weights={"prosody": FileSource(uri="file:///w", sha256="0" * 64)})
    on_the_way = "b" * 64
    voice.revisions[on_the_way] = RevisionEntry(
        voice=voice.name, revision=on_the_way, request=request, phase=RevisionPhase.FETCHING, since_ns=1
    )
    voice.revisions[REVISION] = RevisionEntry(
        voice=voice.name,
        revision=REVISION,
        request=request,
        phase=RevisionPhase.READY,
        full=ProbeReport(
            key="key",
            kind=ProbeKind.FULL,
            phase=ProbePhase.PASSED,
            similarity=0.98,
            pass_ratio=1.0,
            gates=tuple(
                Gate(name=each, passed=True, figure=0.1)
                for each in ("textMatchAll", "naturalness", "speakerNetwork", "wordErrorRate")
            ),
            continuity=tuple(Gate(name=each, passed=True, figure=0.1) for each in ("loudness", "pitch", "pace")),
            finished_ns=1,
        ),
    )
