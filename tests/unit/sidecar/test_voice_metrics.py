"""What a pod tells of a voice, and that it ends with the voice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from segue.memory.messages import VoiceName
from segue.wire import FileSource, Gate, ProbeKind, ProbePhase, ProbeReport, RevisionPhase, RevisionRequest
from segue_sidecar.books import Books
from segue_sidecar.entries import RevisionEntry, Said, VoiceEntry
from segue_sidecar.journal import Journal
from segue_sidecar.records import read_voice, voice_record
from segue_sidecar.voice_metrics import VoicesCollector

OLD, NEW = "a" * 64, "b" * 64
SPEAKS = "segue_sidecar_speaks_since_timestamp_seconds"


class Pod:
    """Books with one voice, and what is told of it."""

    def __init__(self, folder: Path) -> None:
        self._journal = Journal(folder / "journal.log")
        self._journal.open()
        self.books = Books(self._journal)
        self.in_a_row: dict[tuple[str, str], int] = {}
        self.registry = CollectorRegistry()
        self.registry.register(VoicesCollector(books=self.books, in_a_row=lambda *owner: self.in_a_row.get(owner, 0)))
        self.voice = self.books.new_voice(VoiceName("default", "narrator"), uid="u")

    def add(self, revision: str, report: ProbeReport | None = None) -> RevisionEntry:
        source = FileSource(uri="file:///w", sha256="0" * 64)
        entry = RevisionEntry(
            voice=self.voice.name,
            revision=revision,
            request=RevisionRequest(engine="demo", weights={"prosody": source}),
            phase=RevisionPhase.READY,
            full=report,
        )
        self.voice.revisions[revision] = entry
        return entry

    def told(self, name: str) -> dict[str, float]:
        """Value by revision."""
        return {
            sample.labels["revision"]: sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == name and sample.labels["voice"] == "default/narrator"
        }

    def everything(self) -> list[str]:
        return [sample.name for family in self.registry.collect() for sample in family.samples]

    def close(self) -> None:
        self._journal.close()


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    made = Pod(tmp_path)
    yield made
    made.close()


def probed(**more: object) -> ProbeReport:
    fields = {"key": "k", "kind": ProbeKind.FULL, "phase": ProbePhase.PASSED, "similarity": 0.97, "finished_ns": 1}
    return ProbeReport.model_validate({**fields, **more})


def test_a_switch_ends_one_series_and_begins_another(pod: Pod) -> None:
    pod.voice.say(Said(active=OLD))
    (before_s,) = pod.told(SPEAKS).values()
    pod.voice.say(Said(active=OLD, candidate=NEW, weight=100))
    assert pod.told(SPEAKS) == {OLD[:10]: before_s}
    pod.voice.say(Said(active=NEW))
    (after_s,) = pod.told(SPEAKS).values()
    assert pod.told(SPEAKS).keys() == {NEW[:10]}
    assert after_s > before_s


def test_a_voice_that_nobody_speaks_has_no_series(pod: Pod) -> None:
    pod.voice.say(Said(active=OLD))
    pod.voice.say(Said())
    assert pod.told(SPEAKS) == {}


def test_since_when_a_revision_speaks_survives_a_restart(pod: Pod) -> None:
    pod.voice.say(Said(active=OLD))
    again: VoiceEntry = read_voice("default/narrator", voice_record(pod.voice))
    assert again.speaks_since_ns == pod.voice.speaks_since_ns > 0
    older = {name: value for name, value in voice_record(pod.voice).items() if name != "speaksSince"}
    assert read_voice("default/narrator", older).speaks_since_ns == 0


def test_successes_in_a_row_are_told_of_whom_listeners_hear(pod: Pod) -> None:
    pod.voice.say(Said(active=OLD, candidate=NEW, weight=100))
    pod.add("c" * 64)
    pod.in_a_row = {("default/narrator", OLD): 40, ("default/narrator", NEW): 3, ("default/narrator", "c" * 64): 9}
    assert pod.told("segue_sidecar_consecutive_successes") == {OLD[:10]: 40, NEW[:10]: 3}


def test_figures_of_a_full_probe_are_told_and_those_that_were_not_measured_are_not(pod: Pod) -> None:
    gates = (Gate(name="textMatchAll", passed=True, figure=0.02), Gate(name="naturalness", passed=None))
    pod.add(OLD, probed(pass_ratio=1.0, gates=gates, continuity=(Gate(name="pitch", passed=True, figure=-0.4),)))
    pod.add(NEW, probed(kind=ProbeKind.FULL, similarity=None))
    assert pod.told("segue_sidecar_probe_similarity") == {OLD[:10]: 0.97}
    assert pod.told("segue_sidecar_probe_text_error_ratio") == {OLD[:10]: 0.02}
    assert pod.told("segue_sidecar_probe_pitch_drift_semitones") == {OLD[:10]: -0.4}
    assert pod.told("segue_sidecar_probe_naturalness") == {}


def test_a_probe_that_is_under_way_tells_nothing(pod: Pod) -> None:
    pod.add(OLD, probed(phase=ProbePhase.RUNNING, finished_ns=None))
    assert pod.told("segue_sidecar_probe_similarity") == {}


def test_series_end_with_their_revision_and_their_voice(pod: Pod) -> None:
    entry = pod.add(OLD, probed())
    pod.add(NEW, probed())
    pod.voice.say(Said(active=NEW))
    pod.books.forget_revision(entry)
    assert pod.told("segue_sidecar_probe_similarity").keys() == {NEW[:10]}
    pod.books.forget_voice(pod.voice)
    assert pod.everything() == []
