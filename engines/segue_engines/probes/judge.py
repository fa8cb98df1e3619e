"""May this revision speak? Figures against limits.

Pure and separate from the measuring: a limit can be changed and judged again without speaking a word, and a test can
write down the figures it wants to see refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from segue_engines.probes.figures import (
    BaselineFigures,
    CaseFigures,
    GateResult,
    ProbeReport,
    ScoreFigure,
    Thresholds,
    VoiceFigures,
)
from segue_engines.probes.measure import MIN_REFERENCE_S
from segue_engines.probes.pitch import semitones
from segue_engines.probes.speaker import MIN_SPEECH_S

MIN_TEXT_PHONES = 12
"""A shorter sentence is judged with the others only: in "Yes." one misheard phone is a third."""
_TEXT_UNIT = "errors/phone"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseGate:
    """A gate that each sentence passes by itself.

    Attributes
    ----------
    figure
        What is compared, `None` where it could not be measured.
    passes
        Whether a figure is good.
    worst
        Which of two figures is the worse one, for the report.
    """

    name: str
    unit: str
    limit: float
    figure: Callable[[CaseFigures], float | None]
    passes: Callable[[float], bool]
    worst: Callable[[Sequence[float]], float] = max


def judge(
    cases: Sequence[CaseFigures],
    voice: VoiceFigures,
    *,
    baseline: BaselineFigures | None,
    thresholds: Thresholds,
    has_reference: bool,
) -> ProbeReport:
    """Weigh figures against limits.

    Parameters
    ----------
    cases
        One entry per (case, seed).
    baseline
        The active revision's figures; `None` for a first revision, which is compared with nothing.
    has_reference
        Whether there is a recording to be similar to; if so, a similarity that cannot be measured fails.
    """
    gates = _case_gates(thresholds, baseline)
    judged = tuple(replace(case, failed_gates=_failed(case, gates)) for case in cases)
    ratio = sum(not case.failed_gates for case in judged) / len(judged) if judged else 0.0
    results = (
        _similarity_gate(voice, thresholds, has_reference=has_reference),
        _pass_ratio_gate(judged, ratio, thresholds),
        *(_summary(gate, judged, thresholds) for gate in gates),
        _all_text_gate(voice, baseline, thresholds),
        _bandwidth_gate(voice, baseline, thresholds),
        *(_score_gate(score) for score in voice.scores),
    )
    reasons = tuple(gate.message for gate in results if gate.passed is False)
    return ProbeReport(
        passed=not reasons,
        pass_ratio=ratio,
        voice=voice,
        cases=judged,
        gates=results,
        continuity=_continuity(voice, baseline, thresholds),
        reasons=reasons,
        thresholds=thresholds,
        synthesis_s=sum(case.synthesis_s for case in judged),
    )


def _case_gates(limits: Thresholds, baseline: BaselineFigures | None) -> tuple[CaseGate, ...]:
    def ratio(case: CaseFigures) -> float | None:
        return _duration_ratio(case, baseline)

    def fault(name: str, of: Callable[[CaseFigures], bool]) -> CaseGate:
        return CaseGate(
            name=name, unit="fault", limit=0, figure=lambda case: float(of(case)), passes=lambda count: not count
        )

    def at_most(name: str, unit: str, limit: float, figure: Callable[[CaseFigures], float | None]) -> CaseGate:
        return CaseGate(name=name, unit=unit, limit=limit, figure=figure, passes=lambda value: value <= limit)

    return (
        fault("synthesis", lambda case: case.error is not None),
        fault("finite", lambda case: not case.finite),
        fault("cap", lambda case: case.capped),
        fault("loops", lambda case: case.looped),
        at_most("textMatch", _TEXT_UNIT, limits.max_text_error_rate, _text_error_rate),
        CaseGate(
            name="duration",
            unit="x active",
            limit=limits.max_duration_ratio,
            figure=ratio,
            passes=lambda value: limits.min_duration_ratio <= value <= limits.max_duration_ratio,
            worst=lambda values: max(values, key=lambda value: max(value, 1 / max(value, 1e-6))),
        ),
        at_most("silence", "s", limits.max_inner_silence_s, lambda case: case.inner_silence_s),
        at_most("trailingSilence", "s", limits.max_trailing_silence_s, lambda case: case.trailing_silence_s),
        at_most("clipping", "of samples", limits.max_clipped_share, lambda case: case.clipped_share),
    )


def _text_error_rate(case: CaseFigures) -> float | None:
    return case.text_error_rate if case.phones >= MIN_TEXT_PHONES else None


def _duration_ratio(case: CaseFigures, baseline: BaselineFigures | None) -> float | None:
    if baseline is None or case.seconds_per_phone is None:
        return None
    active = baseline.seconds_per_phone_by_text.get(case.text, baseline.voice.seconds_per_phone)
    return case.seconds_per_phone / active if active else None


def _failed(case: CaseFigures, gates: Sequence[CaseGate]) -> tuple[str, ...]:
    figures = ((gate, gate.figure(case)) for gate in gates)
    return tuple(gate.name for gate, figure in figures if figure is not None and not gate.passes(figure))


def _summary(gate: CaseGate, cases: Sequence[CaseFigures], limits: Thresholds) -> GateResult:
    figures = [figure for case in cases if (figure := gate.figure(case)) is not None]
    if not figures:
        return GateResult(name=gate.name, passed=None, limit=gate.limit, unit=gate.unit, message=_unmeasured(gate.name))
    failing = [case for case in cases if gate.name in case.failed_gates]
    worst = gate.worst(figures)
    passed = (len(cases) - len(failing)) / len(cases) >= limits.min_pass_ratio
    message = f"{gate.name}: {len(failing)} of {len(cases)} sentences fail"
    if failing:
        shown = failing[0].error or f"worst {worst:.3g} {gate.unit}, limit {gate.limit:.3g}"
        message += f" ({shown}), such as {failing[0].text[:60]!r} with seed {failing[0].seed}"
    return GateResult(name=gate.name, passed=passed, figure=worst, limit=gate.limit, unit=gate.unit, message=message)


def _unmeasured(name: str) -> str:
    text = "the recogniser knows English phones only; set a transcription scorer"
    reasons = {
        "textMatch": f"no sentence has {MIN_TEXT_PHONES} phones, or {text}",
        "textMatchAll": text,
        "duration": "there is no active revision to compare with",
    }
    return f"{name}: not measured, {reasons.get(name, 'there was no audio to listen to')}"


def _similarity_gate(voice: VoiceFigures, limits: Thresholds, *, has_reference: bool) -> GateResult:
    limit = limits.min_similarity
    if not has_reference or limit is None:
        why = "there is no limit" if has_reference else "there is no reference recording"
        return GateResult(
            name="similarity", passed=None, figure=voice.similarity, message=f"similarity: not judged, {why}"
        )
    if voice.similarity is None:
        short = voice.speech_s < MIN_SPEECH_S
        what, heard, least, advice = (
            ("all cases", voice.speech_s, MIN_SPEECH_S, "add verification cases")
            if short
            else ("the reference", voice.reference_speech_s or 0.0, MIN_REFERENCE_S, "use a longer recording")
        )
        message = (
            f"similarity: not enough audio, {heard:.1f} s of speech in {what} where {least:.0f} s are needed; {advice}"
        )
        return GateResult(name="similarity", passed=False, limit=limit, message=message)
    passed = voice.similarity >= limit
    message = f"similarity {voice.similarity:.3f} to the reference, at least {limit:.3g} is asked for"
    return GateResult(name="similarity", passed=passed, figure=voice.similarity, limit=limit, message=message)


def _pass_ratio_gate(cases: Sequence[CaseFigures], ratio: float, limits: Thresholds) -> GateResult:
    good = sum(not case.failed_gates for case in cases)
    return GateResult(
        name="passRatio",
        passed=ratio >= limits.min_pass_ratio,
        figure=ratio,
        limit=limits.min_pass_ratio,
        message=f"{good} of {len(cases)} sentences pass all their gates, {limits.min_pass_ratio:.0%} are asked for",
    )


def _all_text_gate(voice: VoiceFigures, baseline: BaselineFigures | None, limits: Thresholds) -> GateResult:
    """All sentences together: one sentence has too few phones to tell ten percent from chance."""
    name, rate = "textMatchAll", voice.text_error_rate
    active = baseline.voice.text_error_rate if baseline else None
    rise = limits.max_text_error_rate if active is None else active + limits.max_text_error_rise
    limit = min(limits.max_text_error_rate, rise)
    if rate is None:
        return GateResult(name=name, passed=None, limit=limit, unit=_TEXT_UNIT, message=_unmeasured(name))
    message = f"{name}: {rate:.1%} phone errors over all sentences, limit {limit:.1%}"
    if active is not None:
        message += f", the active revision makes {active:.1%}"
    return GateResult(name=name, passed=rate <= limit, figure=rate, limit=limit, unit=_TEXT_UNIT, message=message)


def _bandwidth_gate(voice: VoiceFigures, baseline: BaselineFigures | None, limits: Thresholds) -> GateResult:
    active = baseline.voice.rolloff_hz if baseline else None
    before, loss, whose = (
        (active, limits.max_bandwidth_loss, "the active revision's")
        if active
        else (voice.reference_rolloff_hz, limits.max_bandwidth_loss_to_reference, "the reference's")
    )
    if voice.rolloff_hz is None or before is None:
        message = "bandwidth: not measured, there is nothing to compare with"
        return GateResult(name="bandwidth", passed=None, unit="Hz", message=message)
    limit = before * (1 - loss)
    return GateResult(
        name="bandwidth",
        passed=voice.rolloff_hz >= limit,
        figure=voice.rolloff_hz,
        limit=limit,
        unit="Hz",
        message=f"95 % of the energy lies below {voice.rolloff_hz:.0f} Hz, {whose} below {before:.0f} Hz",
    )


def _score_gate(score: ScoreFigure) -> GateResult:
    limit = score.minimum if score.minimum is not None else score.maximum
    if score.figure is None:
        message = f"{score.name}: not measured, {score.reason}"
        return GateResult(name=score.name, passed=None, limit=limit, message=message)
    low = score.minimum is not None and score.figure < score.minimum
    high = score.maximum is not None and score.figure > score.maximum
    return GateResult(
        name=score.name,
        passed=None if limit is None else not (low or high),
        figure=score.figure,
        limit=limit,
        message=f"{score.name} {score.figure:.3g}" + ("" if limit is None else f", limit {limit:.3g}"),
    )


def _continuity(voice: VoiceFigures, baseline: BaselineFigures | None, limits: Thresholds) -> tuple[GateResult, ...]:
    if baseline is None:
        return ()
    active = baseline.voice
    loudness = _difference(voice.loudness_lufs, active.loudness_lufs, lambda new, old: new - old)
    pitch = _difference(voice.pitch_hz, active.pitch_hz, semitones)
    pace = _difference(voice.seconds_per_phone, active.seconds_per_phone, lambda new, old: old / new - 1)
    return (
        _drift("loudness", loudness, limits.max_loudness_delta_lu, unit="LU"),
        _drift("pitch", pitch, limits.max_pitch_delta_st, unit="st"),
        _drift("pace", pace, limits.max_pace_delta, unit="fraction"),
    )


def _difference(new: float | None, old: float | None, of: Callable[[float, float], float]) -> float | None:
    return of(new, old) if new and old else None


def _drift(name: str, delta: float | None, limit: float | None, *, unit: str) -> GateResult:
    if delta is None:
        message = f"{name}: not measured, one of the revisions has no such figure"
        return GateResult(name=name, passed=None, limit=limit, unit=unit, message=message)
    shown = f"{delta:+.1%}" if unit == "fraction" else f"{delta:+.2f} {unit}"
    message = f"{name} {shown} against the active revision" + ("" if limit is None else f", limit {limit:g}")
    passed = None if limit is None else abs(delta) <= limit
    return GateResult(name=name, passed=passed, figure=delta, limit=limit, unit=unit, message=message)
