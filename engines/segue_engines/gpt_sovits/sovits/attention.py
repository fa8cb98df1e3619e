"""The transformer blocks of the SoVITS encoders: attention with relative positions, feed-forward by convolution.

Separate from the encoder because three stacks are built of it. Sequences are `(frames, channels)` here, so that 1x1
convolutions are plain matrix products.

Source: Shaw, Uszkoreit, Vaswani: Self-Attention with Relative Position Representations (2018), as VITS uses it: offsets
-4 to 4, shared by all heads, zero beyond.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import conv1d, layer_norm, linear

NORM_EPSILON: Final = 1e-5
Weights = Mapping[str, Tensor]


def pointwise(weights: Weights, name: str, x: Tensor) -> Tensor:
    """A 1x1 convolution of `x (frames, in)`; its weight is `(out, in, 1)`."""
    return linear(x, weights[f"{name}.weight"].squeeze(-1), weights[f"{name}.bias"])


def split_heads(x: Tensor, heads: int) -> Tensor:
    """`(frames, heads * width)` to `(heads, frames, width)`."""
    return x.view(len(x), heads, -1).transpose(0, 1)


def merge_heads(x: Tensor) -> Tensor:
    """Undo `split_heads`."""
    return x.transpose(0, 1).reshape(x.shape[1], -1)


def encoder_stack(weights: Weights, name: str, x: Tensor, *, layers: int, heads: int) -> Tensor:
    """Run the layers `name.*_layers.0…`; `(frames, hidden)` to the same."""
    for place in range(layers):
        mixed = _relative_attention(weights, f"{name}.attn_layers.{place}", x, heads=heads)
        x = _norm(weights, f"{name}.norm_layers_1.{place}", x + mixed)
        x = _norm(weights, f"{name}.norm_layers_2.{place}", x + _feed_forward(weights, f"{name}.ffn_layers.{place}", x))
    return x


def _norm(weights: Weights, name: str, x: Tensor) -> Tensor:
    return layer_norm(x, x.shape[1:], weights[f"{name}.gamma"], weights[f"{name}.beta"], eps=NORM_EPSILON)


def _feed_forward(weights: Weights, name: str, x: Tensor) -> Tensor:
    first, second = weights[f"{name}.conv_1.weight"], weights[f"{name}.conv_2.weight"]
    wide = conv1d(x.T[None], first, weights[f"{name}.conv_1.bias"], padding=first.shape[-1] // 2)
    narrow = conv1d(wide.relu_(), second, weights[f"{name}.conv_2.bias"], padding=second.shape[-1] // 2)
    return narrow[0].T


def _relative_attention(weights: Weights, name: str, x: Tensor, *, heads: int) -> Tensor:
    query = split_heads(pointwise(weights, f"{name}.conv_q", x), heads)
    key = split_heads(pointwise(weights, f"{name}.conv_k", x), heads)
    value = split_heads(pointwise(weights, f"{name}.conv_v", x), heads)
    query = query / math.sqrt(query.shape[-1])
    relative_keys, relative_values = weights[f"{name}.emb_rel_k"][0], weights[f"{name}.emb_rel_v"][0]
    scores = query @ key.transpose(1, 2)
    _add_near(scores, query @ relative_keys.T)
    chances = torch.softmax(scores, dim=-1)
    mixed = chances @ value + _near(chances, len(relative_values)) @ relative_values
    return pointwise(weights, f"{name}.conv_o", merge_heads(mixed))


def _bands(frames: int, offsets: int) -> list[tuple[int, slice, slice]]:
    """For each offset: its number, and the queries and keys that are so far apart."""
    reach = offsets // 2
    return [
        (place, slice(max(-shift, 0), frames - max(shift, 0)), slice(max(shift, 0), frames - max(-shift, 0)))
        for place, shift in enumerate(range(-reach, reach + 1))
        if abs(shift) < frames
    ]


def _add_near(scores: Tensor, near: Tensor) -> None:
    """Add `near (heads, frames, offsets)` to the diagonals of `scores (heads, frames, frames)` it belongs to."""
    for place, queries, keys in _bands(scores.shape[1], near.shape[2]):
        diagonal = scores[:, queries, keys].diagonal(dim1=1, dim2=2)
        diagonal += near[:, queries, place]


def _near(chances: Tensor, offsets: int) -> Tensor:
    """The diagonals of `chances (heads, frames, frames)` as `(heads, frames, offsets)`, zero where there is no key."""
    near = chances.new_zeros(*chances.shape[:2], offsets)
    for place, queries, keys in _bands(chances.shape[1], offsets):
        near[:, queries, place] = chances[:, queries, keys].diagonal(dim1=1, dim2=2)
    return near
