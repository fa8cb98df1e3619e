"""The T2S step on a CUDA device: the same work every time, captured once and replayed.

Separate from the network because a device wants the opposite of what a processor wants. There a step reads as little as
it can; here a step of one row is two hundred kernels of microseconds each, and launching them takes longer than running
them. So everything that a step touches stays at its place (keys and values of all slots, inputs, logits), its shape
depends on nothing but a bucket of rows, and the whole of it is one graph, captured when the voice is built, before any
listener is let to it.

Slots that are not stepped, or have no row, are computed along and forgotten: what they write lies where nobody looks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final, cast

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, linear, scaled_dot_product_attention

from segue.errors import SynthesisError
from segue_engines.gpt_sovits.formats import T2SConfig
from segue_engines.gpt_sovits.t2s.cache import require_room
from segue_engines.gpt_sovits.t2s.decode import T2SBatch
from segue_engines.gpt_sovits.t2s.memory import MemoryPool
from segue_engines.gpt_sovits.t2s.network import T2SNetwork, Utterance

Work = Callable[[], Tensor]
Capture = Callable[[Work], Work]
"""Makes of a piece of work one that does the same again, at the same addresses."""

_NORM_EPSILON: Final = 1e-5
_POSITIONS: Final = 4096
_WARM_UPS: Final = 2


def new_batch(network: T2SNetwork, *, slots: int, capacity: int) -> T2SBatch:
    """A batch for where the network's weights lie."""
    if network.device.type != "cuda":
        return T2SBatch(network, slots=slots, capacity=capacity)
    return static_batch(network, slots=slots, capacity=capacity, capture=captured)


def static_batch(network: T2SNetwork, *, slots: int, capacity: int, capture: Capture) -> T2SBatch:
    """A batch whose steps are captured by `capture`; the rules of starting and stopping are the same everywhere."""
    return T2SBatch(cast(T2SNetwork, StaticNetwork(network, capture=capture)), slots=slots, capacity=capacity)


def captured(work: Work) -> Work:
    """Capture work as a CUDA graph. Other threads of the worker go on using the device meanwhile.

    All graphs of a worker share a pool of memory: they are replayed one after the other, by the engine thread, and what
    one leaves is read before the next begins.
    """
    current = torch.cuda.current_stream()
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(current)
    with torch.cuda.stream(side):
        for _ in range(_WARM_UPS):  # libraries reserve their workspaces at the first call
            work()
    current.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    pool = _pool(torch.cuda.current_device())
    with torch.cuda.graph(graph, pool=pool, stream=side, capture_error_mode="thread_local"):
        result = work()

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay


@cache
def _pool(device: int) -> Any:
    """The one pool of this process' graphs on a device."""
    return torch.cuda.graph_pool_handle()


def buckets_of(slots: int) -> tuple[int, ...]:
    """How many rows a graph is captured for: powers of two, and all slots."""
    powers = [1 << place for place in range(slots.bit_length()) if 1 << place < slots]
    return (*powers, slots)


class StaticCache:
    """Keys and values of all slots, at addresses that stay.

    Attributes
    ----------
    blocks
        Per layer, `(2, slots, heads, capacity, head_width)`: keys, then values.
    lengths
        Positions that each occupied slot holds; rows keep the slots 0..n-1.
    """

    def __init__(self, config: T2SConfig, *, slots: int, capacity: int, dtype: torch.dtype, device: torch.device):
        shape = (2, slots, config.head, capacity, config.hidden_dim // config.head)
        self.blocks = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.n_layer)]
        self.slots = slots
        self.capacity = capacity
        self.lengths: list[int] = []

    @property
    def free(self) -> int:
        """Slots that a row could join."""
        return self.slots - len(self.lengths)

    @property
    def held_bytes(self) -> int:
        """Memory of all slots."""
        return sum(block.nbytes for block in self.blocks)

    def join(self, lengths: Sequence[int], *, wanted: Sequence[int]) -> list[int]:
        """Take the next slots for rows that hold `lengths` positions and may need `wanted`; all or none.

        Raises `SynthesisError`.
        """
        require_room(wanted, free=self.free, slots=self.slots, capacity=self.capacity)
        first = len(self.lengths)
        self.lengths.extend(lengths)
        return list(range(first, len(self.lengths)))

    def leave(self, slot: int) -> None:
        """Free a slot; the row of the last slot moves into it. What is left behind is hidden by the lengths."""
        last = len(self.lengths) - 1
        if slot != last:
            length = self.lengths[last]
            for block in self.blocks:
                block[:, slot, :, :length] = block[:, last, :, :length]
            self.lengths[slot] = length
        self.lengths.pop()


class StaticNetwork:
    """A T2S network whose steps are captured; all that `T2SBatch` asks of a `T2SNetwork`, for one batch."""

    def __init__(self, network: T2SNetwork, *, capture: Capture) -> None:
        """Compute with the weights of `network`."""
        self.config = network.config
        self.parameters = network.parameters
        self.device = network.device
        self._weights = {name.removeprefix("model."): tensor for name, tensor in network.parameters.items()}
        self._positions = _positions(self.config.hidden_dim).to(self.device)
        self._capture = capture
        self._graphs: dict[int, Work] = {}
        self._inputs = self._reach = self._positions

    def new_cache(self, *, slots: int, capacity: int, pool: MemoryPool | None = None) -> StaticCache:
        """Reserve everything and capture a graph for each bucket of rows. Once: graphs know their addresses.

        Nothing is taken from `pool`, whose blocks move from row to row.
        """
        if self._graphs:
            raise RuntimeError("a static network has one cache; build another one")
        halves = any(tensor.dtype == torch.int16 for tensor in self.parameters.values())
        dtype = torch.bfloat16 if halves else torch.float32
        cache = StaticCache(self.config, slots=slots, capacity=capacity, dtype=dtype, device=self.device)
        self._inputs = torch.zeros(3, slots, dtype=torch.int64, device=self.device)
        self._reach = torch.arange(capacity, device=self.device)
        self._graphs = {rows: self._capture(self._work_of(rows, cache)) for rows in buckets_of(slots)}
        return cache

    def step(self, tokens: Tensor, places: Sequence[int], slots: Sequence[int], cache: StaticCache) -> Tensor:
        """Feed one token of each row and get the raw logits `(rows, vocabulary)` of the next; see `T2SNetwork.step`."""
        rows = next(each for each in self._graphs if each > slots[-1])
        filled = torch.zeros(3, rows, dtype=torch.int64, device="cpu")
        filled[1, slots] = torch.tensor(places, device="cpu")
        lengths = cache.lengths[:rows]
        filled[2, : len(lengths)] = torch.tensor(lengths, device="cpu")
        self._inputs[:, :rows] = filled.to(self.device)
        self._inputs[0, slots] = tokens
        logits = self._graphs[rows]()
        for slot in slots:
            cache.lengths[slot] += 1
        return logits[slots]

    @torch.inference_mode()
    def prefill(
        self, utterances: Sequence[Utterance], cache: StaticCache, *, room: Sequence[int]
    ) -> tuple[list[int], Tensor]:
        """Read utterances, each into a free slot, one after the other. See `T2SNetwork.prefill`."""
        for utterance, more in zip(utterances, room, strict=True):
            if max(len(utterance.phones), len(utterance.prompt) + more) > _POSITIONS:
                raise SynthesisError(f"at most {_POSITIONS} phones or tokens can be told apart: make the text shorter")
        lengths = [len(each.phones) + len(each.prompt) for each in utterances]
        slots = cache.join(lengths, wanted=[length + more for length, more in zip(lengths, room, strict=True)])
        try:
            logits = [self._read(utterance, slot, cache) for utterance, slot in zip(utterances, slots, strict=True)]
        except BaseException:
            for slot in reversed(slots):
                cache.leave(slot)
            raise
        return slots, torch.cat(logits)

    def _read(self, utterance: Utterance, slot: int, cache: StaticCache) -> Tensor:
        """Eagerly: its length is its own."""
        texts = len(utterance.phones)
        x = torch.cat((self._text_rows(utterance), self._audio_rows(utterance.prompt)))
        length = len(x)
        column = torch.arange(length, device=self.device)
        seen = (column[None] < texts) | ((column[:, None] >= texts) & (column[None] <= column[:, None]))
        for layer, block in enumerate(cache.blocks):
            query, key, value = self._heads(self._product(layer, "self_attn.in_proj_weight", x))
            block[0, slot, :, :length] = key.transpose(0, 1).to(block.dtype)
            block[1, slot, :, :length] = value.transpose(0, 1).to(block.dtype)
            asked, known, said = (each.transpose(0, 1)[None] for each in (query, key, value))
            mixed = scaled_dot_product_attention(asked, known, said, attn_mask=seen)[0]
            x = self._rest(layer, x, mixed.transpose(0, 1).reshape(length, -1))
        return self._logits(x[-1:])

    def _work_of(self, rows: int, cache: StaticCache) -> Work:
        """One step of the first `rows` slots, from the inputs as they then are."""

        @torch.inference_mode()
        def work() -> Tensor:
            tokens, places, lengths = self._inputs[:, :rows].unbind()
            x = self._weights["ar_audio_embedding.word_embeddings.weight"][tokens]
            x = x + self._positions[places] * self._weights["ar_audio_position.alpha"]
            hidden = self._reach[None] <= lengths[:, None]
            for layer, block in enumerate(cache.blocks):
                query, key, value = self._heads(self._product(layer, "self_attn.in_proj_weight", x))
                _put(block[0], lengths, key, rows)
                _put(block[1], lengths, value, rows)
                mixed = scaled_dot_product_attention(
                    query.to(block.dtype)[:, :, None], block[0, :rows], block[1, :rows], attn_mask=hidden[:, None, None]
                )
                x = self._rest(layer, x, mixed.reshape(rows, -1).float())
            return self._logits(x)

        return work

    # --- pieces of the network --------------------------------------------------------------------------------------

    def _text_rows(self, utterance: Utterance) -> Tensor:
        weights = self._weights
        rows = weights["ar_text_embedding.word_embeddings.weight"][utterance.phones] + weights["bert_proj.bias"]
        if utterance.bert is not None:
            rows = rows + utterance.bert.T @ weights["bert_proj.weight"].T
        return rows + self._positions[: len(rows)] * weights["ar_text_position.alpha"]

    def _audio_rows(self, prompt: Tensor) -> Tensor:
        rows = self._weights["ar_audio_embedding.word_embeddings.weight"][prompt]
        return rows + self._positions[: len(prompt)] * self._weights["ar_audio_position.alpha"]

    def _logits(self, x: Tensor) -> Tensor:
        return x @ self._weights["ar_predict_layer.weight"].t()

    def _heads(self, packed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`(n, 3 * width)` to query, key and value of shape `(n, heads, head_width)`."""
        query, key, value = packed.view(len(packed), 3, self.config.head, -1).unbind(1)
        return query, key, value

    def _product(self, layer: int, name: str, x: Tensor) -> Tensor:
        """`x @ weight.T + bias`, in the type that the matrix is stored in; the sum comes back as float32."""
        weight = self._weights[f"h.layers.{layer}.{name}"]
        bias = self._weights[f"h.layers.{layer}.{name.replace('weight', 'bias')}"]
        if weight.dtype == torch.int16:
            return linear(x.bfloat16(), weight.view(torch.bfloat16)).float() + bias
        return linear(x, weight, bias)

    def _rest(self, layer: int, x: Tensor, mixed: Tensor) -> Tensor:
        """What follows attention in a layer: `(n, width)` to `(n, width)`."""
        x = self._norm(layer, "norm1", x + self._product(layer, "self_attn.out_proj.weight", mixed))
        wide = self._product(layer, "linear1.weight", x).relu_()
        return self._norm(layer, "norm2", x + self._product(layer, "linear2.weight", wide))

    def _norm(self, layer: int, which: str, x: Tensor) -> Tensor:
        name = f"h.layers.{layer}.{which}"
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return layer_norm(x, (x.shape[1],), weight, bias, eps=_NORM_EPSILON)


def _put(block: Tensor, lengths: Tensor, fresh: Tensor, rows: int) -> None:
    """Write `fresh (rows, heads, head_width)` behind what each slot of `block (slots, heads, capacity, …)` holds."""
    where = lengths[:, None, None, None].expand(rows, fresh.shape[1], 1, fresh.shape[2])
    block[:rows].scatter_(2, where, fresh[:, :, None].to(block.dtype))


def _positions(width: int) -> Tensor:
    """Sinusoidal positions `(4096, width) float32`: even columns sine, odd columns cosine."""
    place = torch.arange(_POSITIONS, dtype=torch.float32, device="cpu")[:, None]
    steps = torch.arange(0, width, 2, dtype=torch.float32, device="cpu")
    angles = place * torch.exp(steps * -(torch.log(torch.tensor(10000.0, device="cpu")).item() / width))
    return torch.stack((angles.sin(), angles.cos()), dim=2).view(_POSITIONS, width)
