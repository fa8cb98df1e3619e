"""Kaldi's log mel filter bank, as the speaker network wants it.

Separate from the network because every detail here is a convention of its own (no mean subtraction, no scaling to 16
bits, a window to the power of 0.85).

Source: kaldi `feature-fbank`; 80 bins from 20 Hz to the Nyquist frequency, 25 ms every 10 ms, whole frames only.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Final

import torch
from torch import Tensor

from segue.errors import WeightsError

RATE_HZ: Final = 16_000
BINS: Final = 80
_FRAME: Final = 400
_HOP: Final = 160
_FFT: Final = 512
_LOWEST_HZ: Final = 20.0
_PREEMPHASIS: Final = 0.97
_FLOOR: Final = torch.finfo(torch.float32).eps


def fbank(signal: Tensor) -> Tensor:
    """Log mel energies `(frames, 80) float32` of `(samples,) float32` at 16 kHz.

    Raises
    ------
    WeightsError
        The recording is shorter than one frame.
    """
    if len(signal) < _FRAME:
        raise WeightsError(f"the reference recording has {len(signal)} samples at 16 kHz; a speaker needs {_FRAME}")
    frames = signal.unfold(0, _FRAME, _HOP)
    frames = frames - frames.mean(dim=1, keepdim=True)
    before = torch.cat((frames[:, :1], frames[:, :-1]), dim=1)
    power = torch.fft.rfft((frames - _PREEMPHASIS * before) * _window(), n=_FFT).abs().square()
    energies = (power @ _filters().T).clamp(min=_FLOOR)
    return torch.log(energies)


@cache
def _window() -> Tensor:
    return torch.hann_window(_FRAME, periodic=False).pow(0.85)


@cache
def _filters() -> Tensor:
    """Triangles that are straight on the mel scale, `(80, 257)`; the Nyquist bin counts nowhere."""

    low, high = (1127.0 * math.log(1.0 + hz / 700.0) for hz in (_LOWEST_HZ, RATE_HZ / 2))
    step = (high - low) / (BINS + 1)
    left, centre, right = (low + (torch.arange(BINS)[:, None] + corner) * step for corner in (0.0, 1.0, 2.0))
    at = 1127.0 * torch.log(1.0 + torch.arange(_FFT // 2) * (RATE_HZ / _FFT) / 700.0)
    sides = torch.minimum((at - left) / (centre - left), (right - at) / (right - centre))
    return torch.nn.functional.pad(sides.clamp(min=0.0), (0, 1))
