"""The recording whose semantic tokens every utterance continues.

Separate from the spectrogram's path on purpose: the original loads the file a second time here, with another resampler
and without the division by the peak.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import soxr
from numpy.typing import NDArray

from segue.errors import WeightsError

RATE_HZ: Final = 16_000
SHORTEST: Final = 48_000
LONGEST: Final = 160_000
TRAILING_ZEROS: Final = 9_600
"""0.6 s: the original counts 0.3 s of 32 kHz and appends that many zeros at 16 kHz."""


def prompt_signal(recording: NDArray[np.float32], *, rate_hz: int) -> NDArray[np.float32]:
    """What HuBERT is to hear of a reference recording.

    Parameters
    ----------
    recording
        `(samples,)` or `(samples, channels) float32`, as soundfile reads it.

    Returns
    -------
    ndarray
        `(samples + 9600,) float32` at 16 kHz, mono, with silence after it. HuBERT takes it as it is, without
        normalisation of mean or variance.

    Raises
    ------
    WeightsError
        It is shorter than 3 s or longer than 10 s.
    """
    mono = recording if recording.ndim == 1 else recording.mean(axis=1, dtype=np.float32)
    length = -(-len(mono) * RATE_HZ // rate_hz)
    signal = mono if rate_hz == RATE_HZ else soxr.resample(mono, rate_hz, RATE_HZ, quality="HQ")
    signal = np.pad(signal[:length], (0, max(length - len(signal), 0)))
    if not SHORTEST <= length <= LONGEST:
        raise WeightsError(
            f"the reference recording is {length / RATE_HZ:.2f} s long; it must be 3 to 10 s: cut it or choose another"
        )
    return np.concatenate((signal.astype(np.float32), np.zeros(TRAILING_ZEROS, np.float32)))
