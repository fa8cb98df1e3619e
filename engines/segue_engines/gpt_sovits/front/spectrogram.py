"""The reference spectrogram that a voice's condition is made from.

Separate from the speaker vector's features: another transform, another normalisation, another rate.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import pad

from segue.errors import WeightsError
from segue_engines.gpt_sovits.front.resampling import resampled

RATE_HZ: Final = 32_000
FFT: Final = 2048
HOP: Final = 640
_MARGIN: Final = (FFT - HOP) // 2
_LOUDEST_DIVISOR: Final = 2.0


def reference_signal(recording: Tensor, *, rate_hz: int) -> Tensor:
    """A recording as the spectrogram wants it.

    Parameters
    ----------
    recording
        `(samples,)` or `(channels, samples) float32`; exactly two channels are averaged, else the first counts.

    Returns
    -------
    Tensor
        `(samples,) float32` at 32 kHz; where it peaks above 1, divided by that peak (by 2 at most).
    """
    channels = recording if recording.ndim == 2 else recording[None]
    mono = channels.mean(dim=0) if len(channels) == 2 else channels[0]
    signal = resampled(mono, source_hz=rate_hz, target_hz=RATE_HZ)
    peak = float(signal.abs().max()) if len(signal) else 0.0
    return signal / min(_LOUDEST_DIVISOR, peak) if peak > 1.0 else signal


def spectrogram(signal: Tensor) -> Tensor:
    """Magnitudes `(1, 1025, samples // 640) float32` of `(samples,) float32` at 32 kHz.

    Raises
    ------
    WeightsError
        The recording is too short to be reflected at its ends.
    """
    if len(signal) <= _MARGIN:
        raise WeightsError(f"the reference recording has {len(signal)} samples at 32 kHz; it needs more than {_MARGIN}")
    padded = pad(signal[None, None], (_MARGIN, _MARGIN), mode="reflect")[0]
    window = torch.hann_window(FFT, device=signal.device)
    waves = torch.stft(padded, FFT, hop_length=HOP, window=window, center=False, return_complex=True)
    return torch.sqrt(waves.real.square() + waves.imag.square() + 1e-8)
