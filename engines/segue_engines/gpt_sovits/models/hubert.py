"""HuBERT: what a recording says, as features that the codebook of a voice turns into tokens.

Separate from `transformers`, whose model it is held against in tests: importing that costs a process two seconds and
190 MB, and it wants to own its parameters; these are views of an arena.

Source: Hsu et al.: HuBERT (2021); the convolutional front end is that of wav2vec 2.0 (Baevski et al. 2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import conv1d, gelu, group_norm

from segue_engines.gpt_sovits.models.config import CONV_STRIDES, HubertConfig
from segue_engines.gpt_sovits.models.layers import Layers

SHORTEST: Final = 400
"""Samples that one feature is made of."""
_FRONT_EPS: Final = 1e-5
_FRONT: Final = "feature_extractor.conv_layers"
_PLACE: Final = "encoder.pos_conv_embed.conv"


class HubertNetwork:
    """Recordings to features. Safe to call from several threads; they are served one after the other."""

    def __init__(self, config: HubertConfig, tensors: Mapping[str, Tensor]) -> None:
        """Take the tensors of a part (see `preparing`)."""
        self.config = config
        self._layers = Layers(tensors, eps=config.layer_norm_eps, heads=config.num_attention_heads)

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """All tensors that it computes with."""
        return self._layers.tensors

    @torch.inference_mode()
    def __call__(self, signal: Tensor) -> Tensor:
        """The last hidden state.

        Parameters
        ----------
        signal
            `(samples,) float32` at 16 kHz, as it is: the original does not normalise it.

        Returns
        -------
        Tensor
            `(1, 768, frames) float32` at 50 Hz.

        Raises
        ------
        ValueError
            Fewer than 400 samples.
        """
        if len(signal) < SHORTEST:
            raise ValueError(f"{len(signal)} samples are too few for one feature; give {SHORTEST} or more")
        with self._layers.lock:
            x = self._projected(self._front(signal))
            x = self._layers.norm("encoder.layer_norm", x + self._places(x))
            for layer in range(self.config.num_hidden_layers):
                x = self._layer(f"encoder.layers.{layer}", x)
            return x.T[None].contiguous()

    def _front(self, signal: Tensor) -> Tensor:
        """`(samples,)` to `(frames, channels)`."""
        x = signal[None, None]
        for layer, stride in enumerate(CONV_STRIDES):
            x = conv1d(x, self._layers.wide(f"{_FRONT}.{layer}.conv.weight"), stride=stride)
            if layer == 0:
                x = self._channel_norm(f"{_FRONT}.0.layer_norm", x)
            x = gelu(x)
        return x[0].T

    def _channel_norm(self, name: str, x: Tensor) -> Tensor:
        """Each channel over time; the published model calls it a layer norm, and has one for the first layer only."""
        weight, bias = self._layers.tensors[f"{name}.weight"], self._layers.tensors[f"{name}.bias"]
        return group_norm(x, x.shape[1], weight, bias, _FRONT_EPS)

    def _projected(self, x: Tensor) -> Tensor:
        return self._layers.linear(
            "feature_projection.projection", self._layers.norm("feature_projection.layer_norm", x)
        )

    def _places(self, x: Tensor) -> Tensor:
        """Where a feature stands, from its neighbours; an even kernel has one output too many."""
        reach = self.config.num_conv_pos_embeddings
        around = conv1d(
            x.T[None],
            self._layers.wide(f"{_PLACE}.weight"),
            self._layers.tensors[f"{_PLACE}.bias"],
            padding=reach // 2,
            groups=self.config.num_conv_pos_embedding_groups,
        )
        return gelu(around[0, :, : len(x)]).T

    def _layer(self, name: str, x: Tensor) -> Tensor:
        layers = self._layers
        heard = layers.linear(f"{name}.attention.out_proj", layers.attended(f"{name}.attention", x))
        x = layers.norm(f"{name}.layer_norm", x + heard)
        inner = gelu(layers.linear(f"{name}.feed_forward.intermediate_dense", x))
        return layers.norm(f"{name}.final_layer_norm", x + layers.linear(f"{name}.feed_forward.output_dense", inner))
