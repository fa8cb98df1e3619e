"""From latents to samples: transposed convolutions, each followed by residual blocks of several kernel widths.

Separate because it is nine tenths of the decoder's work, and because, like the flow, it works on any window of frames.

Source: Kong, Kim, Bae: HiFi-GAN (2020), first kind of residual block; the last activation's slope is 0.01.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import conv1d, conv2d, conv_transpose2d, leaky_relu

from segue_engines.gpt_sovits.formats import SovitsConfig
from segue_engines.gpt_sovits.sovits.attention import Weights
from segue_engines.gpt_sovits.sovits.blocks import BlockSequence, Grid, Piece, as_blocks, as_image

_SLOPE: Final = 0.1
_LAST_SLOPE: Final = 0.01
_EDGE: Final = 3
"""Frames, or samples, that the first and the last convolution (kernel 7) reach to either side."""


def generator_condition(weights: Weights, condition: Tensor) -> Tensor:
    """What the condition adds after the first convolution, `(1, initial, 1)`."""
    return conv1d(condition, weights["dec.cond.weight"], weights["dec.cond.bias"])


def samples_of(weights: Weights, config: SovitsConfig, z: Tensor, added: Tensor) -> Tensor:
    """`(rows, latent, frames)` to samples `(rows, frames * hop) float32` in (-1, 1).

    Computed in the dtype of the weights, block by block (see `blocks`), as images one pixel high whose channels lie
    next to each other in memory: on a processor that takes two thirds of the time of one-dimensional convolutions.
    """
    grid = Grid.of(z.shape[0], z.shape[2], z.device)
    stages = list(zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True))
    reaches = [*(_upsampling_reach(up, kernel) for up, kernel in stages), _EDGE]
    x = _first(weights, grid, z, added, margin=reaches[0])
    rate = 1
    for stage, (up, kernel) in enumerate(stages):
        wide = _upsampled(weights, f"dec.ups.{stage}", x, up=up, kernel=kernel, rate=rate * up, margin=_widest(config))
        rate *= up
        x = _resblocks(weights, config, stage, wide, margin=reaches[stage + 1])
    return _last(weights, x)


def _first(weights: Weights, grid: Grid, z: Tensor, added: Tensor, *, margin: int) -> BlockSequence:
    kernel = weights["dec.conv_pre.weight"]
    latents = BlockSequence(grid, rate=1, channels=z.shape[1], margin=_EDGE, like=kernel).fill(z.transpose(1, 2))
    x = BlockSequence(grid, rate=1, channels=kernel.shape[0], margin=margin, like=kernel)
    for piece in grid.pieces:
        made = _convolved(weights, "dec.conv_pre", latents.blocks(piece, reach=_EDGE).contiguous())
        torch.add(made.flatten(1, 2), added.transpose(1, 2), out=x.held(piece))
    return x.end()


def _upsampled(
    weights: Weights, name: str, x: BlockSequence, *, up: int, kernel: int, rate: int, margin: int
) -> BlockSequence:
    taps, bias = weights[f"{name}.weight"][:, :, None], weights[f"{name}.bias"]
    reach = _upsampling_reach(up, kernel)
    start = reach * up + (kernel - up) // 2
    wide = BlockSequence(x.grid, rate=rate, channels=taps.shape[1], margin=margin, like=taps)
    for piece in x.grid.pieces:
        active = leaky_relu(x.blocks(piece, reach=reach), _SLOPE)
        made = as_blocks(conv_transpose2d(as_image(active), taps, bias, stride=(1, up)), piece.blocks)
        wide.blocks(piece, reach=0).copy_(made[:, :, start : start + wide.size])
    return wide.end()


def _resblocks(weights: Weights, config: SovitsConfig, stage: int, x: BlockSequence, *, margin: int) -> BlockSequence:
    """The mean of a stage's residual blocks."""
    count = len(config.resblock_kernel_sizes)
    total = x.another(margin=margin)
    for place, dilations in enumerate(config.resblock_dilation_sizes):
        name = f"dec.resblocks.{stage * count + place}"
        between = x
        for step, dilation in enumerate(dilations[:-1]):
            after = x.another(margin=_widest(config))
            for piece in x.grid.pieces:
                torch.add(
                    _pair(weights, name, step, dilation, between, piece), between.held(piece), out=after.held(piece)
                )
            between = after.end()
        for piece in x.grid.pieces:
            made = _pair(weights, name, len(dilations) - 1, dilations[-1], between, piece).add_(between.held(piece))
            held = total.held(piece)
            if place:
                held.add_(made)
            else:
                held.copy_(made)
    total.data.div_(count)
    return total.end()


def _pair(weights: Weights, name: str, step: int, dilation: int, x: BlockSequence, piece: Piece) -> Tensor:
    """Two convolutions of a residual block, `(rows, places, channels)`. The first also makes what the second reads
    beyond its blocks, so that nothing has to be laid out anew between them."""
    first, second = f"{name}.convs1.{step}", f"{name}.convs2.{step}"
    inner = _reach(weights, second)
    active = leaky_relu(x.blocks(piece, reach=inner + _reach(weights, first, dilation)), _SLOPE)
    wide = _convolved(weights, first, active, dilation)
    x.clear_outside(wide, piece, reach=inner)
    return _convolved(weights, second, leaky_relu(wide, _SLOPE, inplace=True)).flatten(1, 2)


def _last(weights: Weights, x: BlockSequence) -> Tensor:
    samples = x.data.new_empty(x.grid.rows, x.grid.blocks * x.size, dtype=torch.float32)
    for piece in x.grid.pieces:
        made = _convolved(weights, "dec.conv_post", leaky_relu(x.blocks(piece, reach=_EDGE), _LAST_SLOPE))
        start = piece.first * x.size
        samples[piece.rows, start : start + piece.blocks * x.size] = torch.tanh(made).flatten(1)
    return samples[:, : x.length]


def _convolved(weights: Weights, name: str, blocks: Tensor, dilation: int = 1) -> Tensor:
    """`(rows, blocks, places, channels)` to the same, shorter by what the kernel reaches to both sides."""
    made = conv2d(
        as_image(blocks), weights[f"{name}.weight"][:, :, None], weights.get(f"{name}.bias"), dilation=(1, dilation)
    )
    return as_blocks(made, blocks.shape[1])


def _reach(weights: Weights, name: str, dilation: int = 1) -> int:
    return weights[f"{name}.weight"].shape[-1] // 2 * dilation


def _upsampling_reach(up: int, kernel: int) -> int:
    """Places to either side on which a block of a transposed convolution depends."""
    return -(-((kernel - up) // 2) // up)


def _widest(config: SovitsConfig) -> int:
    """Places to either side that a pair of convolutions reaches, at most."""
    return max(
        width // 2 * (max(dilations) + 1)
        for width, dilations in zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)
    )


def generator_halo(config: SovitsConfig) -> int:
    """Latent frames to either side on which a sample depends, at most."""
    reach, rate = float(_EDGE), 1
    for up, kernel in zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True):
        rate *= up
        widest = max(
            sum((width - 1) // 2 * (dilation + 1) for dilation in dilations)
            for width, dilations in zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)
        )
        reach += (kernel + widest) / rate
    return math.ceil(reach + _EDGE / rate)
