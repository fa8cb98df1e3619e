"""Run the probes on a built voice: speak every case with every seed, measure, judge.

The only module here that drives an engine and reads a clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from segue.engine import Synthesizer
from segue_engines.probes.calibrate import NotEnoughAudio, builtin_voices, calibrate, pieces_of
from segue_engines.probes.cases import Case
from segue_engines.probes.figures import BaselineFigures, CaseFigures, ProbeReport, Thresholds
from segue_engines.probes.judge import judge
from segue_engines.probes.measure import Clip, measure_clip, measure_reference, measure_voice
from segue_engines.probes.scorers import Scorer, SpokenText, score_all
from segue_engines.probes.speaker_network import speaker_network_score
from segue_engines.probes.speaking import speak_all
from segue_engines.probes.spectrum import Audio

DEFAULT_SEEDS: Final = (1, 2, 3)
"""Three: engines that sample fail at random, and one good draw proves little."""
DEFAULT_THRESHOLDS: Final = Thresholds()
FALLBACK_SIMILARITY: Final = 0.9


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
        Gets each utterance as it ends, for listening.

    Returns
    -------
    ProbeReport
        A voice that cannot speak gives a report that says so; this raises nothing of the engine's.
    """
    wanted = [(case, seed) for seed in seeds for case in cases]
    measured: dict[int, tuple[Clip, CaseFigures]] = {}
    began = time.perf_counter()
    for place, clip in speak_all(synthesizer, wanted):
        if on_audio is not None:
            on_audio(clip)
        measured[place] = clip, measure_clip(clip)
        if progress is not None:
            progress(len(measured), len(wanted))
    clips = [measured[place][0] for place in range(len(wanted))]
    figures = [measured[place][1] for place in range(len(wanted))]
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


def calibrated_similarity(reference_audio: Audio, reference_rate: int) -> float:
    """The threshold that fits a reference, from its own pieces and the built-in voices; 0.9 when it is too short."""
    try:
        return calibrate(pieces_of(reference_audio, reference_rate), _others()).threshold
    except NotEnoughAudio:
        return FALLBACK_SIMILARITY


def _others() -> dict[str, list[Audio]]:
    return {name: [embedding] for name, embedding in builtin_voices().items()}


def _to_score(clips: Sequence[Clip], figures: Sequence[CaseFigures]) -> list[SpokenText]:
    return [
        SpokenText(audio=clip.audio, sample_rate=clip.sample_rate, text=clip.case.text, language=clip.case.language)
        for clip, figure in zip(clips, figures, strict=True)
        if figure.error is None and figure.finite
    ]
