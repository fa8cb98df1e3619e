"""The T2S transformer: prefill of one utterance, and one step of a whole batch.

Source: the description and golden vectors of GPT-SoVITS' `Text2SemanticDecoder` (text sees all text, audio sees text
and audio up to itself; post-norm layers; learned scales of sinusoidal positions).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from segue.errors import SynthesisError
from segue_engines.gpt_sovits.formats import T2SConfig
from segue_engines.gpt_sovits.t2s.attention import StepAttention
from segue_engines.gpt_sovits.t2s.cache import CacheShape, KeyValueCache, LayerViews
from segue_engines.gpt_sovits.t2s.linear import ROWS_AT_ONCE, Linear, alike_in_any_company, linear_of
from segue_engines.gpt_sovits.t2s.memory import MemoryPool, shared_pool

BERT_WIDTH: Final = 1024
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
        self._steps = [_layer(weights, f"h.layers.{place}.", few=True) for place in range(config.n_layer)]
        plain = all(weights[f"h.layers.{place}.linear1.weight"].is_floating_point() for place in range(config.n_layer))
        self.shape = CacheShape(
            layers=config.n_layer,
            heads=config.head,
            head_width=self._head_width,
            dtype=torch.float32 if plain else torch.bfloat16,
        )
        self._head = weights["ar_predict_layer.weight"].t()
        self._attention = StepAttention(self.shape) if StepAttention.knows(self.shape, self.device) else None
        self._together = all(alike_in_any_company(layer.qkv) for layer in self._layers)

    @property
    def device(self) -> torch.device:
        """Where it computes: where its weights lie."""
        return self._audio.device

    def new_cache(self, *, slots: int, capacity: int, pool: MemoryPool | None = None) -> KeyValueCache:
        """A place for up to `slots` rows of up to `capacity` positions each.

        Memory is taken when they come: from the pool given, or that of the process.
        """
        return KeyValueCache(self.shape, slots=slots, capacity=capacity, pool=pool or shared_pool(self._audio.device))

    def prefill(
        self, utterances: Sequence[Utterance], cache: KeyValueCache, *, room: Sequence[int]
    ) -> tuple[list[int], Tensor]:
        """Read utterances, each into a free slot.

        Together where that changes nothing (see `alike_in_any_company`), so that they read the matrices once; else one
        by one: products of another number of rows may be rounded otherwise, which would be heard.

        Parameters
        ----------
        room
            Positions that may follow each.

        Returns
        -------
        tuple
            The slots, and the raw logits `(utterances, vocabulary)` of step 0.

        Raises
        ------
        SynthesisError
            There is no room for one of them; then none is read.
        """
        for utterance, more in zip(utterances, room, strict=True):
            _check_positions(len(utterance.phones), len(utterance.prompt) + more)
        read = [self._rows_of(utterance) for utterance in utterances]
        lengths = [len(rows) for rows in read]
        slots = cache.join(lengths, wanted=[length + more for length, more in zip(lengths, room, strict=True)])
        try:
            said = list(zip(utterances, read, slots, strict=True))
            groups = [said] if self._together else [[each] for each in said]
            return slots, torch.cat([self._read_group(group, cache) for group in groups])
        except BaseException:
            for slot in reversed(slots):
                cache.leave(slot)
            raise

    def step(self, tokens: Tensor, places: Sequence[int], slots: Sequence[int], cache: KeyValueCache) -> Tensor:
        """Feed one token of each row and get the raw logits `(rows, vocabulary)` of the next.

        Parameters
        ----------
        tokens
            `(rows,) int64`.
        places, slots
            Audio position and slot of each.
        """
        x = self._audio[tokens] + self._positions[torch.tensor(places, device=tokens.device)] * self._audio_scale
        short = x
        if self._attention is not None:
            reach = cache.reach(slots)
            for place, layer in enumerate(self._steps):
                x, short = _rest(layer, x, self._attention(layer.qkv(short), reach, place))
        else:
            for layer, views in zip(self._steps, cache.next_position(slots), strict=True):
                x, short = _rest(layer, x, self._looked(layer.qkv(short), views))
        cache.advance(slots)
        return x @ self._head

    def _read_group(self, group: Sequence[tuple[Utterance, Tensor, int]], cache: KeyValueCache) -> Tensor:
        """The layers of a prefill of utterances, with their rows as the first layer takes them, and their slots.

        Returns the logits `(utterances, vocabulary)` after the last row of each. The last layer computes only those
        rows: of the others it keeps keys and values.
        """
        x = torch.cat([rows for _, rows, _ in group])
        spans = list(_spans([len(rows) for _, rows, _ in group]))
        together = [slice(first, first + ROWS_AT_ONCE) for first in range(0, len(x), ROWS_AT_ONCE)]
        packed = torch.empty(len(x), 3 * x.shape[1], dtype=self._layers[0].qkv.dtype, device=x.device)
        mixed = torch.empty_like(x, dtype=packed.dtype)
        masks = [_prefill_mask(len(said.phones), len(rows), like=packed) for said, rows, _ in group]
        blocks = zip(*(cache.written(slot).unbind(0) for _, _, slot in group), strict=True)
        for layer, of_layer in zip(self._layers, blocks, strict=True):
            for rows in together:
                packed[rows] = layer.qkv(x[rows])
            for span, block, mask in zip(spans, of_layer, masks, strict=True):
                mixed[span] = self._read(packed[span], block, mask)
            if layer is not self._layers[-1]:
                for rows in together:
                    x[rows], _ = _rest(layer, x[rows], mixed[rows])
        ends = [span.stop - 1 for span in spans]
        last, of_last = x[ends], mixed[ends]
        for rows in together[: -(-len(ends) // ROWS_AT_ONCE)]:
            last[rows], _ = _rest(self._layers[-1], last[rows], of_last[rows])
        return last @ self._head

    def _read(self, packed: Tensor, block: Tensor, mask: Tensor) -> Tensor:
        """Attention of an utterance to itself, `packed (n, 3 * width)` to `(n, width)`.

        Keys and values go into `block (2, n, heads, head_width)`, rounded where that is of a smaller type.
        """
        heads = packed.view(len(packed), 3, self.config.head, self._head_width)
        block.copy_(heads[:, 1:].transpose(0, 1))
        query, key, value = heads.permute(1, 2, 0, 3)
        mixed = scaled_dot_product_attention(query[None], key[None], value[None], attn_mask=mask)[0]
        return mixed.transpose(0, 1).reshape(len(packed), -1)

    def _looked(self, packed: Tensor, views: LayerViews) -> Tensor:
        """Attention of one step: the new key and value of each row are written, then its query looks at its own past.

        One call a row, each as long as the row: one call for all would read as much for each as the longest has.
        `packed (rows, 3 * width)` to `(rows, width)`.
        """
        heads = packed.to(self.shape.dtype).contiguous().view(len(packed), 3, self.config.head, self._head_width)
        for end, new in zip(views.ends, heads[:, 1:].unbind(0), strict=True):
            end.copy_(new)
        mixed = [
            scaled_dot_product_attention(query, keys, values)
            for query, keys, values in zip(heads[:, :1].unsqueeze(3).unbind(0), views.keys, views.values, strict=True)
        ]
        return torch.cat(mixed).view(len(packed), -1)

    def _rows_of(self, utterance: Utterance) -> Tensor:
        """Text and prompt as the first layer takes them, `(n, width) float32`."""
        return torch.cat((self._text_rows(utterance), self._prompt_rows(utterance.prompt)))

    def _text_rows(self, utterance: Utterance) -> Tensor:
        weight, bias = self._bert
        rows = self._text[utterance.phones] + bias
        if utterance.bert is not None:
            rows = rows + utterance.bert.T @ weight.T
        return rows + self._positions[: len(rows)] * self._text_scale

    def _prompt_rows(self, prompt: Tensor) -> Tensor:
        return self._audio[prompt] + self._positions[: len(prompt)] * self._audio_scale


def _layer(weights: Mapping[str, Tensor], name: str, *, few: bool = False) -> _Layer:
    def linear(weight: str, bias: str) -> Linear:
        return linear_of(weights, name + weight, name + bias, few=few)

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


def _rest(layer: _Layer, x: Tensor, mixed: Tensor) -> tuple[Tensor, Tensor]:
    """What follows attention in a layer: `(n, width) float32` to the same, and that as the next product may take it."""
    x, short = layer.out.joined(x, mixed, layer.norm1)
    return layer.narrow.joined(x, layer.widen(short).relu_(), layer.norm2)


def _check_positions(texts: int, tokens: int) -> None:
    if max(texts, tokens) > _POSITIONS:
        raise SynthesisError(
            f"{texts} phones and {tokens} tokens; at most {_POSITIONS} of either can be told apart: make the text or "
            "the reference shorter"
        )


def _spans(lengths: Sequence[int]) -> Iterator[slice]:
    """Of pieces that lie one after the other."""
    end = 0
    for length in lengths:
        end += length
        yield slice(end - length, end)


def _prefill_mask(texts: int, length: int, *, like: Tensor) -> Tensor:
    """Added to scores, minus infinity where a row (first axis) may not look.

    Text sees all text, audio sees text and audio up to itself.
    """
    column = torch.arange(length, device=like.device)
    seen = (column[None, :] < texts) | ((column[:, None] >= texts) & (column[None, :] <= column[:, None]))
    return like.new_zeros(length, length).masked_fill_(~seen, _HIDDEN)


@cache
def _positions(width: int, device: torch.device) -> Tensor:
    """Sinusoidal positions `(4096, width)`: even columns sine, odd columns cosine. One table for all voices."""
    place = torch.arange(_POSITIONS, dtype=torch.float32)[:, None]
    angles = place * torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * -(math.log(10000.0) / width))
    return torch.stack((angles.sin(), angles.cos()), dim=2).view(_POSITIONS, width).to(device)
