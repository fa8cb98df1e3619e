"""Keys and values of everything that the rows of a batch have said so far.

Separate from the network because it outlives steps and rows. Each row has one block that lies together, so attention
reads it without gathering and no further than the row has said; the block is taken from the pool of the process, a
larger one when the row outgrows it, and given back when the row leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segue.errors import SynthesisError
from segue_engines.gpt_sovits.t2s.memory import MemoryPool

_SIZES: Final = (128, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
"""Positions of a block: few sizes, so that those given back fit others; a row outgrows few of them."""
_HEADROOM: Final = 64
"""Positions that a new row has before it outgrows its first block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheShape:
    """What a network keeps of a position: keys and values of each head in each layer."""

    layers: int
    heads: int
    head_width: int
    dtype: torch.dtype = torch.float32

    def block_bytes(self, positions: int) -> int:
        """Size of the block of one row."""
        return self.layers * 2 * positions * self.heads * self.head_width * self.dtype.itemsize


@dataclass(slots=True, eq=False)
class _Held:
    """What a row has: `block (layers, 2, positions, heads, head_width)` upon `memory`, filled up to `length`.

    Positions before heads: all that a step reads of a layer lies together.
    """

    memory: Tensor
    block: Tensor
    length: int


@dataclass(frozen=True, slots=True)
class Reach:
    """Where the keys and values of several rows lie, for one more position of each.

    Attributes
    ----------
    blocks
        `(rows,) uint64`: addresses of `(layers, 2, positions, heads, head_width)`.
    lengths, capacities
        `(rows,) int64`: positions that each has, the new one included, and those that its block has room for.
    """

    blocks: NDArray[np.uint64]
    lengths: NDArray[np.int64]
    capacities: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LayerViews:
    """What one layer does in a step, a view for each row.

    Attributes
    ----------
    ends
        `(2, heads, head_width)` each: where the new key and value go.
    keys, values
        `(1, heads, length + 1, head_width)` each, the new position included.
    """

    ends: Sequence[Tensor]
    keys: Sequence[Tensor]
    values: Sequence[Tensor]


def require_room(wanted: Sequence[int], *, free: int, slots: int, capacity: int) -> None:
    """Raise `SynthesisError` where rows that may need so many positions each cannot join: a slot short, or too long."""
    if len(wanted) > free:
        raise SynthesisError(f"all {slots} slots of the batch are taken; let a row finish first")
    for each in wanted:
        if each > capacity:
            raise SynthesisError(
                f"this utterance may need {each} positions and a slot holds {capacity}: make the text or the "
                "reference shorter"
            )


class KeyValueCache:
    """The rows of one batch in the order of their slots, which are 0 to n - 1.

    Parameters
    ----------
    slots
        How many rows there may be.
    capacity
        Positions that a row may reach.
    pool
        Where memory comes from.
    """

    def __init__(self, shape: CacheShape, *, slots: int, capacity: int, pool: MemoryPool) -> None:
        self.shape = shape
        self.slots = slots
        self.capacity = capacity
        self._pool = pool
        self._rows: list[_Held] = []

    @property
    def lengths(self) -> list[int]:
        """Positions that each occupied slot holds."""
        return [row.length for row in self._rows]

    @property
    def free(self) -> int:
        """Slots that a row could join."""
        return self.slots - len(self._rows)

    @property
    def held_bytes(self) -> int:
        """Memory of all rows."""
        return sum(len(row.memory) for row in self._rows)

    def join(self, lengths: Sequence[int], *, wanted: Sequence[int]) -> list[int]:
        """Take a slot for each of several rows that hold `lengths` positions after their prefill.

        Parameters
        ----------
        wanted
            Positions that each may need.

        Returns
        -------
        list
            The slots, one after the other.

        Raises
        ------
        SynthesisError
            There are not as many free slots, or a row could outgrow its own; then none of them joins.
        """
        require_room(wanted, free=self.free, slots=self.slots, capacity=self.capacity)
        first = len(self._rows)
        for length, most in zip(lengths, wanted, strict=True):
            self._rows.append(self._new(length, min(most, length + _HEADROOM)))
        return list(range(first, len(self._rows)))

    def leave(self, slot: int) -> None:
        """Free a slot; the row of the last slot has it from now on."""
        leaver = self._rows[slot]
        self._rows[slot] = self._rows[-1]
        self._rows.pop()
        self._pool.give_back(leaver.memory)

    def written(self, slot: int) -> Tensor:
        """Keys and values of a row so far, `(layers, 2, length, heads, head_width)`."""
        row = self._rows[slot]
        return row.block[:, :, : row.length]

    def reach(self, slots: Sequence[int]) -> Reach:
        """Where these rows get one more position, once `advance` says so. Good until one of them leaves or grows."""
        rows = [self._with_room(slot) for slot in slots]
        return Reach(
            np.array([row.block.data_ptr() for row in rows], np.uint64),
            np.array([row.length + 1 for row in rows], np.int64),
            np.array([row.block.shape[2] for row in rows], np.int64),
        )

    def next_position(self, slots: Sequence[int]) -> list[LayerViews]:
        """What each layer writes and reads to give these rows one more position, as views: `reach` for torch."""
        ends, keys, values = [], [], []
        for slot in slots:
            row = self._with_room(slot)
            seen = row.block[:, :, : row.length + 1].transpose(2, 3)
            ends.append(seen[:, :, :, -1].unbind(0))
            keys.append(seen[:, :1].unbind(0))
            values.append(seen[:, 1:].unbind(0))
        return [
            LayerViews(*of_layer)
            for of_layer in zip(
                zip(*ends, strict=True), zip(*keys, strict=True), zip(*values, strict=True), strict=True
            )
        ]

    def advance(self, slots: Sequence[int]) -> None:
        """These rows have one more position."""
        for slot in slots:
            self._rows[slot].length += 1

    def _with_room(self, slot: int) -> _Held:
        row = self._rows[slot]
        if row.length == row.block.shape[2]:
            self._grow(row)
        return row

    def _new(self, length: int, positions: int) -> _Held:
        shape = self.shape
        positions = next((size for size in _SIZES if size >= positions), positions)
        memory = self._pool.take(shape.block_bytes(positions))
        block = memory.view(shape.dtype).view(shape.layers, 2, positions, shape.heads, shape.head_width)
        return _Held(memory, block, length)

    def _grow(self, row: _Held) -> None:
        larger = self._new(row.length, row.length + 1)
        larger.block[:, :, : row.length] = row.block
        self._pool.give_back(row.memory)
        row.memory, row.block = larger.memory, larger.block
