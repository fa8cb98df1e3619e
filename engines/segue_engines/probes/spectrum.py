"""Frames, spectra and mel bands: what every probe that listens starts from.

One place, so that the networks hear at run time exactly what they heard when they were trained.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
import soxr
from numpy.typing import NDArray

Audio = NDArray[np.float32]
"""`(samples,) float32`, mono, full scale at 1."""

SPEECH_RATE_HZ: Final = 16000
FRAME: Final = 400
"""25 ms at `SPEECH_RATE_HZ`."""
HOP: Final = 160
"""10 ms at `SPEECH_RATE_HZ`."""


def at_rate(audio: Audio, sample_rate: int, target_rate: int = SPEECH_RATE_HZ) -> Audio:
    """Resample, unless the audio is at `target_rate` already."""
    mono = np.asarray(audio, dtype=np.float32)
    if sample_rate == target_rate or not mono.size:
        return mono
    return np.asarray(soxr.resample(mono, sample_rate, target_rate, quality="HQ"), dtype=np.float32)


def frames_of(audio: Audio, *, size: int, hop: int) -> NDArray[np.float32]:
    """Cut into whole frames: a view `(frames, size)`; audio shorter than one frame is padded with zeros."""
    if audio.size < size:
        audio = np.pad(audio, (0, size - audio.size))
    return np.lib.stride_tricks.sliding_window_view(audio, size)[::hop]


@cache
def hann(size: int) -> NDArray[np.float32]:
    """Periodic Hann window, `(size,)`."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)


def power_spectra(audio: Audio) -> NDArray[np.float32]:
    """Power spectra of 25 ms every 10 ms, frames centred: `(1 + samples // 160, 201) float32`.

    Parameters
    ----------
    audio
        At `SPEECH_RATE_HZ`.
    """
    padded = np.pad(np.asarray(audio, dtype=np.float32), FRAME // 2)
    spectra = np.fft.rfft(frames_of(padded, size=FRAME, hop=HOP) * hann(FRAME), axis=1)
    return (spectra.real**2 + spectra.imag**2).astype(np.float32, copy=False)


@cache
def mel_filters(bands: int, low_hz: float, high_hz: float) -> NDArray[np.float32]:
    """Triangular filters of equal area on Slaney's mel scale: `(201, bands) float32`.

    Source: M. Slaney, Auditory Toolbox (1998): linear below 1 kHz, logarithmic above.
    """
    edges = _hz_of_mel(np.linspace(_mel_of_hz(low_hz), _mel_of_hz(high_hz), bands + 2))
    bins = np.fft.rfftfreq(FRAME, 1 / SPEECH_RATE_HZ)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return (triangles * (2.0 / (edges[2:] - edges[:-2]))).astype(np.float32)


_BREAK_HZ: Final = 1000.0
_HZ_PER_MEL: Final = 200.0 / 3
_LOG_STEP: Final = float(np.log(6.4) / 27)


def _mel_of_hz(hz: float) -> float:
    if hz < _BREAK_HZ:
        return hz / _HZ_PER_MEL
    return _BREAK_HZ / _HZ_PER_MEL + float(np.log(hz / _BREAK_HZ)) / _LOG_STEP


def _hz_of_mel(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    above = np.maximum(mel - _BREAK_HZ / _HZ_PER_MEL, 0.0)
    return np.where(mel < _BREAK_HZ / _HZ_PER_MEL, mel * _HZ_PER_MEL, _BREAK_HZ * np.exp(_LOG_STEP * above))
