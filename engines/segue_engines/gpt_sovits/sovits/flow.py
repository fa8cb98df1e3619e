"""The normalising flow, backwards: from the encoder's distribution to the generator's latents.

Separate from its neighbours because it works on any window of frames: each output frame depends on `HALO` frames to
either side and no more.

Source: the description and golden vectors of GPT-SoVITS' `ResidualCouplingBlock`; WaveNet layers as in WaveGlow.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import conv1d

from segue_engines.gpt_sovits.formats import SovitsConfig
from segue_engines.gpt_sovits.sovits.attention import Weights

_COUPLINGS: Final = (6, 4, 2, 0)
"""Their names in the file, in the order in which they are undone; the odd ones reverse channels and have no weights."""
_LAYERS: Final = 4
_KERNEL: Final = 5
HALO: Final = len(_COUPLINGS) * _LAYERS * (_KERNEL // 2)
"""Frames to either side on which an output frame depends."""


def flow_conditions(weights: Weights, condition: Tensor) -> list[Tensor]:
    """What the condition adds in each coupling, `(1, 8 * hidden, 1)` each: the same for every frame of a voice."""
    return [
        conv1d(
            condition,
            weights[f"flow.flows.{place}.enc.cond_layer.weight"],
            weights[f"flow.flows.{place}.enc.cond_layer.bias"],
        )
        for place in _COUPLINGS
    ]


def undo_flow(weights: Weights, config: SovitsConfig, z_p: Tensor, conditions: list[Tensor]) -> Tensor:
    """`(rows, latent, frames)` to the same."""
    z = z_p
    for place, added in zip(_COUPLINGS, conditions, strict=True):
        first, second = z.flip(1).chunk(2, dim=1)
        z = torch.cat(
            (first, second - _shift(weights, f"flow.flows.{place}", config.hidden_channels, first, added)), dim=1
        )
    return z


def _shift(weights: Weights, name: str, hidden: int, first: Tensor, added: Tensor) -> Tensor:
    x = _conv(weights, f"{name}.pre", first)
    total: Tensor | None = None
    for place, slices in enumerate(torch.split(added, 2 * hidden, dim=1)):
        gates = _conv(weights, f"{name}.enc.in_layers.{place}", x).add_(slices)
        acts = torch.tanh(gates[:, :hidden]).mul_(torch.sigmoid(gates[:, hidden:]))
        both = _conv(weights, f"{name}.enc.res_skip_layers.{place}", acts)
        skip = both
        if place < _LAYERS - 1:
            x = x + both[:, :hidden]
            skip = both[:, hidden:]
        total = skip if total is None else total + skip
    assert total is not None
    return _conv(weights, f"{name}.post", total)


def _conv(weights: Weights, name: str, x: Tensor) -> Tensor:
    kernel = weights[f"{name}.weight"]
    return conv1d(x, kernel, weights[f"{name}.bias"], padding=kernel.shape[-1] // 2)
