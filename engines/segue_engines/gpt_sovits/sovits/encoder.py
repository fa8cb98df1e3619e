"""From semantic codes and phones to the distribution that the flow starts from.

Separate from flow and generator because it looks at the whole of what it is given (attention), where those look at a
bounded neighbourhood only.

Source: the description and golden vectors of GPT-SoVITS' `TextEncoder` and `MRTE`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import embedding, interpolate

from segue_engines.gpt_sovits.formats import SovitsConfig
from segue_engines.gpt_sovits.sovits.attention import Weights, encoder_stack, merge_heads, pointwise, split_heads

FRAMES_PER_CODE: Final = 2
"""Codes come at 25 Hz, latent frames at 50 Hz."""
_CROSS_HEADS: Final = 4
_MIXED: Final = 4
"""Frames over which the original mixes two latents of a stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """What the encoder makes of codes and phones; frames are of 20 ms.

    Attributes
    ----------
    quantized
        `(1, 768, frames)`: rows of the codebook.
    ssl, text, cross
        `(1, hidden, frames or phones)`: after the encoder of the codes, that of the phones, and the cross attention.
    latent
        `(1, hidden, frames)`: after the last encoder; its length is changed by speed.
    """

    quantized: Tensor
    ssl: Tensor
    text: Tensor
    cross: Tensor
    latent: Tensor


def encode_text(weights: Weights, config: SovitsConfig, phones: Tensor) -> Tensor:
    """The side of the phones `(m,) int64`, `(m, hidden)`: the same however many codes there are yet."""
    embedded = embedding(phones, weights["enc_p.text_embedding.weight"])
    return encoder_stack(weights, "enc_p.encoder_text", embedded, layers=config.n_layers, heads=config.n_heads)


def encode(
    weights: Weights, config: SovitsConfig, codes: Tensor, text: Tensor, condition: Tensor, *, speed: float = 1.0
) -> Encoded:
    """Encode `codes (n,) int64` beside the encoded text that they say, under `condition (1, condition, 1)`."""
    quantized = codebook(weights)[codes].repeat_interleave(FRAMES_PER_CODE, dim=0)
    short = config.n_layers // 2
    ssl = encoder_stack(
        weights,
        "enc_p.encoder_ssl",
        pointwise(weights, "enc_p.ssl_proj", quantized),
        layers=short,
        heads=config.n_heads,
    )
    cross = _cross(weights, ssl, text, condition[:, :, 0])
    latent = encoder_stack(weights, "enc_p.encoder2", cross, layers=short, heads=config.n_heads).T[None]
    if speed != 1.0:
        latent = interpolate(latent, size=spoken_frames(len(codes), speed), mode="linear")
    return Encoded(quantized=quantized.T[None], ssl=ssl.T[None], text=text.T[None], cross=cross.T[None], latent=latent)


def spoken_frames(codes: int, speed: float) -> int:
    """Latent frames of so many codes at a speed."""
    frames = FRAMES_PER_CODE * codes
    return frames if speed == 1.0 else int(frames / speed) + 1


def project(weights: Weights, latent: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log of the scale, `(1, latent, frames)` each, of an encoder output `(1, hidden, frames)`."""
    mean, log_scale = pointwise(weights, "enc_p.proj", latent[0].T).T[None].chunk(2, dim=1)
    return mean, log_scale


def mix_latents(before: Tensor, latent: Tensor) -> Tensor:
    """Join a latent `(1, hidden, frames)` to the end of the one before it: four frames, with the original's weights."""
    rise = torch.sin(torch.arange(2 * _MIXED, device=latent.device) * (math.pi / (2 * _MIXED)))
    mixed = latent[:, :, :_MIXED] * rise[:_MIXED] + before[:, :, -_MIXED:] * rise[_MIXED:]
    return torch.cat((mixed, latent[:, :, _MIXED:]), dim=2)


def codebook(weights: Weights) -> Tensor:
    """The rows that codes stand for, `(1024, 768)`."""
    return weights["quantizer.vq.layers.0._codebook.embed"]


def _cross(weights: Weights, ssl: Tensor, text: Tensor, condition: Tensor) -> Tensor:
    """Codes attend to phones. v2 adds the condition as it is, Pro through a matrix of its own."""
    if "ge_to512.weight" in weights:
        condition = torch.nn.functional.linear(condition, weights["ge_to512.weight"], weights["ge_to512.bias"])
    sound = pointwise(weights, "enc_p.mrte.c_pre", ssl)
    words = pointwise(weights, "enc_p.mrte.text_pre", text)

    def projected(which: str, x: Tensor) -> Tensor:
        return split_heads(pointwise(weights, f"enc_p.mrte.cross_attention.{which}", x), _CROSS_HEADS)

    query, key, value = projected("conv_q", sound), projected("conv_k", words), projected("conv_v", words)
    scores = query / math.sqrt(query.shape[-1]) @ key.transpose(1, 2)
    mixed = pointwise(weights, "enc_p.mrte.cross_attention.conv_o", merge_heads(torch.softmax(scores, -1) @ value))
    return pointwise(weights, "enc_p.mrte.c_post", mixed + sound + condition)
