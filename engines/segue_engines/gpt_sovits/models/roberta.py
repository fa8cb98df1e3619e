"""RoBERTa: one vector for each character of a Chinese text, which T2S takes beside the phones.

Separate from `transformers` for the reasons that `hubert` gives. Only the layers up to the hidden state that is read
are there.

Source: Devlin et al.: BERT (2019), whose network it is; Cui et al. (2020) trained it on Chinese.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding, gelu

from segue_engines.gpt_sovits.models.config import MAX_TOKENS, RobertaConfig
from segue_engines.gpt_sovits.models.layers import Layers
from segue_engines.gpt_sovits.models.vocabulary import Vocabulary


class RobertaNetwork:
    """Texts to vectors (`text.bert.CharacterFeatures`). Safe to call from several threads; one at a time is served."""

    def __init__(self, config: RobertaConfig, vocabulary: Vocabulary, tensors: Mapping[str, Tensor]) -> None:
        """Take the tensors of a part (see `preparing`)."""
        self.config = config
        self.vocabulary = vocabulary
        self._layers = Layers(tensors, eps=config.layer_norm_eps, heads=config.num_attention_heads)

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """All tensors that it computes with."""
        return self._layers.tensors

    def of(self, text: str) -> NDArray[np.float32]:
        """Vectors of a normalised text.

        Returns
        -------
        ndarray
            `(len(text), 1024) float32`, exactly one a character.

        Raises
        ------
        ValueError
            More than 510 characters.
        """
        if len(text) > MAX_TOKENS - 2:
            raise ValueError(f"a text of {len(text)} characters; RoBERTa reads {MAX_TOKENS - 2} at once")
        states = self.hidden_state(torch.from_numpy(self.vocabulary.encode(text)))
        vectors: NDArray[Any] = states[1:-1].numpy()
        return np.ascontiguousarray(vectors, np.float32)

    @torch.inference_mode()
    def hidden_state(self, ids: Tensor) -> Tensor:
        """The third-last hidden state of the whole model; `(tokens,) int64` to `(tokens, 1024) float32`."""
        layers = self._layers
        with layers.lock:
            x = (
                embedding(ids, layers.tensors["embeddings.word_embeddings.weight"]).float()
                + layers.tensors["embeddings.position_embeddings.weight"][: len(ids)].float()
                + layers.tensors["embeddings.token_type_embeddings.weight"][0].float()
            )
            x = layers.norm("embeddings.LayerNorm", x)
            for layer in range(self.config.layers_read):
                x = self._layer(f"encoder.layer.{layer}", x)
            return x

    def _layer(self, name: str, x: Tensor) -> Tensor:
        layers = self._layers
        read = layers.linear(f"{name}.attention.output.dense", layers.attended(f"{name}.attention.self", x))
        x = layers.norm(f"{name}.attention.output.LayerNorm", x + read)
        inner = gelu(layers.linear(f"{name}.intermediate.dense", x))
        return layers.norm(f"{name}.output.LayerNorm", x + layers.linear(f"{name}.output.dense", inner))
