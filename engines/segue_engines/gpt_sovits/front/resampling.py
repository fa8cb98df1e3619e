"""Sample rates of reference recordings, by a windowed sinc.

Separate from `soxr`, which the rest of Segue resamples with: the networks were trained on spectrograms of recordings
resampled by this very filter, and its golden vectors are met to 1e-5.

Source: bandlimited interpolation (J. O. Smith), with torchaudio's defaults: Hann window, 6 zero crossings,
roll-off 0.99.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import conv1d, pad

_CROSSINGS: Final = 6
_ROLL_OFF: Final = 0.99


def resampled(signal: Tensor, *, source_hz: int, target_hz: int) -> Tensor:
    """`(samples,) float32` at one rate to `(ceil(samples * target / source),) float32` at another."""
    if source_hz == target_hz:
        return signal
    divisor = math.gcd(source_hz, target_hz)
    source, target = source_hz // divisor, target_hz // divisor
    kernels, reach = _kernels(source, target)
    padded = pad(signal[None, None], (reach, reach + source))
    phases = conv1d(padded, kernels.to(signal.device), stride=source)
    return phases[0].T.reshape(-1)[: math.ceil(len(signal) * target / source)]


def _kernels(source: int, target: int) -> tuple[Tensor, int]:
    """One filter for each phase of the output, `(target, 1, width)`, and how far it reaches to the left."""
    cutoff = min(source, target) * _ROLL_OFF
    reach = math.ceil(_CROSSINGS * source / cutoff)
    taps = torch.arange(-reach, reach + source, dtype=torch.float64) / source
    phases = torch.arange(target, dtype=torch.float64) / target
    at = ((taps - phases[:, None]) * cutoff).clamp(-_CROSSINGS, _CROSSINGS)
    window = torch.cos(at * (math.pi / _CROSSINGS / 2)).square()
    return (torch.sinc(at) * window * (cutoff / source)).float()[:, None], reach
