"""Matrix products with the weights as they lie in the arena.

Separate because the step of the T2S network is bound by reading its matrices: how they are stored decides the speed,
and nothing else in the network should know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import linear

from segue_engines.gpt_sovits.t2s.packing import SCALES


class Linear(Protocol):
    """`x @ weight.T + bias` for `x (rows, in) float32`."""

    def __call__(self, x: Tensor) -> Tensor:
        """`(rows, out) float32`."""
        ...


class PlainLinear:
    """Weights in float32."""

    __slots__ = ("_bias", "_turned")

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._turned = weight.t()
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        return torch.addmm(self._bias, x, self._turned)


class HalfLinear:
    """Weights in bfloat16; the products are summed in float32 by the processor and rounded once."""

    __slots__ = ("_bias", "_weight")

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._weight = weight
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        return linear(x.bfloat16(), self._weight).float().add_(self._bias)


class ByteLinear:
    """Weights in int8, one scale an output; inputs are rounded to bfloat16."""

    __slots__ = ("_bias", "_scales", "_weight")

    def __init__(self, weight: Tensor, scales: Tensor, bias: Tensor) -> None:
        self._weight = weight
        self._scales = scales.bfloat16()
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        return torch._weight_int8pack_mm(x.bfloat16(), self._weight, self._scales).float().add_(self._bias)


def linear_of(weights: Mapping[str, Tensor], weight: str, bias: str) -> Linear:
    """The product with a matrix, by how it is stored."""
    matrix = weights[weight]
    if matrix.dtype == torch.int8:
        return ByteLinear(matrix, weights[weight + SCALES], weights[bias])
    if matrix.dtype == torch.int16:
        return HalfLinear(matrix.view(torch.bfloat16), weights[bias])
    return PlainLinear(matrix, weights[bias])
