"""Products of a bfloat16 matrix with the few rows of a step, by the tile unit of Xeons (AMX).

Separate from the other products because it is a kernel of our own: oneDNN's costs 15 µs a call, and takes a tenth
longer for sixteen rows. Here a matrix is read as it lies, about as fast as memory gives it; asking for it ahead made it
slower. With many rows oneDNN is the faster one.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import numpy as np
import torch
from llvmlite import ir
from numba import carray, types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic
from torch import Tensor

from segue_engines.gpt_sovits.t2s.compiled import compiled
from segue_engines.gpt_sovits.t2s.vectors import pointer_of, put_rounded

COLUMNS: Final = 16
"""Rows that a tile is multiplied with."""
_ROWS: Final = 16
_DEPTH: Final = 32
"""Numbers of a matrix's row in a tile."""
_BLOCKS: Final = 2
"""Tiles one below the other that share what they are multiplied with."""
_LINE: Final = 64
_SUMS: Final = (0, 1)
_MATRIX: Final = (2, 3)
"""A tile of each block."""
_OTHER: Final = 4
_PERMISSION: Final = (158, 0x1023, 18)
"""`arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)` on x86-64."""
_FLOAT: Final = np.float32(0)
_HALF: Final = np.uint16(0)
_PAIR: Final = np.uint32(0)
_BYTE: Final = ir.IntType(8)
_LONG: Final = ir.IntType(64)
_POINTER: Final = ir.PointerType(_BYTE)


def fits(matrix: Tensor) -> bool:
    """Whether `matrix (out, in) bfloat16` can be multiplied here."""
    rows, depth = matrix.shape
    return available() and matrix.device.type == "cpu" and not rows % (_ROWS * _BLOCKS) and not depth % _DEPTH


@cache
def available() -> bool:
    """Whether the processor has such a unit, and the system lets this process use it."""
    if not torch.cpu.get_capabilities().get("amx_bf16"):
        return False
    return bool(ctypes.CDLL(None, use_errno=True).syscall(*_PERMISSION) == 0)


@cache
def compile_now() -> None:
    """Compile it, which takes a second or so, the first time in a process: not when the first listener waits."""
    matrix = torch.zeros(_ROWS * _BLOCKS, _DEPTH, dtype=torch.bfloat16, device="cpu")
    product(matrix, matrix[:1], torch.zeros(len(matrix), device="cpu"))


def product(matrix: Tensor, x: Tensor, bias: Tensor) -> Tensor:
    """`matrix @ x.T + bias`, rounded once to bfloat16, `(out, rows)` and contiguous.

    A row comes out the same, bit by bit, whatever rows are beside it.

    Parameters
    ----------
    matrix
        `(out, in) bfloat16`, contiguous; see `fits`.
    x
        `(rows, in) bfloat16`, contiguous or turned.
    bias
        `(out,) float32`.
    """
    if not available():  # the system would end the process
        raise RuntimeError("this processor has no tile unit (AMX), or the system does not let this process use it")
    rows, depth = x.shape
    result = torch.empty(len(matrix), rows, dtype=torch.bfloat16)
    row_step, step = x.stride()
    _product(
        len(matrix),
        depth,
        rows,
        matrix.data_ptr(),
        x.data_ptr(),
        row_step,
        step,
        bias.data_ptr(),
        result.data_ptr(),
        _SHAPES,
    )
    return result


def _shapes() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """What `ldtilecfg` takes: palette 1, and all tiles of sixteen rows of 64 bytes."""
    shapes = np.zeros(_LINE, np.uint8)
    shapes[0] = 1
    tiles = _OTHER + 1
    shapes[16 : 16 + 2 * tiles : 2] = _LINE
    shapes[48 : 48 + tiles] = _ROWS
    return shapes


_SHAPES: Final = _shapes()


def _call(build: ir.IRBuilder, name: str, kinds: Sequence[ir.Type], given: Sequence[ir.Value]) -> None:
    function = get_or_insert_function(build.module, ir.FunctionType(ir.VoidType(), list(kinds)), f"llvm.x86.{name}")
    build.call(function, list(given))


def _tile(number: int) -> ir.Constant:
    return ir.Constant(_BYTE, number)


@intrinsic
def _begin(_typing: Any, shapes: Any) -> Any:
    def generate(context: Any, build: ir.IRBuilder, _signature: Any, given: Any) -> Any:
        _call(build, "ldtilecfg", [_POINTER], [build.inttoptr(given[0], _POINTER)])
        return context.get_dummy_value()

    return types.void(types.uint64), generate


@intrinsic
def _end(_typing: Any) -> Any:
    def generate(context: Any, build: ir.IRBuilder, _signature: Any, _given: Any) -> Any:
        _call(build, "tilerelease", [], [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def _zero(_typing: Any) -> Any:
    """Begin the sums."""

    def generate(context: Any, build: ir.IRBuilder, _signature: Any, _given: Any) -> Any:
        for number in _SUMS:
            _call(build, "tilezero", [_BYTE], [_tile(number)])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def _add(_typing: Any, matrix: Any, row_bytes: Any, other: Any) -> Any:
    """Add what one depth of the blocks gives with the tile beside them."""

    def generate(context: Any, build: ir.IRBuilder, _signature: Any, given: Any) -> Any:
        matrix, row_bytes, other = given
        place, line = [_BYTE, _POINTER, _LONG], ir.Constant(_LONG, _LINE)
        _call(build, "tileloadd64", place, [_tile(_OTHER), build.inttoptr(other, _POINTER), line])
        for total, tile in zip(_SUMS, _MATRIX, strict=True):
            _call(build, "tileloadd64", place, [_tile(tile), build.inttoptr(matrix, _POINTER), row_bytes])
            _call(build, "tdpbf16ps", [_BYTE] * 3, [_tile(total), _tile(tile), _tile(_OTHER)])
            matrix = build.add(matrix, build.mul(row_bytes, ir.Constant(_LONG, _ROWS)))
        return context.get_dummy_value()

    return types.void(*[types.uint64] * 3), generate


@intrinsic
def _put(_typing: Any, sums: Any) -> Any:
    """Write the sums, `(rows of all blocks, 16) float32`."""

    def generate(context: Any, build: ir.IRBuilder, _signature: Any, given: Any) -> Any:
        place = given[0]
        for number in _SUMS:
            what = [_tile(number), build.inttoptr(place, _POINTER), ir.Constant(_LONG, _LINE)]
            _call(build, "tilestored64", [_BYTE, _POINTER, _LONG], what)
            place = build.add(place, ir.Constant(_LONG, _ROWS * _LINE))
        return context.get_dummy_value()

    return types.void(types.uint64), generate


@compiled
def _product(
    out: Any,
    depth: Any,
    rows: Any,
    matrix_at: Any,
    x_at: Any,
    row_step: Any,
    step: Any,
    bias_at: Any,
    result_at: Any,
    shapes: Any,
) -> None:  # pragma: no cover - compiled
    bias = carray(pointer_of(bias_at, _FLOAT), (out,))
    result = carray(pointer_of(result_at, _HALF), (out, rows))
    groups = (rows + COLUMNS - 1) // COLUMNS
    pairs = np.zeros((groups, depth // 2, COLUMNS), np.uint32)
    for group in range(groups):
        count = min(COLUMNS, rows - group * COLUMNS)
        if step == 1:
            _pair_upright(x_at + 2 * group * COLUMNS * row_step, row_step, depth // 2, count, pairs[group])
        else:
            _pair_turned(x_at + 2 * group * COLUMNS, step, depth // 2, count, pairs[group])
    sums = np.empty((_ROWS * _BLOCKS, COLUMNS), np.float32)
    sums_at, row_bytes, group_bytes = np.uint64(sums.ctypes.data), np.uint64(2 * depth), np.uint64(2 * depth * COLUMNS)
    pairs_at = np.uint64(pairs.ctypes.data)
    _begin(np.uint64(shapes.ctypes.data))
    for first in range(0, out, _ROWS * _BLOCKS):
        here = np.uint64(matrix_at) + np.uint64(first) * row_bytes
        for group in range(groups):
            other = pairs_at + np.uint64(group) * group_bytes
            _zero()
            for place in range(0, depth, _DEPTH):
                _add(here + np.uint64(2 * place), row_bytes, other + np.uint64(place * COLUMNS * 2))
            _put(sums_at)
            _round(sums, bias, first, group * COLUMNS, result)
    _end()


@compiled
def _pair_upright(x_at: Any, row_step: Any, depth: Any, rows: Any, pairs: Any) -> None:  # pragma: no cover - compiled
    """Two numbers of each row side by side, from rows that lie one after the other."""
    for row in range(rows):
        there = carray(pointer_of(np.uint64(x_at + 2 * row * row_step), _PAIR), (depth,))
        for place in range(depth):
            pairs[place, row] = there[place]


@compiled
def _pair_turned(x_at: Any, step: Any, depth: Any, rows: Any, pairs: Any) -> None:  # pragma: no cover - compiled
    """The same from columns."""
    there = carray(pointer_of(np.uint64(x_at), _HALF), (2 * depth, step))
    for place in range(depth):
        for row in range(rows):
            pairs[place, row] = np.uint32(there[2 * place, row]) | (
                np.uint32(there[2 * place + 1, row]) << np.uint32(16)
            )


@compiled
def _round(sums: Any, bias: Any, first_row: Any, first_column: Any, result: Any) -> None:  # pragma: no cover - compiled
    sums_at, bias_at = np.uint64(sums.ctypes.data), np.uint64(bias.ctypes.data)
    result_at, row_bytes = np.uint64(result.ctypes.data), np.uint64(2 * result.shape[1])
    last = np.empty(COLUMNS, np.uint16)
    count = min(COLUMNS, result.shape[1] - first_column)
    for place in range(_ROWS * _BLOCKS):
        row = first_row + place
        here, added = sums_at + np.uint64(place * _LINE), bias_at + np.uint64(4 * row)
        if count == COLUMNS:
            put_rounded(here, added, result_at + np.uint64(row) * row_bytes + np.uint64(2 * first_column))
        else:
            put_rounded(here, added, np.uint64(last.ctypes.data))
            for each in range(count):
                result[row, first_column + each] = last[each]
