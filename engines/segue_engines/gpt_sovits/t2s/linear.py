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
from torch.nn.functional import layer_norm, linear

from segue_engines.gpt_sovits.t2s import tiles
from segue_engines.gpt_sovits.t2s.normed import compile_now, normed_sum
from segue_engines.gpt_sovits.t2s.packing import SCALES

NORM_EPSILON: Final = 1e-5

ROWS_AT_ONCE: Final = 256
"""Up to here the matrix goes first. oneDNN takes the first operand of a bfloat16 product as it lies and lays out the
second anew on each call: that should be the small one. And up to here a row comes out the same, bit by bit, whatever
number of rows is beside it; with more the sums are cut otherwise."""
_ROWS_OF_BYTES: Final = 32
"""From here on widening an int8 matrix and multiplying that is faster than multiplying the bytes."""


Norm = tuple[Tensor, Tensor]
"""Gain and shift of a layer norm."""


class Linear(Protocol):
    """`x @ weight.T + bias` for `x (rows, in)`, in any layout.

    Attributes
    ----------
    dtype
        The type of the products.
    """

    dtype: torch.dtype

    def __call__(self, x: Tensor) -> Tensor:
        """`(rows, out)` of `dtype`, in any layout."""
        ...

    def joined(self, residual: Tensor, x: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
        """Layer norm of `residual (rows, out) float32` plus the product; and that as the next product may take it."""
        ...


class PlainLinear:
    """Weights in float32."""

    __slots__ = ("_bias", "_turned", "dtype")

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.dtype = torch.float32
        self._turned = weight.t()
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        return torch.addmm(self._bias, x, self._turned)

    def joined(self, residual: Tensor, x: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
        return _normed(torch.addmm(self._bias, x, self._turned).add_(residual), norm)


class HalfLinear:
    """Weights in bfloat16; products and bias are summed in float32 by the processor and rounded once.

    A row comes out the same, bit by bit, whatever rows are beside it, up to `ROWS_AT_ONCE`. One row alone is doubled
    for that: the product of a matrix and a vector is summed in another order than that of two matrices.
    """

    __slots__ = ("_bias", "_column", "_short_bias", "_weight", "dtype")

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        if multiplies_bfloat16():
            compile_now()
        self.dtype = torch.bfloat16
        self._weight = weight
        self._bias = bias
        self._short_bias = bias.bfloat16()
        self._column = self._short_bias[:, None]

    def __call__(self, x: Tensor) -> Tensor:
        short = _at_least_two(x.bfloat16())
        if _matrix_first(x):
            return torch.addmm(self._column, self._weight, short.t()).t()[: len(x)]
        return linear(short, self._weight, self._short_bias)[: len(x)]

    def joined(self, residual: Tensor, x: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
        short = _at_least_two(x.bfloat16())
        if _matrix_first(x):
            turned = torch.mm(self._weight, short.t())
            return normed_sum(residual, turned, self._bias, norm, epsilon=NORM_EPSILON)
        return _normed(torch.add(residual, linear(short, self._weight)[: len(x)]).add_(self._bias), norm)


class TileLinear:
    """The same for the few rows of a step, where the processor has a tile unit (AMX).

    Rounded once, and alike in any company. Its sums are in another order than those of `HalfLinear`, so a row must meet
    the same of both every time.
    """

    __slots__ = ("_bias", "_nothing", "_weight", "dtype")

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        tiles.compile_now()
        self.dtype = torch.bfloat16
        self._weight = weight
        self._bias = bias
        self._nothing = torch.zeros_like(bias)

    def __call__(self, x: Tensor) -> Tensor:
        return tiles.product(self._weight, x.bfloat16(), self._bias).t()

    def joined(self, residual: Tensor, x: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
        turned = tiles.product(self._weight, x.bfloat16(), self._nothing)
        return normed_sum(residual, turned, self._bias, norm, epsilon=NORM_EPSILON)


def _normed(x: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
    result = layer_norm(x, (x.shape[1],), *norm, eps=NORM_EPSILON)
    return result, result


def _at_least_two(x: Tensor) -> Tensor:
    return x if len(x) > 1 else torch.cat((x, x))


def _matrix_first(x: Tensor) -> bool:
    return len(x) <= ROWS_AT_ONCE and multiplies_bfloat16()


class ByteLinear:
    """Weights in int8, one scale an output; inputs are rounded to bfloat16."""

    __slots__ = ("_bias", "_scales", "_short_scales", "_weight", "dtype")

    def __init__(self, weight: Tensor, scales: Tensor, bias: Tensor) -> None:
        self.dtype = torch.float32
        self._weight = weight
        self._scales = scales
        self._short_scales = scales.bfloat16()
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        return self._product(x).add_(self._bias)

    def joined(self, residual: Tensor, x: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
        return _normed(self._product(x).add_(self._bias).add_(residual), norm)

    def _product(self, x: Tensor) -> Tensor:
        if len(x) < _ROWS_OF_BYTES:
            return torch._weight_int8pack_mm(x.bfloat16(), self._weight, self._short_scales).float()
        wide = torch.bfloat16 if multiplies_bfloat16() else torch.float32
        return linear(x.to(wide), self._weight.to(wide)).float().mul_(self._scales)


def linear_of(weights: Mapping[str, Tensor], weight: str, bias: str, *, few: bool = False) -> Linear:
    """The product with a matrix, by how it is stored.

    Parameters
    ----------
    few
        For the rows of a step, of which there are few.
    """
    matrix = weights[weight]
    if few and matrix.dtype == torch.int16 and tiles.fits(matrix):
        return TileLinear(matrix.view(torch.bfloat16), weights[bias])
    if matrix.dtype == torch.int8:
        return ByteLinear(matrix, weights[weight + SCALES], weights[bias])
    if matrix.dtype == torch.int16:
        return HalfLinear(matrix.view(torch.bfloat16), weights[bias])
    return PlainLinear(matrix, weights[bias])


def alike_in_any_company(linear: Linear) -> bool:
    """Whether a row comes out the same, bit by bit, with up to `ROWS_AT_ONCE` rows of any number.

    Measured with oneDNN's kernels for AMX; those for other processors may cut sums by the number of rows.
    """
    return isinstance(linear, HalfLinear) and tiles.available()


@cache
def multiplies_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 itself (AVX-512 BF16 or AMX)."""
    found = torch.cpu.get_capabilities()
    return bool(found.get("amx_bf16") or found.get("avx512_bf16"))
