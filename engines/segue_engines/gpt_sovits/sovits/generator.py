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

_SLOPE: Final = 0.1
_LAST_SLOPE: Final = 0.01
_EDGE: Final = 3
"""Frames, or samples, that the first and the last convolution (kernel 7) reach to either side."""


def generator_condition(weights: Weights, condition: Tensor) -> Tensor:
    """What the condition adds after the first convolution, `(1, initial, 1)`."""
    return conv1d(condition, weights["dec.cond.weight"], weights["dec.cond.bias"])


def samples_of(weights: Weights, config: SovitsConfig, z: Tensor, added: Tensor) -> Tensor:
    """`(rows, latent, frames)` to samples `(rows, frames * hop) float32` in (-1, 1).

    Computed in the dtype of the weights, as images one pixel high whose channels lie next to each other in memory: on a
    processor that takes two thirds of the time of one-dimensional convolutions.
    """
    first = weights["dec.conv_pre.weight"]
    image = z.to(first.dtype)[:, :, None].contiguous(memory_format=torch.channels_last)
    x = _conv(weights, "dec.conv_pre", image).add_(added[:, :, None])
    count = len(config.resblock_kernel_sizes)
    for stage, (rate, kernel) in enumerate(zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True)):
        up = f"dec.ups.{stage}"
        x = conv_transpose2d(
            leaky_relu(x, _SLOPE, inplace=True),
            weights[f"{up}.weight"][:, :, None],
            weights[f"{up}.bias"],
            stride=(1, rate),
            padding=(0, (kernel - rate) // 2),
        )
        active = leaky_relu(x, _SLOPE)
        total: Tensor | None = None
        for place, dilations in enumerate(config.resblock_dilation_sizes):
            block = _block(weights, f"dec.resblocks.{stage * count + place}", x, active, dilations)
            total = block if total is None else total.add_(block)
        assert total is not None
        x = total.div_(count)
    return torch.tanh(_conv(weights, "dec.conv_post", leaky_relu(x, _LAST_SLOPE, inplace=True)))[:, 0, 0].float()


def _block(weights: Weights, name: str, x: Tensor, active: Tensor, dilations: tuple[int, ...]) -> Tensor:
    """A residual block; `active` is `x` after the activation, which all blocks of a stage begin with."""
    for place, dilation in enumerate(dilations):
        if place:
            active = leaky_relu(x, _SLOPE)
        wide = _conv(weights, f"{name}.convs1.{place}", active, dilation)
        x = _conv(weights, f"{name}.convs2.{place}", leaky_relu(wide, _SLOPE, inplace=True)).add_(x)
    return x


def _conv(weights: Weights, name: str, x: Tensor, dilation: int = 1) -> Tensor:
    kernel = weights[f"{name}.weight"]
    reach = kernel.shape[-1] // 2 * dilation
    bias = weights.get(f"{name}.bias")
    return conv2d(x, kernel[:, :, None], bias, padding=(0, reach), dilation=(1, dilation))


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
