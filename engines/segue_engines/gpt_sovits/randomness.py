"""Random numbers that depend on a row's seed and a counter, and on nothing else.

Separate from sampling and decoding because both draw here: exponentials for tokens, normals for the decoder's noise.
There is no state, so whoever shares the batch, joins or leaves changes nothing, and a noise frame is the same whether
it is asked for in a chunk or in the whole. Integer arithmetic on tensors, so it runs on any device.

Source: SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014), used by position.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import Final

import torch
from torch import Tensor

_MASK: Final = 2**64 - 1
_GAMMA: Final = 0x9E3779B97F4A7C15
_FIRST: Final = 0xBF58476D1CE4E5B9
_SECOND: Final = 0x94D049BB133111EB


class Stream(IntEnum):
    """What numbers are drawn for: streams of one seed have nothing to do with each other."""

    TOKENS = 1
    NOISE = 2


def _signed(value: int) -> int:
    """The int64 with the same bits."""
    value &= _MASK
    return value - (1 << 64) if value >> 63 else value


def _mix(value: int) -> int:
    value = ((value ^ (value >> 30)) * _FIRST) & _MASK
    value = ((value ^ (value >> 27)) * _SECOND) & _MASK
    return value ^ (value >> 31)


def row_key(seed: int, stream: Stream, part: int = 0) -> int:
    """Key of one stream of a row, as an int64; `part` tells the fragments of one text apart."""
    key = 0
    for word in (seed, int(stream), part):
        key = _mix((key + _GAMMA + word) & _MASK)
    return _signed(key)


def _shifted(bits: Tensor, by: int) -> Tensor:
    """Logical shift to the right of int64."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def _bits(keys: Tensor, counters: Tensor) -> Tensor:
    bits = keys + (counters + 1) * _signed(_GAMMA)
    bits = (bits ^ _shifted(bits, 30)) * _signed(_FIRST)
    bits = (bits ^ _shifted(bits, 27)) * _signed(_SECOND)
    return bits ^ _shifted(bits, 31)


def _uniform(keys: Tensor, counters: Tensor) -> Tensor:
    """Float64 in the open interval (0, 1)."""
    return (_shifted(_bits(keys, counters), 11).double() + 0.5) * 2.0**-53


def exponentials(keys: Tensor, steps: Tensor, count: int) -> Tensor:
    """Exp(1) draws of several rows.

    Parameters
    ----------
    keys, steps
        `(rows,) int64` each: `row_key` and the step within the row.

    Returns
    -------
    Tensor
        `(rows, count) float32`.
    """
    counters = steps[:, None] * count + torch.arange(count, device=keys.device)
    return -torch.log(_uniform(keys[:, None], counters)).float()


def normals(key: int, *, first: int, count: int, channels: int, device: torch.device | str = "cpu") -> Tensor:
    """Standard normal noise of frames `first` to `first + count`; `(1, channels, count) float32`."""
    frames = torch.arange(first, first + count, device=device) * (2 * channels)
    counters = frames[None, :] + 2 * torch.arange(channels, device=device)[:, None]
    keys = torch.tensor(key, device=device)
    radius = torch.sqrt(-2.0 * torch.log(_uniform(keys, counters)))
    return (radius * torch.cos(2.0 * math.pi * _uniform(keys, counters + 1))).float()[None]


def keys_of(seeds: Sequence[int], stream: Stream, *, device: torch.device | str = "cpu") -> Tensor:
    """Keys of several rows, `(rows,) int64`."""
    return torch.tensor([row_key(seed, stream) for seed in seeds], dtype=torch.int64, device=device)
