"""The speaker network (ERes2NetV2) that Pro voices are conditioned by.

Separate from the SoVITS decoder because it runs once, when a voice is prepared, and its weights are a file of their
own. Used up to the fused feature map; pooling and the layers after it are not.

Source: Chen et al.: ERes2NetV2 (2024), and its description and golden vectors; base width 24, scale 4, expansion 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import batch_norm, conv2d, hardtanh, relu, silu

from segue_engines.gpt_sovits.front.fbank import fbank

VECTOR: Final = 20_480
_BLOCKS: Final = (3, 4, 6, 3)
_CEILING: Final = 20.0


class SpeakerNetwork:
    """Recordings to speaker vectors."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the tensors of the file, batch norm statistics included."""
        self._weights = tensors

    @torch.inference_mode()
    def vector(self, signal: Tensor) -> Tensor:
        """The speaker vector `(1, 20480) float32` of `(samples,) float32` at 16 kHz, in [-1, 1]."""
        return self.vector_of_features(fbank(signal))

    @torch.inference_mode()
    def vector_of_features(self, features: Tensor) -> Tensor:
        """The speaker vector `(1, 20480) float32` of filter bank features `(frames, 80)`."""
        x = relu(self._norm("bn1", self._conv("conv1", features.T[None, None], padding=1)))
        maps: list[Tensor] = []
        for stage, blocks in enumerate(_BLOCKS, start=1):
            for block in range(blocks):
                x = self._block(f"layer{stage}.{block}", x, stride=2 if stage > 1 and block == 0 else 1)
            maps.append(x)
        coarse = self._conv("layer3_ds", maps[2], stride=2, padding=1)
        return self._fused("fuse34", maps[3], coarse).flatten(1, 2).mean(dim=-1)

    def _block(self, name: str, x: Tensor, *, stride: int) -> Tensor:
        wide = self._clipped(self._norm(f"{name}.bn1", self._conv(f"{name}.conv1", x, stride=stride)))
        width = self._weights[f"{name}.convs.0.weight"].shape[0]
        fuses = f"{name}.fuse_models.0.local_att.0.weight" in self._weights
        done: list[Tensor] = []
        for place, piece in enumerate(torch.split(wide, width, dim=1)):
            if done and fuses:
                piece = self._fused(f"{name}.fuse_models.{place - 1}", done[-1], piece)
            elif done:
                piece = done[-1] + piece
            mixed = self._conv(f"{name}.convs.{place}", piece, padding=1)
            done.append(self._clipped(self._norm(f"{name}.bns.{place}", mixed)))
        out = self._norm(f"{name}.bn3", self._conv(f"{name}.conv3", torch.cat(done, dim=1)))
        if f"{name}.shortcut.0.weight" in self._weights:
            x = self._norm(f"{name}.shortcut.1", self._conv(f"{name}.shortcut.0", x, stride=stride))
        return self._clipped(out + x)

    def _fused(self, name: str, x: Tensor, y: Tensor) -> Tensor:
        """Weigh two maps against each other, place by place."""
        inner = silu(self._norm(f"{name}.local_att.1", self._conv(f"{name}.local_att.0", torch.cat((x, y), dim=1))))
        share = 1.0 + torch.tanh(self._norm(f"{name}.local_att.4", self._conv(f"{name}.local_att.3", inner)))
        return x * share + y * (2.0 - share)

    def _conv(self, name: str, x: Tensor, *, stride: int = 1, padding: int = 0) -> Tensor:
        return conv2d(x, self._weights[f"{name}.weight"], self._weights.get(f"{name}.bias"), stride, padding)

    def _norm(self, name: str, x: Tensor) -> Tensor:
        mean, variance, weight, bias = (
            self._weights[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")
        )
        return batch_norm(x, mean, variance, weight, bias)

    @staticmethod
    def _clipped(x: Tensor) -> Tensor:
        return hardtanh(x, 0.0, _CEILING)
