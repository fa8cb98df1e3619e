"""From audio to figures: each utterance by itself, then all of them together.

Pure: audio and phones in, figures out, no engine and no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segue_engines.probes.cases import Case
from segue_engines.probes.figures import CaseFigures, ScoreFigure, VoiceFigures
from segue_engines.probes.loops import looped
from segue_engines.probes.loudness import integrated_loudness
from segue_engines.probes.phone_features import PAUSES
from segue_engines.probes.pitch import median_pitch_hz
from segue_engines.probes.recogniser import covers, phone_error_rate
from segue_engines.probes.signal_faults import clipped_share, is_finite, rolloff_hz
from segue_engines.probes.silence import speech_span
from segue_engines.probes.speaker import MIN_SPEECH_S, embed, similarity, speech_only
from segue_engines.probes.spectrum import SPEECH_RATE_HZ, Audio, at_rate

MIN_REFERENCE_S = 3.0
"""Less speech than this says too little about who speaks."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clip:
    """One utterance as the engine made it.

    Attributes
    ----------
    audio
        `(samples,) float32`, mono; empty when the engine failed.
    phones
        What the front end made of the text.
    tokens
        The decoder's.
    error
        What the engine raised.
    """

    case: Case
    seed: int
    audio: Audio
    sample_rate: int
    phones: Sequence[str] = ()
    tokens: Sequence[int] = ()
    capped: bool = False
    error: str | None = None
    synthesis_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reference:
    """Who it should sound like, measured once.

    Attributes
    ----------
    embedding
        `(256,) float32`.
    speech_s
        Seconds of speech in the recording.
    """

    embedding: NDArray[np.float32]
    speech_s: float
    rolloff_hz: float | None


def measure_reference(audio: Audio, sample_rate: int) -> Reference:
    """Measure a reference recording: `(samples,) float32`, mono, finite."""
    return Reference(
        embedding=embed(audio, sample_rate),
        speech_s=_speech_s(audio, sample_rate),
        rolloff_hz=rolloff_hz(audio, sample_rate),
    )


def measure_clip(clip: Clip) -> CaseFigures:
    """Measure one utterance. An utterance with samples that are no numbers is measured no further."""
    phones = sum(phone not in PAUSES for phone in clip.phones)
    error = clip.error or ("no audio" if not clip.audio.size else None)
    figures = CaseFigures(
        text=clip.case.text,
        language=clip.case.language,
        seed=clip.seed,
        error=error,
        seconds=clip.audio.size / clip.sample_rate,
        phones=phones,
        finite=is_finite(clip.audio),
        capped=clip.capped,
        looped=looped(clip.tokens, clip.phones),
        synthesis_s=clip.synthesis_s,
    )
    return figures if error or not figures.finite else _listened(figures, clip)


def _listened(figures: CaseFigures, clip: Clip) -> CaseFigures:
    span = speech_span(clip.audio, clip.sample_rate)
    known = covers(clip.phones)
    return CaseFigures(
        text=figures.text,
        language=figures.language,
        seed=figures.seed,
        seconds=figures.seconds,
        phones=figures.phones,
        capped=figures.capped,
        looped=figures.looped,
        synthesis_s=figures.synthesis_s,
        text_error_rate=phone_error_rate(clip.audio, clip.sample_rate, clip.phones) if known else None,
        seconds_per_phone=span.spoken_s / figures.phones if figures.phones else None,
        inner_silence_s=span.inner_silence_s,
        trailing_silence_s=span.trailing_silence_s,
        clipped_share=clipped_share(clip.audio),
    )


def measure_voice(
    clips: Sequence[Clip],
    cases: Sequence[CaseFigures],
    *,
    reference: Reference | None,
    scores: tuple[ScoreFigure, ...] = (),
) -> VoiceFigures:
    """Measure all utterances together; those that failed or are not finite are left out."""
    sound = [clip.audio for clip in clips if clip.audio.size and is_finite(clip.audio)]
    if not sound:
        return VoiceFigures(scores=scores, reference_speech_s=reference.speech_s if reference else None)
    rate = clips[0].sample_rate
    whole = np.concatenate(sound)
    speech_s = _speech_s(whole, rate)
    return VoiceFigures(
        speech_s=speech_s,
        reference_speech_s=reference.speech_s if reference else None,
        similarity=_similarity(whole, rate, speech_s, reference),
        text_error_rate=_mean_by_phones(cases, [case.text_error_rate for case in cases]),
        loudness_lufs=integrated_loudness(whole, rate),
        pitch_hz=median_pitch_hz(whole, rate),
        seconds_per_phone=_mean_by_phones(cases, [case.seconds_per_phone for case in cases]),
        rolloff_hz=rolloff_hz(whole, rate),
        reference_rolloff_hz=reference.rolloff_hz if reference else None,
        scores=scores,
    )


def _similarity(audio: Audio, sample_rate: int, speech_s: float, reference: Reference | None) -> float | None:
    if reference is None or speech_s < MIN_SPEECH_S or reference.speech_s < MIN_REFERENCE_S:
        return None
    return similarity(embed(audio, sample_rate), reference.embedding)


def _speech_s(audio: Audio, sample_rate: int) -> float:
    return speech_only(at_rate(audio, sample_rate)).size / SPEECH_RATE_HZ


def _mean_by_phones(cases: Sequence[CaseFigures], figures: Sequence[float | None]) -> float | None:
    """Mean weighted by phones, over the sentences that have the figure."""
    pairs = [(figure, case.phones) for case, figure in zip(cases, figures, strict=True) if figure is not None]
    total = sum(phones for _, phones in pairs)
    return sum(figure * phones for figure, phones in pairs) / total if total else None
