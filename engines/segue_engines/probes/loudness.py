"""How loud is it? Integrated loudness in LUFS.

Source: ITU-R BS.1770-4, annex 1: K-weighting, blocks of 400 ms with 75 % overlap, gates at -70 LUFS and 10 LU below the
ungated mean. The standard gives its two biquads at 48 kHz; here their frequency response is applied at the true
frequencies, which serves every sample rate and needs no recursion in Python.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from segue_engines.probes.spectrum import Audio

_TABLE_RATE_HZ: Final = 48000
_SHELF: Final = ((1.53512485958697, -2.69169618940638, 1.19839281085285), (1.0, -1.69065929318241, 0.73248077421585))
_HIGH_PASS: Final = ((1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621))
_OFFSET_LU: Final = -0.691
_ABSOLUTE_GATE_LUFS: Final = -70.0
_RELATIVE_GATE_LU: Final = -10.0
_BLOCK_S: Final = 0.4
_TAIL_S: Final = 1.0
"""Silence behind the signal in which the filters ring out."""


def integrated_loudness(audio: Audio, sample_rate: int) -> float | None:
    """Measure integrated loudness of a mono signal.

    Parameters
    ----------
    audio
        `(samples,) float32`, finite.
    sample_rate
        Hz.

    Returns
    -------
    float or None
        LUFS; a full-scale sine at 1 kHz is -3.0. `None` when nothing is above the absolute gate.
    """
    if not audio.size:
        return None
    squares = _k_weighted(audio, sample_rate).astype(np.float64) ** 2
    block = round(_BLOCK_S * sample_rate)
    powers = _block_means(squares, block, hop=block // 4)
    loud = powers[_lufs(powers) > _ABSOLUTE_GATE_LUFS]
    if not loud.size:
        return None
    gate = _lufs(loud.mean()) + _RELATIVE_GATE_LU
    return float(_lufs(loud[_lufs(loud) > gate].mean()))


def _k_weighted(audio: Audio, sample_rate: int) -> NDArray[np.float32]:
    size = _fast_size(audio.size + round(_TAIL_S * sample_rate))
    angles = np.exp(-2j * np.pi * np.fft.rfftfreq(size, 1 / sample_rate) / _TABLE_RATE_HZ)
    response = _response(_SHELF, angles) * _response(_HIGH_PASS, angles)
    spectrum = np.fft.rfft(audio, size) * response.astype(np.complex64)
    return np.fft.irfft(spectrum, size)[: audio.size].astype(np.float32, copy=False)


def _response(
    biquad: tuple[tuple[float, ...], tuple[float, ...]], angles: NDArray[np.complex128]
) -> NDArray[np.complex128]:
    (b0, b1, b2), (a0, a1, a2) = biquad
    return np.asarray((b0 + angles * (b1 + angles * b2)) / (a0 + angles * (a1 + angles * a2)))


def _fast_size(count: int) -> int:
    """The next size of the form 2^a or 3 * 2^a: transforms of such sizes are fast."""
    power = 1 << (count - 1).bit_length()
    return power * 3 // 4 if power * 3 // 4 >= count else power


def _block_means(squares: NDArray[np.float64], block: int, *, hop: int) -> NDArray[np.float64]:
    if squares.size < block:
        return np.array([squares.mean()])
    sums = np.concatenate([[0.0], np.cumsum(squares)])
    starts = np.arange(0, squares.size - block + 1, hop)
    return np.asarray((sums[starts + block] - sums[starts]) / block)


def _lufs(power: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    return np.asarray(_OFFSET_LU + 10 * np.log10(np.maximum(power, 1e-12)))
