"""From latents to samples: transposed convolutions, each followed by residual blocks of several kernel widths.

Separate because it is nine tenths of the decoder's work, and because, like the flow, it works on any window of frames.

Source: Kong, Kim, Bae: HiFi-GAN (2020), first kind of residual block; the last activation's slope is 0.01.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import conv1d, conv_transpose1d, leaky_relu

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
    """`(rows, latent, frames)` to samples `(rows, frames * hop)` in (-1, 1)."""
    first = weights["dec.conv_pre.weight"]
    x = conv1d(z, first, weights["dec.conv_pre.bias"], padding=first.shape[-1] // 2) + added
    count = len(config.resblock_kernel_sizes)
    for stage, (rate, kernel) in enumerate(zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True)):
        up = f"dec.ups.{stage}"
        x = conv_transpose1d(
            leaky_relu(x, _SLOPE),
            weights[f"{up}.weight"],
            weights[f"{up}.bias"],
            stride=rate,
            padding=(kernel - rate) // 2,
        )
        blocks = [
            _block(weights, f"dec.resblocks.{stage * count + place}", x, config.resblock_dilation_sizes[place])
            for place in range(count)
        ]
        x = torch.stack(blocks).sum(dim=0) / count
    last = weights["dec.conv_post.weight"]
    return torch.tanh(conv1d(leaky_relu(x, _LAST_SLOPE), last, padding=last.shape[-1] // 2))[:, 0]


def _block(weights: Weights, name: str, x: Tensor, dilations: tuple[int, ...]) -> Tensor:
    for place, dilation in enumerate(dilations):
        wide = _conv(weights, f"{name}.convs1.{place}", leaky_relu(x, _SLOPE), dilation)
        x = _conv(weights, f"{name}.convs2.{place}", leaky_relu_(wide), 1) + x
    return x


def leaky_relu_(x: Tensor) -> Tensor:
    """In place: nobody else holds what a convolution just made."""
    return leaky_relu(x, _SLOPE, inplace=True)


def _conv(weights: Weights, name: str, x: Tensor, dilation: int) -> Tensor:
    kernel = weights[f"{name}.weight"]
    return conv1d(x, kernel, weights[f"{name}.bias"], padding=kernel.shape[-1] // 2 * dilation, dilation=dilation)


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
