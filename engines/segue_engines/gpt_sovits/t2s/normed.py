"""Residual, product, bias and layer norm in one pass, compiled for this processor.

Separate from the products because it is none: in torch five passes over the rows stand between two products of a layer,
one of them over a matrix that lies on its side, and together they took a quarter as long as the products.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np
import torch
from numba import carray
from torch import Tensor

from segue_engines.gpt_sovits.t2s.compiled import compiled, rounded, widened
from segue_engines.gpt_sovits.t2s.vectors import pointer_of

_TOGETHER: Final = 32
_COLUMNS: Final = 16
_FLOAT: Final = np.float32(0)
_HALF: Final = np.uint16(0)
_SPREAD: Final = 16
"""Rows lie this much further apart than they are long, or all would fall into the same few lines of the cache."""


@cache
def compile_now() -> None:
    """Compile it, which takes a second or so, the first time in a process: not when the first listener waits."""
    one = torch.zeros(1, 1, device="cpu")
    normed_sum(one, one.bfloat16(), one[0], (one[0], one[0]), epsilon=1.0)


def normed_sum(
    residual: Tensor, turned: Tensor, bias: Tensor, norm: tuple[Tensor, Tensor], *, epsilon: float
) -> tuple[Tensor, Tensor]:
    """Layer norm of `residual (rows, width) float32` plus a product plus `bias (width,)`.

    Parameters
    ----------
    turned
        The product, `(width, rows or more) bfloat16` and contiguous.
    norm
        Gain and shift, `(width,)` each.

    Returns
    -------
    tuple
        It as float32, and rounded to bfloat16; `(rows, width)` both.
    """
    result, short = torch.empty_like(residual), torch.empty_like(residual, dtype=torch.bfloat16)
    given = (residual, turned, bias, *norm, result, short)
    rows, width = residual.shape
    _normed_sum(rows, turned.shape[1], width, epsilon, *[tensor.data_ptr() for tensor in given])
    return result, short


@compiled
def _normed_sum(
    rows: Any,
    columns: Any,
    width: Any,
    epsilon: Any,
    residual_at: Any,
    turned_at: Any,
    bias_at: Any,
    gain_at: Any,
    shift_at: Any,
    result_at: Any,
    short_at: Any,
) -> None:  # pragma: no cover - compiled
    residual = carray(pointer_of(residual_at, _FLOAT), (rows, width))
    turned = carray(pointer_of(turned_at, _HALF), (width, columns))
    bias = carray(pointer_of(bias_at, _FLOAT), (width,))
    gain = carray(pointer_of(gain_at, _FLOAT), (width,))
    shift = carray(pointer_of(shift_at, _FLOAT), (width,))
    result = carray(pointer_of(result_at, _FLOAT), (rows, width))
    short = carray(pointer_of(short_at, _HALF), (rows, width))
    upright = np.empty((_TOGETHER, width + _SPREAD), np.float32)
    for first in range(0, rows, _TOGETHER):
        count = min(_TOGETHER, rows - first)
        _turn(turned, first, count, upright)
        for row in range(count):
            numbers = upright[row, :width]
            mean = _add(numbers, residual[first + row], bias) / np.float32(width)
            scale = np.float32(1) / np.sqrt(_squares(numbers, mean) / np.float32(width) + np.float32(epsilon))
            _stretch(numbers, mean, scale, gain, shift, result[first + row])
            _round(result[first + row], short[first + row])


@compiled
def _turn(turned: Any, first: Any, count: Any, upright: Any) -> None:  # pragma: no cover - compiled
    """Rows `first` to `first + count` of what lies on its side, a few columns at a time."""
    width = turned.shape[0]
    for column in range(0, width, _COLUMNS):
        for row in range(count):
            for place in range(column, min(column + _COLUMNS, width)):
                upright[row, place] = widened(turned[place, first + row])


@compiled
def _add(numbers: Any, residual: Any, bias: Any) -> Any:  # pragma: no cover - compiled
    """In place; returns the sum of all."""
    for column in range(len(numbers)):
        numbers[column] += residual[column] + bias[column]
    total = np.float32(0)
    for column in range(len(numbers)):
        total += numbers[column]
    return total


@compiled
def _squares(numbers: Any, mean: Any) -> Any:  # pragma: no cover - compiled
    total = np.float32(0)
    for column in range(len(numbers)):
        off = numbers[column] - mean
        total += off * off
    return total


@compiled
def _stretch(
    numbers: Any, mean: Any, scale: Any, gain: Any, shift: Any, result: Any
) -> None:  # pragma: no cover - compiled
    for column in range(len(numbers)):
        result[column] = (numbers[column] - mean) * scale * gain[column] + shift[column]


@compiled
def _round(numbers: Any, short: Any) -> None:  # pragma: no cover - compiled
    for column in range(len(numbers)):
        short[column] = rounded(numbers[column])
