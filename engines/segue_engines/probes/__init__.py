"""Probes: what a candidate voice sounds like, in figures, and whether it may speak.

One file for each thing that is heard (`speaker`, `recogniser`, `loudness`, `pitch`, `silence`, `loops`,
`signal_faults`), each a pure function from audio to a figure; `measure` puts the figures together, `judge` holds them
against limits, `run` speaks the sentences. Everything is numpy; run it with one BLAS thread (`OPENBLAS_NUM_THREADS=1`):
the matrices are small, and more threads cost more than they give.
"""

from __future__ import annotations

from segue_engines.probes.calibrate import Calibration, NotEnoughAudio, builtin_voices, calibrate, pieces_of
from segue_engines.probes.cases import Case, builtin_cases
from segue_engines.probes.figures import (
    BaselineFigures,
    CaseFigures,
    GateResult,
    ProbeReport,
    ScoreFigure,
    Thresholds,
    VoiceFigures,
)
from segue_engines.probes.judge import judge
from segue_engines.probes.measure import Clip
from segue_engines.probes.recogniser import phone_error_rate, recognise
from segue_engines.probes.run import DEFAULT_SEEDS, calibrated_similarity, run_probes
from segue_engines.probes.scorers import Scorer, ScorerFailed, ScorerKind, scorer
from segue_engines.probes.speaker import embed, similarity
from segue_engines.probes.speaking import speak, speak_all

__all__ = [
    "DEFAULT_SEEDS",
    "BaselineFigures",
    "Calibration",
    "Case",
    "CaseFigures",
    "Clip",
    "GateResult",
    "NotEnoughAudio",
    "ProbeReport",
    "ScoreFigure",
    "Scorer",
    "ScorerFailed",
    "ScorerKind",
    "Thresholds",
    "VoiceFigures",
    "builtin_cases",
    "builtin_voices",
    "calibrate",
    "calibrated_similarity",
    "embed",
    "judge",
    "phone_error_rate",
    "pieces_of",
    "recognise",
    "run_probes",
    "scorer",
    "similarity",
    "speak",
    "speak_all",
]
