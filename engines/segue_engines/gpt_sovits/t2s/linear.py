"""Matrix products with the weights as they lie in the arena.

Separate because the step of the T2S network is bound by reading its matrices: how they are stored and in what order
they are multiplied decides the speed, and nothing else in the network should know.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final, Protocol

import torch
from torch import Tensor
from torch.nn.functional import linear

from segue_engines.gpt_sovits.t2s.packing import SCALES

_FEW_ROWS: Final = 64
"""Up to here the matrix goes first. oneDNN takes the first operand of a bfloat16 product as it lies and lays out the
second anew on each call: that should be the small one. With more rows turning the result costs what that saves."""
_ROWS_OF_BYTES: Final = 32
"""From here on widening an int8 matrix and multiplying that is faster than multiplying the bytes."""


class Linear(Protocol):
    """`x @ weight.T + bias` for `x (rows, in)`, in any layout."""

    def __call__(self, x: Tensor) -> Tensor:
        """`(rows, out)` in the type of the products, in any layout."""
        ...

    def onto(self, residual: Tensor, x: Tensor) -> Tensor:
        """`residual` plus the product, `(rows, out) float32`."""
        ...


class PlainLinear:
    """Weights in float32."""

    __slots__ = ("_bias", "_turned")

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._turned = weight.t()
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        return torch.addmm(self._bias, x, self._turned)

    def onto(self, residual: Tensor, x: Tensor) -> Tensor:
        return torch.addmm(self._bias, x, self._turned).add_(residual)


class HalfLinear:
    """Weights in bfloat16; products and bias are summed in float32 by the processor and rounded once.

    A row comes out the same, bit by bit, whatever rows are beside it. One row alone is doubled for that: the
    product of a matrix and a vector is summed in another order than that of two matrices.
    """

    __slots__ = ("_bias", "_column", "_short_bias", "_weight")

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._weight = weight
        self._bias = bias
        self._short_bias = bias.bfloat16()
        self._column = self._short_bias[:, None]

    def __call__(self, x: Tensor) -> Tensor:
        short = _at_least_two(x.bfloat16())
        if _matrix_first(x):
            return torch.addmm(self._column, self._weight, short.t()).t()[: len(x)]
        return linear(short, self._weight, self._short_bias)[: len(x)]

    def onto(self, residual: Tensor, x: Tensor) -> Tensor:
        short = _at_least_two(x.bfloat16())
        product = torch.mm(self._weight, short.t()).t() if _matrix_first(x) else linear(short, self._weight)
        return torch.add(residual, product[: len(x)]).add_(self._bias)


def _at_least_two(x: Tensor) -> Tensor:
    return x if len(x) > 1 else torch.cat((x, x))


def _matrix_first(x: Tensor) -> bool:
    return len(x) <= _FEW_ROWS and multiplies_bfloat16()


class ByteLinear:
    """Weights in int8, one scale an output; inputs are rounded to bfloat16."""

    __slots__ = ("_bias", "_scales", "_short_scales", "_weight")

    def __init__(self, weight: Tensor, scales: Tensor, bias: Tensor) -> None:
        self._weight = weight
        self._scales = scales
        self._short_scales = scales.bfloat16()
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        return self._product(x).add_(self._bias)

    def onto(self, residual: Tensor, x: Tensor) -> Tensor:
        return self._product(x).add_(self._bias).add_(residual)

    def _product(self, x: Tensor) -> Tensor:
        if len(x) < _ROWS_OF_BYTES:
            return torch._weight_int8pack_mm(x.bfloat16(), self._weight, self._short_scales).float()
        wide = torch.bfloat16 if multiplies_bfloat16() else torch.float32
        return linear(x.to(wide), self._weight.to(wide)).float().mul_(self._scales)


def linear_of(weights: Mapping[str, Tensor], weight: str, bias: str) -> Linear:
    """The product with a matrix, by how it is stored."""
    matrix = weights[weight]
    if matrix.dtype == torch.int8:
        return ByteLinear(matrix, weights[weight + SCALES], weights[bias])
    if matrix.dtype == torch.int16:
        return HalfLinear(matrix.view(torch.bfloat16), weights[bias])
    return PlainLinear(matrix, weights[bias])


@cache
def multiplies_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 itself (AVX-512 BF16 or AMX)."""
    found = torch.cpu.get_capabilities()
    return bool(found.get("amx_bf16") or found.get("avx512_bf16"))
