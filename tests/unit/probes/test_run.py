"""The whole verification on real demo voices: honest versions pass, each way of being bad is refused by its gate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray
from tests.unit.probes.speech import CASES, RATE_HZ, BentVoice, baseline, clip, probe, reading, reference, voice

from segue.errors import SynthesisError, TextRejected
from segue_engines.probes import Case, Clip, ProbeReport, Thresholds, calibrated_similarity, run_probes

Audio = NDArray[np.float32]


def failed(report: ProbeReport) -> set[str]:
    return {gate.name for gate in report.gates if gate.passed is False}


def test_the_next_version_of_a_voice_passes_without_drifting_too_far() -> None:
    report = probe(voice("updates/narrator/v2"), active=baseline())
    assert report.passed, report.reasons
    assert report.similarity is not None
    assert report.similarity > 0.93
    assert not report.drifted, report.continuity


@pytest.mark.parametrize("name", ["aria", "cleo", "bert"])
def test_another_speaker_is_refused_by_similarity_only(name: str) -> None:
    report = probe(voice(f"voices/{name}/v1"), active=baseline())
    assert failed(report) == {"similarity"}


def test_the_broken_voice_sounds_right_and_is_refused_for_its_words() -> None:
    report = probe(voice("updates/narrator/broken"), active=baseline())
    assert report.similarity is not None
    assert report.similarity > 0.9
    assert failed(report) == {"textMatch", "passRatio", "textMatchAll"}


def _silent_middle(audio: Audio) -> Audio:
    half = audio.size // 2
    return np.concatenate([audio[:half], np.zeros(RATE_HZ, np.float32), audio[half:]])


def _with_nan(audio: Audio) -> Audio:
    audio[1000] = np.nan
    return audio


def _narrow(audio: Audio) -> Audio:
    return np.asarray(soxr.resample(soxr.resample(audio, RATE_HZ, 7000), 7000, RATE_HZ), dtype=np.float32)


@pytest.mark.parametrize(
    ("bend", "gate"),
    [
        (lambda audio: audio[::-1].copy(), "textMatch"),
        (lambda audio: np.concatenate([audio] * 3), "textMatch"),
        (lambda audio: np.concatenate([audio] * 3), "duration"),
        (lambda audio: audio[: int(0.6 * audio.size)], "textMatch"),
        (lambda audio: audio[: int(0.6 * audio.size)], "duration"),
        (np.zeros_like, "textMatch"),
        (np.zeros_like, "similarity"),
        (lambda audio: audio[:0], "synthesis"),
        (lambda audio: np.clip(audio * 12, -1, 1), "clipping"),
        (_silent_middle, "silence"),
        (lambda audio: np.concatenate([audio, np.zeros(RATE_HZ * 3 // 2, np.float32)]), "trailingSilence"),
        (_with_nan, "finite"),
        (_narrow, "bandwidth"),
    ],
)
def test_speech_that_is_spoilt_is_refused(bend: Callable[[Audio], Audio], gate: str) -> None:
    report = probe(BentVoice(bend=bend), active=baseline())
    assert not report.passed
    assert gate in failed(report)


@pytest.mark.parametrize(
    ("bend", "name"),
    [
        (lambda audio: audio * np.float32(10 ** (-3 / 20)), "loudness"),
        (lambda audio: soxr.resample(audio, RATE_HZ * 1.09, RATE_HZ), "pitch"),
    ],
)
def test_speech_that_is_only_different_is_held(bend: Callable[[Audio], Audio], name: str) -> None:
    report = probe(BentVoice(bend=bend), active=baseline())
    assert name in {gate.name for gate in report.continuity if gate.passed is False}


def test_the_same_voice_again_does_not_drift() -> None:
    report = probe(BentVoice(), active=baseline())
    assert report.passed
    assert all(gate.passed and abs(gate.figure or 0.0) < 1e-6 for gate in report.continuity)


def test_a_decoder_that_loops_or_runs_into_its_cap_is_refused() -> None:
    assert "loops" in failed(probe(BentVoice(tokens=[1, 2, 3, 4, 5, 6, 7, 8] * 5)))
    assert "cap" in failed(probe(BentVoice(capped=True)))


@pytest.mark.parametrize(
    "broken",
    [
        BentVoice(admit_error=TextRejected("cannot read that", span=(0, 3))),
        BentVoice(admit_error=ZeroDivisionError("an engine's bug")),
        BentVoice(row_error=SynthesisError("lost the thread")),
    ],
)
def test_what_the_engine_raises_is_in_the_report(broken: BentVoice) -> None:
    report = probe(broken)
    assert "synthesis" in failed(report)
    raised = broken.admit_error or broken.row_error
    assert all(case.error == f"{type(raised).__name__}: {raised}" for case in report.cases)
    assert all(row.closed for row in broken.rows)


def test_a_row_that_never_ends_is_cut_and_counts_as_capped() -> None:
    report = run_probes(BentVoice(never_ends=True), cases=CASES[:1], seeds=(1,))
    assert report.cases[0].capped


def test_too_little_speech_is_said_and_not_guessed() -> None:
    report = run_probes(BentVoice(), cases=CASES[:1], seeds=(1,), reference_audio=reference(), reference_rate=RATE_HZ)
    assert report.similarity is None
    assert "not enough audio" in report.reasons[0]


def test_every_case_is_spoken_with_every_seed_and_can_be_listened_to() -> None:
    heard: list[Clip] = []
    steps: list[tuple[int, int]] = []
    report = run_probes(
        BentVoice(),
        cases=CASES[:2],
        seeds=(5, 6, 7),
        progress=lambda done, total: steps.append((done, total)),
        on_audio=heard.append,
    )
    assert sorted((each.case.text, each.seed) for each in heard) == sorted(
        (case.text, seed) for case in CASES[:2] for seed in (5, 6, 7)
    )
    assert steps == [(done, 6) for done in range(1, 7)]
    assert [case.seed for case in report.cases] == [5, 5, 6, 6, 7, 7]


def test_without_scorers_naturalness_is_not_measured() -> None:
    report = run_probes(BentVoice(), cases=CASES[:1], seeds=(1,))
    said = {gate.name: gate for gate in report.gates}
    for name in ("naturalness", "wordErrorRate"):
        assert said[name].figure is None
        assert said[name].message == f"{name}: not measured, no scorer is set"


def test_an_automatic_limit_is_calibrated_from_the_reference() -> None:
    report = run_probes(
        BentVoice(),
        cases=CASES,
        seeds=(1,),
        reference_audio=reference(),
        reference_rate=RATE_HZ,
        thresholds=Thresholds(min_similarity=None),
    )
    limit = report.thresholds.min_similarity
    assert limit == calibrated_similarity(reference(), RATE_HZ)
    assert limit is not None
    assert 0.8 < limit < 0.97
    assert report.passed, report.reasons


def test_a_language_whose_phones_are_unknown_has_no_text_match() -> None:
    foreign = BentVoice(phones=["n", "i3", "h", "ao3"])
    report = run_probes(foreign, cases=[Case(clip().case.text, "zh")], seeds=(1,))
    assert report.cases[0].text_error_rate is None
    assert next(gate for gate in report.gates if gate.name == "textMatch").passed is None


def test_the_cases_hold_more_than_ten_seconds_of_speech() -> None:
    assert reading().size / RATE_HZ > 15
