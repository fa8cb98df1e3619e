"""Keys and values of everything that the rows of a batch have said so far.

Separate from the network because it outlives steps and rows: memory is reserved once for a number of slots, pages are
taken from the system only when a row reaches them, and rows keep the slots 0..n-1 so that a step reads one contiguous
view instead of gathering. When a row leaves, the last one moves into its place.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from segue.errors import SynthesisError


class KeyValueCache:
    """Slots of one batch.

    Attributes
    ----------
    blocks
        Per layer, `(slots, 2 * heads, capacity, width / heads)`: the heads' keys, then their values. What no row has
        written is zero, never garbage: masked places are multiplied by zero, and zero times NaN would be NaN.
    rows
        The same memory, a line for each position of each head: `(slots * 2 * heads * capacity, width / heads)`.
    lengths
        Positions that each occupied slot holds.
    """

    def __init__(
        self,
        *,
        layers: int,
        slots: int,
        heads: int,
        capacity: int,
        head_width: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (slots, 2 * heads, capacity, head_width)
        self.blocks = [_zeros(shape, dtype, device) for _ in range(layers)]
        self.rows = [block.view(-1, head_width) for block in self.blocks]
        self.slots = slots
        self.dtype = dtype
        self.capacity = capacity
        self.lengths: list[int] = []

    @property
    def used(self) -> int:
        """Occupied slots."""
        return len(self.lengths)

    @property
    def free(self) -> int:
        """Slots that a row could join."""
        return self.slots - self.used

    def join(self, length: int, *, wanted: int) -> int:
        """Take the next slot for a row that holds `length` positions after its prefill and may need `wanted`.

        Raises
        ------
        SynthesisError
            No slot is free, or the row could outgrow one.
        """
        if not self.free:
            raise SynthesisError(f"all {self.slots} slots of the batch are taken; let a row finish first")
        if wanted > self.capacity:
            raise SynthesisError(
                f"this utterance may need {wanted} positions and a slot holds {self.capacity}: make the text or the "
                "reference shorter"
            )
        self.lengths.append(length)
        return self.used - 1

    def leave(self, slot: int) -> None:
        """Free a slot; the row of the last slot moves into it."""
        last = self.used - 1
        length = self.lengths[slot]
        if slot != last:
            length = self.lengths[last]
            extent = max(length, self.lengths[slot])  # the mover's zeros overwrite what the leaver had beyond it
            for block in self.blocks:
                block[slot, :, :extent] = block[last, :, :extent]
            self.lengths[slot] = length
        for block in self.blocks:
            block[last, :, :length] = 0
        self.lengths.pop()

    def ends(self, slots: Sequence[int]) -> Tensor:
        """Where in `rows` the next position of each slot lies, `(slots * 2 * heads,) int64`."""
        heads = self.blocks[0].shape[1]
        device = self.blocks[0].device
        first = torch.tensor([slot * heads * self.capacity + self.lengths[slot] for slot in slots], device=device)
        return (first[:, None] + torch.arange(heads, device=device) * self.capacity).view(-1)


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """Zeros that take no memory before they are written to (on the CPU: calloc, where torch would fill them)."""
    if torch.device(device).type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    width = torch.empty(0, dtype=dtype).element_size()
    return torch.from_numpy(np.zeros(shape, {2: np.int16, 4: np.float32}[width])).view(dtype)
