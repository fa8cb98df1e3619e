"""What the sidecar tells of its revisions: one that rests is not on its way."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry

from segue.memory.host import HostMemory
from segue.memory.messages import VoiceName
from segue.wire import FileSource, RevisionPhase, RevisionRequest
from segue_sidecar.books import Books
from segue_sidecar.entries import RevisionEntry
from segue_sidecar.journal import Journal
from segue_sidecar.metrics import BooksCollector
from segue_sidecar.throttle import Pacer
from segue_sidecar.workers import Roster

OLDEST = "segue_sidecar_revision_oldest_seconds"


def test_a_voice_at_rest_is_no_preload_that_hangs(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.log")
    journal.open()
    books, memory = Books(journal), HostMemory(1 << 20, spares=0)
    voice = books.new_voice(VoiceName("default", "narrator"), uid="uid")
    request = RevisionRequest(engine="demo", weights={"prosody": FileSource(uri="file:///w", sha256="0" * 64)})
    phases = (RevisionPhase.COLD, RevisionPhase.WARM, RevisionPhase.READY, RevisionPhase.FAILED, RevisionPhase.FETCHING)
    for number, phase in enumerate(phases):
        name = f"{number}" * 64
        voice.revisions[name] = RevisionEntry(voice=voice.name, revision=name, request=request, phase=phase, since_ns=1)
    registry = CollectorRegistry()
    registry.register(
        BooksCollector(
            books=books,
            memory=memory,
            roster=Roster(),
            pacer=Pacer(),
            silent_s=lambda: 0.0,
            certificate_ends_s=lambda: None,
            prepared_bytes=lambda: 0,
        )
    )
    told = {
        sample.labels["phase"]: sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == OLDEST
    }
    assert [phase for phase, seconds in told.items() if seconds > 0] == ["Fetching"]
    memory.close()
    journal.close()
