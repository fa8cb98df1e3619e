"""Speech to what the model learns: WORLD envelopes, aperiodicities, pitch and durations on a 5 ms grid.

Envelope and aperiodicity are kept in 80 bands of equal width on the mel scale; the run-time vocoder turns the same
bands back into spectra (`segue_engines.demo.bands`), so both use one definition.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyworld
from espeak import Utterance
from numpy.typing import NDArray
from scipy.signal import resample_poly

from segue_engines.demo.bands import BANDS, band_centres_hz
from segue_engines.demo.text.inventory import PHONE_IDS

RATE_HZ = 24000
HOP = 120
FFT = 1024
FLOOR = 1e-9


@dataclass(frozen=True, slots=True)
class Features:
    """One utterance: `ids (tokens,)`, `word_starts (tokens,)`, `durations (tokens,)` in frames;
    `envelope` and `aperiodicity` `(frames, 80) float16`, `log_f0 (frames,)` (0 where unvoiced)."""

    ids: NDArray[np.int64]
    word_starts: NDArray[np.bool_]
    durations: NDArray[np.int64]
    envelope: NDArray[np.float16]
    aperiodicity: NDArray[np.float16]
    log_f0: NDArray[np.float32]


def at_24_khz(samples: NDArray[np.float32], rate_hz: float) -> NDArray[np.float32]:
    """Resample from a speaker's own rate; (samples,) float32."""
    up, down = 80, round(80 * rate_hz / RATE_HZ)
    return np.asarray(resample_poly(samples, up, down), np.float32)


def analyse(utterance: Utterance, rate_hz: float, *, floor_hz: float, ceiling_hz: float) -> Features:
    """Analyse an utterance; the last pause is cut to 200 ms."""
    down = round(80 * rate_hz / RATE_HZ)
    scale = 80 / down / HOP
    bounds = np.round(np.array(utterance.starts) * scale).astype(int)
    bounds[-1] = min(bounds[-1], bounds[-2] + 40)
    sound = at_24_khz(utterance.samples, rate_hz).astype(np.float64)
    sound = np.pad(sound, (0, 4 * FFT))[: bounds[-1] * HOP + FFT]
    sound += np.random.default_rng(0).normal(0, 1e-5, len(sound))
    f0, times = pyworld.dio(sound, RATE_HZ, f0_floor=floor_hz, f0_ceil=ceiling_hz, frame_period=5.0)
    f0 = pyworld.stonemask(sound, f0, times, RATE_HZ)
    spectrum = pyworld.cheaptrick(sound, f0, times, RATE_HZ, fft_size=FFT, f0_floor=71.0)
    noise = pyworld.d4c(sound, f0, times, RATE_HZ, fft_size=FFT)
    frames = bounds[-1]
    centres = band_centres_hz() / (RATE_HZ / FFT)
    return Features(
        ids=np.array([PHONE_IDS[phone] for phone in utterance.phones]),
        word_starts=np.array(utterance.word_starts),
        durations=np.diff(bounds),
        envelope=_at(np.log(np.maximum(spectrum, FLOOR)), centres)[:frames].astype(np.float16),
        aperiodicity=_at(noise, centres)[:frames].astype(np.float16),
        log_f0=np.where(f0 > 0, np.log(np.maximum(f0, 1.0)), 0.0)[:frames].astype(np.float32),
    )


def _at(spectrum: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Interpolate each row at fractional bins. (frames, bins) -> (frames, 80)."""
    low = np.floor(places).astype(int).clip(0, spectrum.shape[1] - 2)
    part = places - low
    assert len(places) == BANDS
    return spectrum[:, low] * (1 - part) + spectrum[:, low + 1] * part
