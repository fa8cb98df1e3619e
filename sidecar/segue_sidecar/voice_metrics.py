"""What a pod tells of each voice: since when it speaks which revision, how that does, and what its probe measured.

Separate from the pod's own figures because these have labels that grow with the voices: one series of each kind for a
revision that is on this pod, and none for one that is not any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from segue.wire import Gate, ProbeReport
from segue_sidecar.books import Books
from segue_sidecar.entries import RevisionEntry

SHOWN_DIGITS = 10
LABELS = ("voice", "revision")

_GATES: Mapping[str, tuple[str, str]] = {
    "textMatchAll": ("segue_sidecar_probe_text_error_ratio", "Misread phones of all sentences, by phone."),
    "naturalness": ("segue_sidecar_probe_naturalness", "What a scorer says; only where one is set."),
    "speakerNetwork": (
        "segue_sidecar_probe_speaker_network_similarity",
        "How alike the speaker was to the reference (cosine) for the network that the voice itself carries.",
    ),
    "wordErrorRate": ("segue_sidecar_probe_word_error_ratio", "What a scorer says; only where one is set."),
}
_DRIFTS: Mapping[str, tuple[str, str]] = {
    "loudness": ("segue_sidecar_probe_loudness_drift_lu", "Louder than the revision before, in LU."),
    "pitch": ("segue_sidecar_probe_pitch_drift_semitones", "Higher than the revision before, in semitones."),
    "pace": ("segue_sidecar_probe_pace_drift_ratio", "Faster than the revision before; 0.1 is 10 %."),
}


class VoicesCollector(Collector):
    """By voice and revision, as the books have them now."""

    def __init__(self, *, books: Books, in_a_row: Callable[[str, str], int]) -> None:
        """`in_a_row` tells the successes of a revision since its latest error."""
        self._books = books
        self._in_a_row = in_a_row

    @override
    def collect(self) -> Iterable[Metric]:
        yield self._speaking()
        yield self._successes()
        yield from self._probed()

    def _speaking(self) -> Metric:
        family = _family(
            "segue_sidecar_speaks_since_timestamp_seconds",
            "Since when this pod speaks a voice with this revision; a switch is a new series.",
        )
        for name, voice in self._books.voices.items():
            if voice.said.active is not None:
                family.add_metric([name, voice.said.active[:SHOWN_DIGITS]], voice.speaks_since_ns / 1e9)
        return family

    def _successes(self) -> Metric:
        family = _family(
            "segue_sidecar_consecutive_successes",
            "Requests that succeeded since a revision's latest error or the sidecar's start, copies included.",
        )
        for name, voice in self._books.voices.items():
            for revision in {voice.said.active, voice.said.candidate} - {None}:
                assert revision is not None
                family.add_metric([name, revision[:SHOWN_DIGITS]], self._in_a_row(name, revision))
        return family

    def _probed(self) -> Iterator[Metric]:
        similarity = _family(
            "segue_sidecar_probe_similarity", "How alike the speaker was to the reference (cosine), when probed."
        )
        passed = _family("segue_sidecar_probe_pass_ratio", "Sentences of the probe that passed every gate.")
        others = {name: _family(*about) for name, about in {**_GATES, **_DRIFTS}.items()}
        for entry, report in self._reports():
            labels = [str(entry.voice), entry.revision[:SHOWN_DIGITS]]
            _add(similarity, labels, report.similarity)
            _add(passed, labels, report.pass_ratio)
            for gate in _named(report.gates, _GATES):
                _add(others[gate.name], labels, gate.figure)
            for drift in _named(report.continuity, _DRIFTS):
                _add(others[drift.name], labels, drift.figure)
        yield from (similarity, passed, *others.values())

    def _reports(self) -> Iterator[tuple[RevisionEntry, ProbeReport]]:
        """Full ones: a sentence says little in figures."""
        for entry in self._books.revisions():
            if entry.full is not None and entry.full.finished_ns is not None:
                yield entry, entry.full


def _named(gates: Iterable[Gate], wanted: Mapping[str, tuple[str, str]]) -> Iterator[Gate]:
    return (gate for gate in gates if gate.name in wanted)


def _family(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=list(LABELS))


def _add(family: GaugeMetricFamily, labels: list[str], figure: float | None) -> None:
    if figure is not None:
        family.add_metric(labels, figure)
