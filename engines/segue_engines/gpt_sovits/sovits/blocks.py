"""Sequences that are convolved block by block, so that all work has one of a few shapes.

Separate from the generator, which is a list of convolutions: here is decided what each call of them covers.

A processor's convolutions are compiled for the shape they are asked for. For a window as wide as its samples that took
1 to 1.9 s in bfloat16 and 150 MB that are kept (0.2 s and 60 MB in float32), anew for every length that a fragment's
last window happens to have. Blocks are of one length, a call takes one of eight numbers of them, and what is compiled
is small.

Convolved in blocks, a sequence needs a margin on both sides from which its first and last block read what lies outside:
zeros, as the padding of a convolution would be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

FRAMES_PER_BLOCK: Final = 8
BLOCKS: Final = (3, 5, 7, 9, 11, 14, 17, 20)
"""How many are convolved at once: as many as the chunks of a stream need (24, 53, 85 and 160 frames with what they
depend on), and some between those for the last chunk, which has any length."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Neighbouring blocks of some rows: what one call convolves.

    Attributes
    ----------
    first, blocks
        The first block, and how many there are.
    """

    rows: slice
    first: int
    blocks: int


@dataclass(frozen=True, slots=True)
class Grid:
    """How a window is cut.

    Attributes
    ----------
    rows
        Windows that are computed together.
    frames
        Their length; blocks may reach beyond it.
    block
        Frames of a block.
    pieces
        Of all rows and all blocks, in order.
    """

    rows: int
    frames: int
    block: int
    pieces: tuple[Piece, ...]

    @classmethod
    def of(cls, rows: int, frames: int, device: torch.device) -> Grid:
        """Blocks of a row at a time on a processor; elsewhere a row is one block, and all go together: launches cost
        more there than shapes."""
        if device.type != "cpu":
            return cls(rows, frames, frames, (Piece(slice(0, rows), 0, 1),))
        whole, rest = divmod(-(-frames // FRAMES_PER_BLOCK), BLOCKS[-1])
        counts = [BLOCKS[-1]] * whole + [next(count for count in BLOCKS if count >= rest)] * (rest > 0)
        firsts = [BLOCKS[-1] * place for place in range(len(counts))]
        pieces = (
            Piece(slice(row, row + 1), first, count)
            for row in range(rows)
            for first, count in zip(firsts, counts, strict=True)
        )
        return cls(rows, frames, FRAMES_PER_BLOCK, tuple(pieces))

    @property
    def blocks(self) -> int:
        """How many a row has."""
        return self.pieces[-1].first + self.pieces[-1].blocks


class BlockSequence:
    """Channels last: `(rows, margin + blocks * size + margin, channels)`, zero outside of what it holds.

    Attributes
    ----------
    size
        Places of a block.
    length
        Places that are held; behind them come zeros.
    """

    def __init__(self, grid: Grid, *, rate: int, channels: int, margin: int, like: Tensor) -> None:
        """`rate` is the number of places for a frame. Fill every piece, then `end` it."""
        self.grid = grid
        self.size = grid.block * rate
        self.length = grid.frames * rate
        self.margin = margin
        self.channels = channels
        self.data = like.new_empty(grid.rows, grid.blocks * self.size + 2 * margin, channels)
        self.data[:, :margin] = 0

    def another(self, *, margin: int) -> BlockSequence:
        """Room for as much as this one holds."""
        rate = self.size // self.grid.block
        return BlockSequence(self.grid, rate=rate, channels=self.channels, margin=margin, like=self.data)

    def fill(self, places: Tensor) -> BlockSequence:
        """Hold these, `(rows, length, channels)`."""
        self.data[:, self.margin : self.margin + self.length] = places
        return self.end()

    def end(self) -> BlockSequence:
        """Forget what was computed behind the last place."""
        self.data[:, self.margin + self.length :] = 0
        return self

    def held(self, piece: Piece) -> Tensor:
        """The places of a piece, `(rows, places, channels)`: to be read or written."""
        start = self.margin + piece.first * self.size
        return self.data[piece.rows, start : start + piece.blocks * self.size]

    def blocks(self, piece: Piece, *, reach: int) -> Tensor:
        """Its blocks, each with `reach` places more to either side: `(rows, blocks, places, channels)`, overlapping."""
        rows, channels = self.data[piece.rows], self.channels
        start = self.margin + piece.first * self.size - reach
        return rows.as_strided(
            (rows.shape[0], piece.blocks, self.size + 2 * reach, channels),
            (rows.stride(0), self.size * channels, channels, 1),
            rows.storage_offset() + start * channels,
        )

    def clear_outside(self, blocks: Tensor, piece: Piece, *, reach: int) -> None:
        """Zero what lies outside of the sequence in computed blocks `(rows, blocks, size + 2 * reach, channels)`."""
        for place in range(piece.blocks):
            before = reach - (piece.first + place) * self.size
            if before <= 0:
                break
            blocks[:, place, :before] = 0
        for place in range(piece.blocks - 1, -1, -1):
            kept = self.length - (piece.first + place) * self.size + reach
            if kept >= self.size + 2 * reach:
                break
            blocks[:, place, max(kept, 0) :] = 0


def as_image(blocks: Tensor) -> Tensor:
    """`(rows, blocks, places, channels)`, dense, as a convolution takes it: `(rows * blocks, channels, 1, places)`."""
    rows, count, places, channels = blocks.shape
    return blocks.reshape(rows * count, 1, places, channels).permute(0, 3, 1, 2)


def as_blocks(image: Tensor, blocks: int) -> Tensor:
    """The other way round: what came of so many blocks of each row, as `(rows, blocks, places, channels)`."""
    flat = image.permute(0, 2, 3, 1)
    return flat.reshape(-1, blocks, flat.shape[2], flat.shape[3])
