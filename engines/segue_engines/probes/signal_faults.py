"""Faults of the signal itself: samples that are no numbers, clipping, lost bandwidth."""

from __future__ import annotations

from typing import Final

import numpy as np

from segue_engines.probes.spectrum import Audio, at_rate, frames_of, hann

_CLIPPED_AT: Final = 0.999
_ROLLOFF_SHARE: Final = 0.95
_ROLLOFF_RATE_HZ: Final = 24000
_FRAME: Final = 1024
_PRE_EMPHASIS: Final = 0.97


def is_finite(audio: Audio) -> bool:
    """Say whether every sample is a number."""
    return bool(np.isfinite(audio).all())


def clipped_share(audio: Audio) -> float:
    """Share of samples at or beyond 0.999 of full scale, 0 to 1."""
    return float(np.mean(np.abs(audio) >= _CLIPPED_AT)) if audio.size else 0.0


def rolloff_hz(audio: Audio, sample_rate: int) -> float | None:
    """Frequency below which 95 % of the pre-emphasised energy lies.

    Pre-emphasis (0.97) makes up for the fall of speech towards high frequencies: without it the figure hardly moves
    when a voice loses all of its consonants. Looked at up to 12 kHz. `None` for silence.
    """
    heard_rate = min(sample_rate, _ROLLOFF_RATE_HZ)
    heard = at_rate(audio, sample_rate, heard_rate)
    if heard.size < 2:
        return None
    emphasised = (heard[1:] - np.float32(_PRE_EMPHASIS) * heard[:-1]).astype(np.float32)
    spectra = np.fft.rfft(frames_of(emphasised, size=_FRAME, hop=_FRAME) * hann(_FRAME), axis=1)
    energy = np.cumsum(np.mean(spectra.real**2 + spectra.imag**2, axis=0, dtype=np.float64))
    if energy[-1] <= 1e-9:
        return None
    return float(np.searchsorted(energy, _ROLLOFF_SHARE * energy[-1])) * heard_rate / _FRAME
