"""Attention of one step of a batch, compiled for this processor when the first voice is built.

Separate from the network because it is one pass over the memory of all rows: the new key and value are written, and
each query looks at its row's past, as far as that row has said. What bounds it is reading keys and values, so they are
read once, in the order in which they lie. A row's result depends on that row alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import numpy as np
import torch
from numba import carray
from numpy.typing import NDArray
from torch import Tensor

from segue_engines.gpt_sovits.t2s.cache import CacheShape, Reach
from segue_engines.gpt_sovits.t2s.compiled import compiled, widened
from segue_engines.gpt_sovits.t2s.vectors import HEAD_WIDTH, LANES, TOGETHER, float_of_bits, pointer_of, steps_of

_AHEAD: Final = 4
"""How many positions before they are needed keys and values are asked for."""
_LOG2_E: Final = np.float32(math.log2(math.e))
_COLDEST: Final = np.float32(-126)
_LOWEST: Final = np.float32(-3e38)
_ONE: Final = np.float32(1)
_ZERO: Final = np.float32(0)
_BIAS: Final = np.int32(127)
_MANTISSA_BITS: Final = np.int32(23)

Kernel = Callable[[int, NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64], int, int], None]
"""`(packed, blocks, lengths, capacities, layer, mixed)`: the first and the last are addresses."""


class StepAttention:
    """What `T2SNetwork` calls in each layer."""

    def __init__(self, shape: CacheShape) -> None:
        """Compile it, which takes a second or so, the first time in a process."""
        self._dtype = shape.dtype
        self._width = shape.heads * shape.head_width
        self._kernel = _kernel(shape.dtype == torch.bfloat16, shape.heads)

    @staticmethod
    def knows(shape: CacheShape, device: torch.device) -> bool:
        """Whether there is one for a network: on a processor, with heads as all GPT-SoVITS voices have them."""
        return device.type == "cpu" and shape.head_width == HEAD_WIDTH

    def __call__(self, packed: Tensor, reach: Reach, layer: int) -> Tensor:
        """Queries, keys and values of the new positions, `packed (rows, 3 * width)`, to `(rows, width) float32`."""
        mixed = torch.empty(len(packed), self._width, device=packed.device)
        given = packed.to(self._dtype).contiguous()
        self._kernel(given.data_ptr(), reach.blocks, reach.lengths, reach.capacities, layer, mixed.data_ptr())
        return mixed


@compiled
def _exp(number: Any) -> Any:  # pragma: no cover - compiled
    """Of a number up to 0, to 2e-7 of its value; a polynomial, because the C library's takes one number at a time."""
    power = max(number * _LOG2_E, _COLDEST)
    whole = np.floor(power)
    rest = power - whole
    result = np.float32(1.8775767e-3)
    result = result * rest + np.float32(8.9893397e-3)
    result = result * rest + np.float32(5.5826318e-2)
    result = result * rest + np.float32(2.4015361e-1)
    result = result * rest + np.float32(6.9315308e-1)
    result = result * rest + np.float32(9.9999994e-1)
    return result * float_of_bits(np.uint32((np.int32(whole) + _BIAS) << _MANTISSA_BITS))


@compiled
def _softmax(scores: Any, length: Any, highest: Any, total: Any) -> None:  # pragma: no cover - compiled
    """In place, of the first positions of each column of `scores (positions, heads)`.

    What is not a number makes a whole column so. Multiplied by zero, it is added to the total: comparisons pass over
    it, and so does `_exp`.
    """
    for head in range(scores.shape[1]):
        highest[head] = _LOWEST
        total[head] = _ZERO
    for position in range(length):
        for head in range(scores.shape[1]):
            score = scores[position, head]
            highest[head] = score if score > highest[head] else highest[head]
            total[head] += score * _ZERO
    for position in range(length):
        for head in range(scores.shape[1]):
            scores[position, head] = _exp(scores[position, head] - highest[head])
            total[head] += scores[position, head]
    for head in range(scores.shape[1]):
        total[head] = _ONE / total[head]
    for position in range(length):
        for head in range(scores.shape[1]):
            scores[position, head] *= total[head]


@cache
def _kernel(half: bool, heads: int) -> Kernel:
    scores_of, mix, mix_one = steps_of(half=half, heads=heads)
    width, padded = heads * HEAD_WIDTH, -(-heads // LANES) * LANES
    head_bytes = np.uint64(HEAD_WIDTH * (2 if half else 4))
    position_bytes = head_bytes * np.uint64(heads)
    scale = np.float32(HEAD_WIDTH**-0.5)
    next_position = np.uint64(4 * padded)
    query_bytes, four, ahead = np.uint64(HEAD_WIDTH * 4), np.uint64(4), np.uint64(_AHEAD)
    stored = np.uint16(0) if half else _ZERO
    stride, other = (2, 1) if half else (1, LANES)

    @compiled
    def number_of(given: Any) -> Any:  # pragma: no cover - compiled
        if half:
            return widened(given)
        return given

    def adding(add_to: Callable[..., None]) -> Callable[..., None]:
        """Adds the values of all heads from a position on to their sums."""

        @compiled
        def add(sums_at: Any, values_at: Any, scores_at: Any, position: Any) -> None:  # pragma: no cover - compiled
            value_at = values_at + np.uint64(position) * position_bytes
            weight_at = scores_at + np.uint64(position) * next_position
            for each in range(heads):
                head = np.uint64(each)
                here = value_at + head * head_bytes
                further = here + ahead * position_bytes
                sum_at = sums_at + head * query_bytes
                add_to(sum_at, here, weight_at + head * four, next_position, position_bytes, further)

        return add

    add_together, add_one = adding(mix), adding(mix_one)

    @compiled
    def attend(
        packed_at: Any, blocks: Any, lengths: Any, capacities: Any, layer: Any, mixed_at: Any
    ) -> None:  # pragma: no cover - compiled
        packed = carray(pointer_of(packed_at, stored), (len(blocks), 3 * width))
        mixed = carray(pointer_of(mixed_at, _ZERO), (len(blocks), width))
        longest = 0
        for row in range(len(lengths)):
            longest = max(longest, lengths[row])
        scores = np.empty((longest, padded), np.float32)
        highest, total = np.empty(padded, np.float32), np.empty(padded, np.float32)
        queries, sums = np.empty((heads, HEAD_WIDTH), np.float32), np.empty((heads, HEAD_WIDTH), np.float32)
        queries_at, sums_at = np.uint64(queries.ctypes.data), np.uint64(sums.ctypes.data)
        scores_at = np.uint64(scores.ctypes.data)
        for row in range(len(blocks)):
            length, capacity = lengths[row], np.uint64(capacities[row])
            keys_at = blocks[row] + np.uint64(2 * layer) * capacity * position_bytes
            values_at = keys_at + capacity * position_bytes
            last = np.uint64(length - 1) * position_bytes
            key = carray(pointer_of(keys_at + last, stored), (width,))
            value = carray(pointer_of(values_at + last, stored), (width,))
            for place in range(width):
                key[place] = packed[row, width + place]
                value[place] = packed[row, 2 * width + place]
            for head in range(heads):
                for lane in range(LANES):
                    place = head * HEAD_WIDTH + stride * lane
                    queries[head, lane] = number_of(packed[row, place]) * scale
                    queries[head, LANES + lane] = number_of(packed[row, place + other]) * scale

            for position in range(length):
                key_at = keys_at + np.uint64(position) * position_bytes
                score_at = scores_at + np.uint64(position) * next_position
                scores_of(queries_at, key_at, score_at, key_at + ahead * position_bytes)
            _softmax(scores, length, highest, total)

            for head in range(heads):
                for lane in range(HEAD_WIDTH):
                    sums[head, lane] = _ZERO
            together = length // TOGETHER * TOGETHER
            for position in range(0, together, TOGETHER):
                add_together(sums_at, values_at, scores_at, position)
            for position in range(together, length):
                add_one(sums_at, values_at, scores_at, position)
            for head in range(heads):
                for lane in range(LANES):
                    place = head * HEAD_WIDTH + stride * lane
                    mixed[row, place] = sums[head, lane]
                    mixed[row, place + other] = sums[head, LANES + lane]

    one, none = np.ones(1, np.int64), np.zeros(3 * width, np.float32)
    block = np.zeros(2 * width, np.float32)
    attend(none.ctypes.data, np.array([block.ctypes.data], np.uint64), one, one, 0, none.ctypes.data)
    return attend
