"""How high is the voice? The median of its fundamental frequency.

Source: A. de Cheveigné and H. Kawahara, "YIN, a fundamental frequency estimator for speech and music" (2002), steps 1
to 5, on all frames at once.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from segue_engines.probes.spectrum import Audio, at_rate, frames_of

_RATE_HZ: Final = 8000
_HOP: Final = 120
_WINDOW: Final = 288
_LOWEST_HZ: Final = 55.0
_HIGHEST_HZ: Final = 500.0
_LAGS: Final = int(_RATE_HZ / _LOWEST_HZ) + 2
_FIRST_LAG: Final = int(_RATE_HZ / _HIGHEST_HZ)
_THRESHOLD: Final = 0.25
"""Looser than the paper (0.1): synthetic voices carry aperiodic bands, and a median forgives a few octave errors."""
_QUIET_DB: Final = 35.0
_MIN_VOICED: Final = 20


def median_pitch_hz(audio: Audio, sample_rate: int) -> float | None:
    """Measure the median fundamental frequency of the voiced frames.

    Returns
    -------
    float or None
        Hz, between 55 and 500; `None` with less than 0.3 s of voiced speech.
    """
    voiced = pitch_track_hz(audio, sample_rate)
    voiced = voiced[voiced > 0]
    return float(np.median(voiced)) if voiced.size >= _MIN_VOICED else None


def semitones(pitch_hz: float, other_hz: float) -> float:
    """How many semitones `pitch_hz` lies above `other_hz`."""
    return 12 * float(np.log2(pitch_hz / other_hz))


def pitch_track_hz(audio: Audio, sample_rate: int) -> NDArray[np.float64]:
    """Fundamental frequency every 15 ms, 0 where unvoiced: `(frames,) float64`."""
    low = at_rate(audio, sample_rate, _RATE_HZ)
    if low.size < _WINDOW + _LAGS:
        return np.zeros(0)
    frames = frames_of(low, size=_WINDOW + _LAGS, hop=_HOP).astype(np.float64)
    energy = np.mean(frames**2, axis=1)
    kept = energy > max(float(energy.max()) * 10 ** (-_QUIET_DB / 10), 1e-9)
    track = np.zeros(len(frames))
    track[kept] = _pitch(_normalised_difference(frames[kept]))
    return track


def _normalised_difference(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """YIN's cumulative mean normalised difference: `(frames, lags)`."""
    size = 1 << (_WINDOW + _LAGS - 1).bit_length()
    head = np.fft.rfft(frames[:, :_WINDOW], size, axis=1)
    whole = np.fft.rfft(frames, size, axis=1)
    products = np.fft.irfft(np.conj(head) * whole, size, axis=1)[:, :_LAGS]
    sums = np.cumsum(np.pad(frames**2, ((0, 0), (1, 0))), axis=1)
    shifted = sums[:, _WINDOW : _WINDOW + _LAGS] - sums[:, :_LAGS]
    difference = np.maximum(shifted[:, :1] + shifted - 2 * products, 0.0)
    running = np.cumsum(difference[:, 1:], axis=1) / np.arange(1, _LAGS)
    normalised = np.ones_like(difference)
    normalised[:, 1:] = difference[:, 1:] / np.maximum(running, 1e-12)
    return normalised


def _pitch(normalised: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first dip below the threshold, to a fraction of a sample; 0 where there is none."""
    inner = normalised[:, _FIRST_LAG:-1]
    left, right = normalised[:, _FIRST_LAG - 1 : -2], normalised[:, _FIRST_LAG + 1 :]
    dips = (inner < _THRESHOLD) & (inner <= left) & (inner < right)
    first = dips.argmax(axis=1)
    rows = np.arange(len(inner))
    before, here, after = left[rows, first], inner[rows, first], right[rows, first]
    bend = np.maximum(before - 2 * here + after, 1e-12)
    lag = first + _FIRST_LAG + np.clip(0.5 * (before - after) / bend, -0.5, 0.5)
    return np.where(dips.any(axis=1), _RATE_HZ / lag, 0.0)
