"""Run the probes on a built voice: speak every case with every seed, measure, judge.

The only module here that drives an engine and reads a clock.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from segue.engine import Row, SynthesisRequest, Synthesizer
from segue_engines.probes.calibrate import NotEnoughAudio, builtin_voices, calibrate, pieces_of
from segue_engines.probes.cases import Case
from segue_engines.probes.figures import BaselineFigures, CaseFigures, ProbeReport, Thresholds
from segue_engines.probes.judge import judge
from segue_engines.probes.measure import Clip, measure_clip, measure_reference, measure_voice
from segue_engines.probes.scorers import Scorer, SpokenText, score_all
from segue_engines.probes.speaker_network import speaker_network_score
from segue_engines.probes.spectrum import Audio

logger = logging.getLogger(__name__)

DEFAULT_SEEDS: Final = (1, 2, 3)
"""Three: engines that sample fail at random, and one good draw proves little."""
DEFAULT_THRESHOLDS: Final = Thresholds()
FALLBACK_SIMILARITY: Final = 0.9
_MAX_UTTERANCE_S: Final = 180.0
_MAX_STEPS: Final = 20_000


def run_probes(
    synthesizer: Synthesizer,
    *,
    cases: Sequence[Case],
    seeds: Sequence[int] = DEFAULT_SEEDS,
    reference_audio: Audio | None = None,
    reference_rate: int = 0,
    baseline: BaselineFigures | None = None,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    progress: Callable[[int, int], None] | None = None,
    scorers: Sequence[Scorer] = (),
    min_speaker_network: float | None = None,
    on_audio: Callable[[Clip], None] | None = None,
) -> ProbeReport:
    """Prove a voice on real sentences.

    Parameters
    ----------
    synthesizer
        Owned by the calling thread for the whole call.
    cases, seeds
        Every case is spoken with every seed.
    reference_audio, reference_rate
        The recording to be similar to: `(samples,) float32`, mono, Hz. `None`: similarity is not judged.
    baseline
        The active revision's figures (`ProbeReport.baseline()` of its own run); `None` for a first revision.
    thresholds
        `min_similarity=None` is replaced by a value calibrated from the reference.
    progress
        Called with (utterances done, utterances in all).
    scorers
        Plugged-in judges; see `segue_engines.probes.scorers`.
    min_speaker_network
        Least cosine to the reference by the network that the voice itself carries, where it carries one
        (`segue_engines.probes.speaker_network`); `None`: shown, not judged.
    on_audio
        Gets each utterance as it is made, for listening.

    Returns
    -------
    ProbeReport
        A voice that cannot speak gives a report that says so; this raises nothing of the engine's.
    """
    clips: list[Clip] = []
    figures: list[CaseFigures] = []
    began = time.perf_counter()
    for case, seed in ((case, seed) for seed in seeds for case in cases):
        clip = speak(synthesizer, case, seed)
        if on_audio is not None:
            on_audio(clip)
        clips.append(clip)
        figures.append(measure_clip(clip))
        if progress is not None:
            progress(len(clips), len(cases) * len(seeds))
    reference = None if reference_audio is None else measure_reference(reference_audio, reference_rate)
    if reference_audio is not None and thresholds.min_similarity is None:
        limit = calibrated_similarity(reference_audio, reference_rate)
        thresholds = replace(thresholds, min_similarity=limit)
    scores = (
        *score_all(scorers, _to_score(clips, figures)),
        *speaker_network_score(
            synthesizer,
            clips,
            reference_audio=reference_audio,
            reference_rate=reference_rate,
            minimum=min_speaker_network,
        ),
    )
    voice = measure_voice(clips, figures, reference=reference, scores=scores)
    report = judge(figures, voice, baseline=baseline, thresholds=thresholds, has_reference=reference is not None)
    return replace(report, measuring_s=time.perf_counter() - began - report.synthesis_s)


def speak(synthesizer: Synthesizer, case: Case, seed: int) -> Clip:
    """Speak one case by itself; what the engine raises is in the clip."""
    began = time.perf_counter()
    try:
        row = synthesizer.admit(SynthesisRequest(text=case.text, language=case.language, seed=seed))
        try:
            audio, capped = _drain(synthesizer, row)
            error = row.error
            phones, tokens = tuple(row.phones), tuple(row.tokens)
        finally:
            row.close()
    except Exception as raised:
        logger.warning("probe: the engine could not speak %r", case.text[:60], exc_info=True)
        audio, capped, error, phones, tokens = np.zeros(0, np.float32), False, raised, (), ()
    return Clip(
        case=case,
        seed=seed,
        audio=audio,
        sample_rate=synthesizer.sample_rate,
        phones=phones,
        tokens=tokens,
        capped=capped,
        error=None if error is None else f"{type(error).__name__}: {error}",
        synthesis_s=time.perf_counter() - began,
    )


def calibrated_similarity(reference_audio: Audio, reference_rate: int) -> float:
    """The threshold that fits a reference, from its own pieces and the built-in voices; 0.9 when it is too short."""
    try:
        return calibrate(pieces_of(reference_audio, reference_rate), _others()).threshold
    except NotEnoughAudio:
        return FALLBACK_SIMILARITY


def _others() -> dict[str, list[Audio]]:
    return {name: [embedding] for name, embedding in builtin_voices().items()}


def _drain(synthesizer: Synthesizer, row: Row) -> tuple[Audio, bool]:
    """Step a row to its end; a row that does not end within bounds counts as capped."""
    pieces: list[Audio] = []
    samples = 0
    for _ in range(_MAX_STEPS):
        if row.done:
            break
        synthesizer.step([row])
        pieces.append(row.take())
        samples += pieces[-1].size
        if samples > _MAX_UTTERANCE_S * synthesizer.sample_rate:
            break
    ended = row.done
    pieces.append(row.take())
    return np.concatenate(pieces).astype(np.float32, copy=False), row.capped or not ended


def _to_score(clips: Sequence[Clip], figures: Sequence[CaseFigures]) -> list[SpokenText]:
    return [
        SpokenText(audio=clip.audio, sample_rate=clip.sample_rate, text=clip.case.text, language=clip.case.language)
        for clip, figure in zip(clips, figures, strict=True)
        if figure.error is None and figure.finite
    ]
