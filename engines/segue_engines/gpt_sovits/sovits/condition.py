"""How a voice sounds, as one vector: from reference spectrograms and, for Pro voices, speaker vectors.

Separate from the decoder because it is done once per reference and used for every utterance.

Source: the description and golden vectors of GPT-SoVITS' `MelStyleEncoder`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import conv1d, linear, mish, prelu

from segue.errors import SynthesisError
from segue_engines.gpt_sovits.formats import SovitsConfig
from segue_engines.gpt_sovits.sovits.attention import Weights, merge_heads, split_heads

BINS: Final = 704
"""Lower bins of the spectrogram that are looked at."""
_HEADS: Final = 2


def condition_of(
    weights: Weights, config: SovitsConfig, spectrograms: Sequence[Tensor], speakers: Sequence[Tensor]
) -> Tensor:
    """The condition vector `(1, condition, 1)` of one or several references (their mean).

    Parameters
    ----------
    spectrograms
        `(1, 1025, frames) float32` each.
    speakers
        `(1, 20480) float32` each, one per spectrogram; empty for v2.

    Raises
    ------
    SynthesisError
        No reference, or not one speaker vector for each reference of a Pro voice.
    """
    if not spectrograms or len(speakers) != (len(spectrograms) if config.version.is_pro else 0):
        wanted = "as many speaker vectors" if config.version.is_pro else "no speaker vector"
        raise SynthesisError(
            f"a {config.version} voice takes at least one reference and {wanted}; "
            f"given were {len(spectrograms)} references and {len(speakers)} speaker vectors"
        )
    single = [_style(weights, each) for each in spectrograms]
    if config.version.is_pro:
        slopes = weights["prelu.weight"]
        single = [
            prelu(style + linear(speaker, weights["sv_emb.weight"], weights["sv_emb.bias"]), slopes)
            for style, speaker in zip(single, speakers, strict=True)
        ]
    return torch.stack(single).mean(dim=0)[:, :, None]


def _style(weights: Weights, spectrogram: Tensor) -> Tensor:
    """`(1, 1025, frames)` to `(1, condition)`."""
    x = spectrogram[0, :BINS].T
    for place in (0, 3):
        name = f"ref_enc.spectral.{place}.fc"
        x = mish(linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"]))
    for place in range(2):
        x = x + _gated(weights, f"ref_enc.temporal.{place}.conv1.conv", x)
    x = x + _attention(weights, x)
    return linear(x, weights["ref_enc.fc.fc.weight"], weights["ref_enc.fc.fc.bias"]).mean(dim=0, keepdim=True)


def _gated(weights: Weights, name: str, x: Tensor) -> Tensor:
    kernel = weights[f"{name}.weight"]
    first, second = conv1d(x.T[None], kernel, weights[f"{name}.bias"], padding=kernel.shape[-1] // 2)[0].T.chunk(2, 1)
    return first * torch.sigmoid(second)


def _attention(weights: Weights, x: Tensor) -> Tensor:
    """Scaled by the full width, not the width of a head."""

    def projected(which: str) -> Tensor:
        name = f"ref_enc.slf_attn.{which}"
        return split_heads(linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"]), _HEADS)

    scores = projected("w_qs") @ projected("w_ks").transpose(1, 2) / x.shape[1] ** 0.5
    mixed = merge_heads(torch.softmax(scores, dim=-1) @ projected("w_vs"))
    return linear(mixed, weights["ref_enc.slf_attn.fc.weight"], weights["ref_enc.slf_attn.fc.bias"])
