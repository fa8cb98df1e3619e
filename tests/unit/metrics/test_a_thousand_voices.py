"""With a thousand voices a scrape stays small and quick, and holds up no loop while it is written."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from tools.metrics.sample import busy_counters
from typing_extensions import override

from segue.exposition import exposition
from segue.memory.messages import VoiceName
from segue.memory.stats_layout import RowCell
from segue.memory.stats_reader import Counters
from segue.wire import FileSource, ProbeKind, ProbePhase, ProbeReport, RevisionPhase, RevisionRequest
from segue_operator.metrics import Overview, overview_registry
from segue_operator.tallies import Tallies
from segue_operator.voice_figures import VoiceFigures
from segue_server.supervisor.ledger import RevisionKey
from segue_server.supervisor.metrics import Snapshot
from segue_server.supervisor.totals import Totals
from segue_sidecar.books import Books
from segue_sidecar.entries import RevisionEntry, Said
from segue_sidecar.journal import Journal
from segue_sidecar.voice_metrics import VoicesCollector

VOICES = 1000
MOST_BYTES = 5_000_000
MOST_CPU_S = 1.0


def revision(number: int) -> str:
    return f"{number * 7919 + 1:08x}" * 8


def server(_folder: Path) -> CollectorRegistry:
    """One revision of each that is spoken, and one that was let go: a worker has room for 1,024."""
    keys = [
        RevisionKey(f"team-{number % 50:02d}/voice-number-{number:04d}", revision(number)) for number in range(VOICES)
    ]
    gone = [RevisionKey(key.voice, "e" + key.revision[1:]) for key in keys]
    totals = Totals(
        revisions={**dict.fromkeys(keys, busy_counters()), **dict.fromkeys(gone, _spoke_and_failed())},
        resident=set(keys),
        died=Counter(),
        counts=Counter(),
    )
    registry = CollectorRegistry()
    registry.register(Snapshot(totals, living=[], ready=1, restarts=0, usage={}))
    return registry


def _spoke_and_failed() -> Counters:
    """What is over ended in two or three ways, not in all nine."""
    kinds = {RowCell.SUCCESSES, RowCell.EXCEPTION, RowCell.CANCELLED, RowCell.AUDIO_MS}
    cells = range(RowCell.ADMITTED, RowCell.ADMITTED + len(Counters().cells))
    return Counters(tuple(int(cell in kinds) for cell in cells))


def sidecar(folder: Path) -> CollectorRegistry:
    """Two revisions of each, both probed."""
    journal = Journal(folder / "journal.log")
    journal.open()
    books = Books(journal)
    request = RevisionRequest(engine="demo", weights={"p": FileSource(uri="file:///w", sha256="0" * 64)})
    report = ProbeReport(
        key="k", kind=ProbeKind.FULL, phase=ProbePhase.PASSED, similarity=0.9, pass_ratio=1.0, finished_ns=1
    )
    for number in range(VOICES):
        voice = books.new_voice(VoiceName(f"team-{number % 50:02d}", f"voice-number-{number:04d}"), uid="u")
        voice.say(Said(active=revision(number)))
        for each in (revision(number), revision(number + VOICES)):
            voice.revisions[each] = RevisionEntry(
                voice=voice.name, revision=each, request=request, phase=RevisionPhase.READY, full=report
            )
    journal.close()
    registry = CollectorRegistry()
    registry.register(VoicesCollector(books=books, in_a_row=lambda _voice, _revision: 7))
    return registry


def operator(_folder: Path) -> CollectorRegistry:
    """All of them in a rollout, which is the most that is told of one."""
    voices = [
        VoiceFigures(
            key=f"team-{number % 50:02d}/voice-number-{number:04d}",
            phase="Watching",
            phase_since_s=1.0,
            switched_s=1.0,
            rolled_back_s=1.0,
        )
        for number in range(VOICES)
    ]
    return overview_registry(
        Overview(
            leading=lambda: True,
            voices=lambda: voices,
            unusable=lambda: 0,
            pods=lambda: 1,
            unreachable=lambda: 0,
            tallies=Tallies(),
        )
    )


@pytest.mark.parametrize("make", [server, sidecar, operator], ids=["server", "sidecar", "operator"])
def test_a_scrape_is_small_and_quick(make: Callable[[Path], CollectorRegistry], tmp_path: Path) -> None:
    registry = make(tmp_path)
    began_s = time.process_time()
    text = asyncio.run(exposition(registry))
    took_s = time.process_time() - began_s
    assert text.count(b"voice=") >= VOICES
    assert len(text) < MOST_BYTES
    assert took_s < MOST_CPU_S


class _Parts(Collector):
    """Says in which thread it was asked."""

    def __init__(self) -> None:
        self.asked_in: list[int] = []

    @override
    def collect(self) -> Iterable[Metric]:
        self.asked_in.append(threading.get_ident())
        return [GaugeMetricFamily("a", "A gauge.", value=len(self.asked_in))]


def test_figures_are_collected_on_the_loop_and_written_elsewhere() -> None:
    """Books belong to the loop: a thread would see them half changed."""
    registry, parts = CollectorRegistry(), _Parts()
    registry.register(parts)
    Gauge("b", "Another.", registry=registry).set(3)
    parts.asked_in.clear()
    text = asyncio.run(exposition(registry)).decode()
    assert parts.asked_in == [threading.get_ident()]
    assert "a 1.0" in text
    assert "b 3.0" in text
