"""The T2S transformer: prefill of one utterance, and one step of a whole batch.

Source: the description and golden vectors of GPT-SoVITS' `Text2SemanticDecoder` (text sees all text, audio sees text
and audio up to itself; post-norm layers; learned scales of sinusoidal positions).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, scaled_dot_product_attention

from segue.errors import SynthesisError
from segue_engines.gpt_sovits.formats import T2SConfig
from segue_engines.gpt_sovits.t2s.cache import KeyValueCache
from segue_engines.gpt_sovits.t2s.linear import Linear, linear_of

BERT_WIDTH: Final = 1024
_NORM_EPSILON: Final = 1e-5
_POSITIONS: Final = 4096
_HIDDEN: Final = float("-inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """What the network continues.

    Attributes
    ----------
    phones
        `(n,) int64`: phone ids of the reference's text, then of the text to say.
    bert
        `(1024, n) float32`, or None for zeros (every language but Chinese).
    prompt
        `(m,) int64`: semantic tokens of the reference; empty without one.
    """

    phones: Tensor
    bert: Tensor | None
    prompt: Tensor


@dataclass(frozen=True, slots=True)
class _Layer:
    qkv: Linear
    out: Linear
    widen: Linear
    narrow: Linear
    norm1: tuple[Tensor, Tensor]
    norm2: tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class _Attention:
    """Attention of one step: each row looks at its own slot.

    Rows in neighbouring slots are done in one call that hides what lies beyond each length; others one by one. In the
    dtype of the cache, which is bfloat16 where the matrices are smaller than float32.
    """

    cache: KeyValueCache
    slots: Sequence[int]
    lengths: Sequence[int]
    ends: Tensor
    hidden: Tensor | None

    @classmethod
    def over(cls, cache: KeyValueCache, slots: Sequence[int], *, device: torch.device) -> _Attention:
        lengths = [cache.lengths[slot] for slot in slots]
        hidden = None
        if min(lengths) != max(lengths):
            beyond = torch.arange(max(lengths) + 1, device=device) > torch.tensor(lengths, device=device)[:, None]
            hidden = torch.zeros(beyond.shape, device=device, dtype=cache.dtype).masked_fill_(beyond, _HIDDEN)
            hidden = hidden[:, None, None]
        return cls(cache, slots, lengths, cache.ends(slots), hidden)

    def mixed(self, layer: int, packed: Tensor) -> Tensor:
        """Add the keys and values of `packed (rows, 3 * width)` and let its queries look; returns `(rows, width)`."""
        block, count = self.cache.blocks[layer], len(self.slots)
        twice, head_width = block.shape[1], block.shape[3]
        heads = twice // 2
        width = heads * head_width
        packed = packed.to(self.cache.dtype)
        query = packed[:, :width].view(count, heads, 1, head_width)
        self.cache.rows[layer].index_copy_(0, self.ends, packed[:, width:].reshape(-1, head_width))
        first = self.slots[0]
        if self.slots[-1] - first + 1 == count:
            seen = block[first : first + count, :, : max(self.lengths) + 1]
            return scaled_dot_product_attention(query, seen[:, :heads], seen[:, heads:], attn_mask=self.hidden).view(
                count, width
            )
        alone = []
        for row, (slot, length) in enumerate(zip(self.slots, self.lengths, strict=True)):
            seen = block[slot : slot + 1, :, : length + 1]
            alone.append(scaled_dot_product_attention(query[row : row + 1], seen[:, :heads], seen[:, heads:]))
        return torch.cat(alone).view(count, width)


class T2SNetwork:
    """The network on tensors that belong to somebody else (an arena): `parameters`. Nothing is copied."""

    def __init__(self, config: T2SConfig, tensors: Mapping[str, Tensor]) -> None:
        """Take the tensors of a `.ckpt` file, with or without `model.` before their names."""
        self.parameters = tensors
        weights = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
        self.config = config
        self._head_width = config.hidden_dim // config.head
        self._text = weights["ar_text_embedding.word_embeddings.weight"]
        self._audio = weights["ar_audio_embedding.word_embeddings.weight"]
        self._bert = (weights["bert_proj.weight"], weights["bert_proj.bias"])
        self._positions = _positions(config.hidden_dim, self._audio.device)
        self._text_scale = weights["ar_text_position.alpha"]
        self._audio_scale = weights["ar_audio_position.alpha"]
        self._layers = [_layer(weights, f"h.layers.{place}.") for place in range(config.n_layer)]
        plain = all(weights[f"h.layers.{place}.linear1.weight"].is_floating_point() for place in range(config.n_layer))
        self._cached = torch.float32 if plain else torch.bfloat16
        self._head = weights["ar_predict_layer.weight"].t()

    @property
    def device(self) -> torch.device:
        """Where it computes: where its weights lie."""
        return self._audio.device

    def new_cache(self, *, slots: int, capacity: int) -> KeyValueCache:
        """Reserve room for `slots` rows of up to `capacity` positions each."""
        return KeyValueCache(
            layers=self.config.n_layer,
            slots=slots,
            heads=self.config.head,
            capacity=capacity,
            head_width=self._head_width,
            dtype=self._cached,
            device=self._audio.device,
        )

    def prefill(self, utterance: Utterance, cache: KeyValueCache, *, room: int) -> tuple[int, Tensor]:
        """Read an utterance into a free slot.

        Parameters
        ----------
        room
            Positions that may follow.

        Returns
        -------
        tuple
            The slot, and the raw logits `(1, vocabulary)` of step 0.

        Raises
        ------
        SynthesisError
            There is no room for it.
        """
        texts = len(utterance.phones)
        if max(texts, len(utterance.prompt) + room) > _POSITIONS:
            raise SynthesisError(
                f"{texts} phones and {len(utterance.prompt) + room} tokens; at most {_POSITIONS} of either can be told "
                "apart: make the text or the reference shorter"
            )
        x = torch.cat((self._text_rows(utterance), self._prompt_rows(utterance.prompt)))
        length = len(x)
        slot = cache.join(length, wanted=length + room)
        hidden = _prefill_mask(texts, length, device=x.device)
        for place, layer in enumerate(self._layers):
            query, key, value = self._heads(layer.qkv(x))
            cache.blocks[place][slot, :, :length] = torch.cat((key, value))  # rounded here where the cache is smaller
            mixed = scaled_dot_product_attention(query[None], key[None], value[None], attn_mask=hidden)[0]
            x = _rest(layer, x, mixed.transpose(0, 1).reshape(length, -1))
        return slot, x[-1:] @ self._head

    def step(self, tokens: Tensor, places: Sequence[int], slots: Sequence[int], cache: KeyValueCache) -> Tensor:
        """Feed one token of each row and get the raw logits `(rows, vocabulary)` of the next.

        Parameters
        ----------
        tokens
            `(rows,) int64`.
        places, slots
            Audio position and slot of each; slots rise.
        """
        device = tokens.device
        x = self._audio[tokens] + self._positions[torch.tensor(places, device=device)] * self._audio_scale
        attention = _Attention.over(cache, slots, device=device)
        for place, layer in enumerate(self._layers):
            x = _rest(layer, x, attention.mixed(place, layer.qkv(x)).float())
        for slot in slots:
            cache.lengths[slot] += 1
        return x @ self._head

    def _text_rows(self, utterance: Utterance) -> Tensor:
        weight, bias = self._bert
        rows = self._text[utterance.phones] + bias
        if utterance.bert is not None:
            rows = rows + utterance.bert.T @ weight.T
        return rows + self._positions[: len(rows)] * self._text_scale

    def _prompt_rows(self, prompt: Tensor) -> Tensor:
        return self._audio[prompt] + self._positions[: len(prompt)] * self._audio_scale

    def _heads(self, packed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`(n, 3 * width)` to query, key and value of shape `(heads, n, head_width)`."""
        query, key, value = packed.view(len(packed), 3, self.config.head, self._head_width).permute(1, 2, 0, 3)
        return query, key, value


def _layer(weights: Mapping[str, Tensor], name: str) -> _Layer:
    def linear(weight: str, bias: str) -> Linear:
        return linear_of(weights, name + weight, name + bias)

    def norm(which: str) -> tuple[Tensor, Tensor]:
        return weights[f"{name}{which}.weight"], weights[f"{name}{which}.bias"]

    return _Layer(
        qkv=linear("self_attn.in_proj_weight", "self_attn.in_proj_bias"),
        out=linear("self_attn.out_proj.weight", "self_attn.out_proj.bias"),
        widen=linear("linear1.weight", "linear1.bias"),
        narrow=linear("linear2.weight", "linear2.bias"),
        norm1=norm("norm1"),
        norm2=norm("norm2"),
    )


def _rest(layer: _Layer, x: Tensor, mixed: Tensor) -> Tensor:
    """What follows attention in a layer: `(n, width)` to `(n, width)`."""
    width = (x.shape[1],)
    x = layer_norm(x + layer.out(mixed), width, *layer.norm1, eps=_NORM_EPSILON)
    return layer_norm(x + layer.narrow(layer.widen(x).relu_()), width, *layer.norm2, eps=_NORM_EPSILON)


def _prefill_mask(texts: int, length: int, *, device: torch.device) -> Tensor:
    """True where a row (first axis) may look: text at all text, audio at text and audio up to itself."""
    column = torch.arange(length, device=device)
    return (column[None, :] < texts) | ((column[:, None] >= texts) & (column[None, :] <= column[:, None]))


@cache
def _positions(width: int, device: torch.device) -> Tensor:
    """Sinusoidal positions `(4096, width)`: even columns sine, odd columns cosine. One table for all voices."""
    place = torch.arange(_POSITIONS, dtype=torch.float32)[:, None]
    angles = place * torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * -(math.log(10000.0) / width))
    return torch.stack((angles.sin(), angles.cos()), dim=2).view(_POSITIONS, width).to(device)
