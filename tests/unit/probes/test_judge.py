"""Figures against limits: what is refused, what is held, and what is only reported."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from segue_engines.probes import (
    BaselineFigures,
    CaseFigures,
    ProbeReport,
    ScoreFigure,
    Thresholds,
    VoiceFigures,
    judge,
)

GOOD_CASE = CaseFigures(
    text="One.",
    language="en",
    seed=1,
    seconds=2.0,
    phones=20,
    text_error_rate=0.05,
    seconds_per_phone=0.09,
    inner_silence_s=0.2,
    trailing_silence_s=0.1,
    clipped_share=0.0,
)
GOOD_VOICE = VoiceFigures(
    speech_s=20.0,
    reference_speech_s=15.0,
    similarity=0.97,
    text_error_rate=0.05,
    loudness_lufs=-20.0,
    pitch_hz=100.0,
    seconds_per_phone=0.09,
    rolloff_hz=7000.0,
    reference_rolloff_hz=7500.0,
)
ACTIVE = BaselineFigures(voice=GOOD_VOICE, seconds_per_phone_by_text={"One.": 0.09})


DEFAULT_THRESHOLDS = Thresholds()


def verdict(
    *cases: CaseFigures,
    voice: VoiceFigures = GOOD_VOICE,
    baseline: BaselineFigures | None = ACTIVE,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    has_reference: bool = True,
) -> ProbeReport:
    return judge(cases or (GOOD_CASE,), voice, baseline=baseline, thresholds=thresholds, has_reference=has_reference)


def gate(report: ProbeReport, name: str) -> Any:
    (found,) = [each for each in (*report.gates, *report.continuity) if each.name == name]
    return found


def test_a_good_voice_passes_and_says_no_reason() -> None:
    report = verdict()
    assert report.passed
    assert report.reasons == ()
    assert report.pass_ratio == 1.0
    assert not report.drifted


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"error": "SynthesisError: no"}, "synthesis"),
        ({"finite": False}, "finite"),
        ({"capped": True}, "cap"),
        ({"looped": True}, "loops"),
        ({"text_error_rate": 0.31}, "textMatch"),
        ({"seconds_per_phone": 0.062}, "duration"),
        ({"seconds_per_phone": 0.127}, "duration"),
        ({"inner_silence_s": 0.81}, "silence"),
        ({"trailing_silence_s": 1.01}, "trailingSilence"),
        ({"clipped_share": 0.0011}, "clipping"),
    ],
)
def test_one_bad_sentence_is_refused_by_its_gate(changed: dict[str, Any], name: str) -> None:
    report = verdict(GOOD_CASE, replace(GOOD_CASE, **changed))
    assert not report.passed
    assert report.cases[1].failed_gates == (name,)
    assert gate(report, name).passed is False
    assert gate(report, "passRatio").figure == 0.5
    assert any(reason.startswith(f"{name}: 1 of 2 sentences fail") for reason in report.reasons)


@pytest.mark.parametrize(
    "changed",
    [
        {"text_error_rate": 0.30},
        {"seconds_per_phone": 0.0631},
        {"seconds_per_phone": 0.1259},
        {"inner_silence_s": 0.8},
        {"trailing_silence_s": 1.0},
        {"clipped_share": 0.001},
    ],
)
def test_a_figure_at_its_limit_passes(changed: dict[str, Any]) -> None:
    assert verdict(replace(GOOD_CASE, **changed)).passed


@pytest.mark.parametrize(("bad", "passes"), [(1, True), (2, False)])
def test_the_pass_ratio_forgives_as_many_as_it_says(bad: int, passes: bool) -> None:
    cases = [GOOD_CASE] * (10 - bad) + [replace(GOOD_CASE, capped=True)] * bad
    assert verdict(*cases, thresholds=Thresholds(min_pass_ratio=0.9)).passed is passes


def test_a_stranger_is_refused_by_similarity_alone() -> None:
    report = verdict(voice=replace(GOOD_VOICE, similarity=0.6))
    assert report.reasons == ("similarity 0.600 to the reference, at least 0.9 is asked for",)


@pytest.mark.parametrize(
    ("voice", "message"),
    [
        (
            replace(GOOD_VOICE, similarity=None, speech_s=6.0),
            "6.0 s of speech in all cases where 10 s are needed; add verification cases",
        ),
        (
            replace(GOOD_VOICE, similarity=None, reference_speech_s=1.0),
            "1.0 s of speech in the reference where 3 s are needed; use a longer recording",
        ),
    ],
)
def test_what_cannot_be_proven_is_not_let_out(voice: VoiceFigures, message: str) -> None:
    report = verdict(voice=voice)
    assert not report.passed
    assert message in report.reasons[0]


def test_without_a_reference_similarity_is_not_judged() -> None:
    report = verdict(voice=replace(GOOD_VOICE, similarity=None), has_reference=False)
    assert report.passed
    assert gate(report, "similarity").passed is None


def test_text_errors_may_not_rise_by_more_than_ten_points_over_the_active() -> None:
    assert verdict(voice=replace(GOOD_VOICE, text_error_rate=0.14)).passed
    report = verdict(voice=replace(GOOD_VOICE, text_error_rate=0.16))
    assert report.reasons == (
        "textMatchAll: 16.0% phone errors over all sentences, limit 15.0%, the active revision makes 5.0%",
    )


def test_a_very_short_sentence_is_judged_with_the_others_only() -> None:
    short = replace(GOOD_CASE, phones=3, text_error_rate=1.0)
    assert verdict(GOOD_CASE, short).passed
    assert not verdict(short, voice=replace(GOOD_VOICE, text_error_rate=1.0), baseline=None).passed


def test_bandwidth_is_compared_with_the_active_first_and_with_the_reference_else() -> None:
    narrow = replace(GOOD_VOICE, rolloff_hz=5200.0)
    assert gate(verdict(voice=narrow), "bandwidth").passed is False
    assert gate(verdict(voice=narrow, baseline=None), "bandwidth").passed is True
    telephone = replace(GOOD_VOICE, rolloff_hz=3800.0)
    assert gate(verdict(voice=telephone, baseline=None), "bandwidth").passed is False


def test_a_first_revision_is_compared_with_nothing() -> None:
    report = verdict(baseline=None)
    assert report.passed
    assert report.continuity == ()
    assert gate(report, "duration").passed is None
    assert gate(report, "textMatchAll").limit == 0.3


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"loudness_lufs": -17.9}, "loudness"),
        ({"pitch_hz": 106.5}, "pitch"),
        ({"seconds_per_phone": 0.081}, "pace"),
    ],
)
def test_drift_is_held_and_not_refused(changed: dict[str, Any], name: str) -> None:
    report = verdict(voice=replace(GOOD_VOICE, **changed))
    assert report.passed
    assert report.drifted
    assert gate(report, name).passed is False
    assert sum(each.passed is False for each in report.continuity) == 1


def test_drift_without_a_limit_is_only_told() -> None:
    report = verdict(voice=replace(GOOD_VOICE, pitch_hz=200.0), thresholds=Thresholds(max_pitch_delta_st=None))
    assert not report.drifted
    assert gate(report, "pitch").figure == pytest.approx(12.0)


@pytest.mark.parametrize(
    ("score", "passed"),
    [
        (ScoreFigure(name="naturalness", figure=3.9, minimum=3.5), True),
        (ScoreFigure(name="naturalness", figure=3.4, minimum=3.5), False),
        (ScoreFigure(name="naturalness", figure=3.4), None),
        (ScoreFigure(name="naturalness", reason="no scorer is set", minimum=3.5), None),
        (ScoreFigure(name="wordErrorRate", figure=0.3, maximum=0.2), False),
    ],
)
def test_a_plugged_in_score_judges_only_where_it_was_measured_and_limited(score: ScoreFigure, passed: bool) -> None:
    report = verdict(voice=replace(GOOD_VOICE, scores=(score,)))
    assert gate(report, score.name).passed is passed
    assert report.passed is (passed is not False)


def test_a_missing_score_is_not_measured_and_never_a_figure() -> None:
    report = verdict(voice=replace(GOOD_VOICE, scores=(ScoreFigure(name="naturalness", reason="no scorer is set"),)))
    assert gate(report, "naturalness").figure is None
    assert gate(report, "naturalness").message == "naturalness: not measured, no scorer is set"


def test_no_sentence_at_all_is_refused() -> None:
    report = judge((), VoiceFigures(), baseline=None, thresholds=Thresholds(), has_reference=False)
    assert not report.passed
    assert report.pass_ratio == 0.0


def test_a_report_survives_json() -> None:
    report = verdict(
        GOOD_CASE,
        replace(GOOD_CASE, error="x", text_error_rate=None),
        voice=replace(GOOD_VOICE, scores=(ScoreFigure(name="naturalness", figure=4.0, minimum=3.0),)),
    )
    assert ProbeReport.from_json(json.loads(json.dumps(report.to_json()))) == report
    kept = report.baseline()
    assert BaselineFigures.from_json(json.loads(json.dumps(kept.to_json()))) == kept
