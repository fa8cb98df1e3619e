"""Tokens of whole utterances: the rules of starting and stopping, and a batch that rows join and leave.

Separate from the network, which knows steps but no ends, and from the row of the engine, which knows texts but no
tensors. `T2SBatch` is what the engine steps; `generate` and `teacher_forced` are the same steps for one utterance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor

from segue_engines.gpt_sovits.randomness import Stream, exponentials, row_key
from segue_engines.gpt_sovits.sampling import (
    GREEDY,
    BatchSampling,
    Sampling,
    draw,
    penalised,
    probabilities_of,
    seen_mask,
)
from segue_engines.gpt_sovits.t2s.memory import MemoryPool
from segue_engines.gpt_sovits.t2s.network import T2SNetwork, Utterance

NO_EOS_STEPS: Final = 11
"""Steps 0 to 10 cannot end: the EOS column is cut off before anything else."""
MAX_STEPS: Final = 1500
"""The step with index 1499 is the last."""

Draws = Callable[[int], Tensor]
"""From the step to `(vocabulary,) float32` draws of Exp(1)."""


@dataclass(slots=True, eq=False)
class TokenRow:
    """One utterance in a batch.

    Attributes
    ----------
    tokens
        What it has said so far, without the prompt and without the EOS.
    done
        True once it has stopped.
    capped
        True where it stopped because of `max_steps`.
    broken
        True where it stopped because the network no longer computed numbers.
    """

    utterance: Utterance
    sampling: Sampling
    key: int = 0
    draws: Draws | None = None
    max_steps: int = MAX_STEPS
    tokens: list[int] = field(default_factory=list)
    done: bool = False
    capped: bool = False
    broken: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """What the original returns for one utterance.

    Attributes
    ----------
    tokens
        Prompt and generated tokens.
    used
        Its second result: how many entries from the end go on to SoVITS (0: all of them, where there is no prompt).
    capped
        True where the cap ended it.
    """

    tokens: tuple[int, ...]
    used: int
    capped: bool

    @property
    def semantic(self) -> tuple[int, ...]:
        """What goes on to SoVITS."""
        return self.tokens[-self.used :] if self.used else self.tokens


class T2SBatch:
    """Rows that step together. They may join before any step and leave after any; none hears of the others."""

    def __init__(self, network: T2SNetwork, *, slots: int, capacity: int, pool: MemoryPool | None = None) -> None:
        self.network = network
        self._cache = network.new_cache(slots=slots, capacity=capacity, pool=pool)
        self._rows: list[TokenRow] = []
        self._seen = torch.zeros(slots, network.config.vocab_size, dtype=torch.bool)
        self._columns: tuple[tuple[Sampling, ...], BatchSampling] | None = None

    @property
    def rows(self) -> Sequence[TokenRow]:
        """Rows that are not done, in the order of their slots."""
        return self._rows

    @property
    def free(self) -> int:
        """How many rows could join."""
        return self._cache.free

    @property
    def held_bytes(self) -> int:
        """Memory of their keys and values."""
        return self._cache.held_bytes

    @torch.inference_mode()
    def join(self, *rows: TokenRow) -> None:
        """Read the utterances of rows and draw the first token of each.

        Raises
        ------
        SynthesisError
            There are not as many free slots, or an utterance is too long for one; then none of them joins.
        """
        slots, logits = self.network.prefill(
            [row.utterance for row in rows], self._cache, room=[row.max_steps for row in rows]
        )
        self._rows += rows
        for slot, row in zip(slots, rows, strict=True):
            self._seen[slot] = seen_mask(row.utterance.prompt[None], self.network.config.vocab_size)[0]
        self._choose(logits, rows, slots)
        self._drop_done()

    @torch.inference_mode()
    def step(self, rows: Sequence[TokenRow] | None = None) -> None:
        """One more token for the rows given, or for all; rows that are not in the batch are passed over."""
        slots = [slot for slot, row in enumerate(self._rows) if rows is None or row in rows]
        if not slots:
            return
        stepped = [self._rows[slot] for slot in slots]
        tokens = torch.tensor([row.tokens[-1] for row in stepped])
        places = [len(row.utterance.prompt) + len(row.tokens) - 1 for row in stepped]
        logits = self.network.step(tokens, places, slots, self._cache)
        self._choose(logits, stepped, slots)
        self._drop_done()

    def leave(self, row: TokenRow) -> None:
        """Take a row out before it is done; nothing happens where it is not in."""
        if row in self._rows:
            self._remove(self._rows.index(row))

    def _choose(self, logits: Tensor, rows: Sequence[TokenRow], slots: Sequence[int]) -> None:
        eos = self.network.config.eos
        columns = self._columns_of(rows)
        seen = self._seen[slots]
        early = [place for place, row in enumerate(rows) if len(row.tokens) < NO_EOS_STEPS]
        lowered = penalised(logits, seen, columns.penalty)
        if early:
            lowered[early, eos] = float("-inf")
        drawn = draw(probabilities_of(lowered, columns), self._exponentials(rows, logits.shape[1])).tolist()
        highest, best = torch.max(lowered, dim=-1)
        for row, token, top, sound in zip(rows, drawn, best.tolist(), highest.isfinite().tolist(), strict=True):
            row.done = row.broken = not sound
            if sound:
                _take(row, token, top, eos=eos)
        self._seen[slots, drawn] = True

    def _columns_of(self, rows: Sequence[TokenRow]) -> BatchSampling:
        """Their settings; most steps have the rows of the step before."""
        key = tuple(row.sampling for row in rows)
        if self._columns is None or self._columns[0] != key:
            self._columns = (key, BatchSampling(key))
        return self._columns[1]

    def _exponentials(self, rows: Sequence[TokenRow], count: int) -> Tensor:
        if any(row.draws is not None for row in rows):
            return torch.stack([_draws_of(row, count) for row in rows])
        keys = torch.tensor([row.key for row in rows])
        return exponentials(keys, torch.tensor([len(row.tokens) for row in rows]), count)

    def _drop_done(self) -> None:
        for place in range(len(self._rows) - 1, -1, -1):
            if self._rows[place].done:
                self._remove(place)

    def _remove(self, place: int) -> None:
        self._cache.leave(place)
        last = self._rows.pop()
        if place < len(self._rows):
            self._rows[place] = last
            self._seen[place] = self._seen[len(self._rows)]


def _draws_of(row: TokenRow, count: int) -> Tensor:
    step = len(row.tokens)
    if row.draws is not None:
        return row.draws(step)
    return exponentials(torch.tensor([row.key]), torch.tensor([step]), count)[0]


def _take(row: TokenRow, drawn: int, best: int, *, eos: int) -> None:
    if eos in (drawn, best):
        row.done = True
        return
    row.tokens.append(drawn)
    if len(row.tokens) >= row.max_steps:
        row.done = row.capped = True


def generate(
    network: T2SNetwork,
    utterance: Utterance,
    *,
    sampling: Sampling = GREEDY,
    seed: int = 0,
    draws: Draws | None = None,
    max_steps: int = MAX_STEPS,
) -> Generated:
    """Continue one utterance to its end, as the original's one-by-one path returns it.

    Parameters
    ----------
    seed
        Of the row's own random numbers.
    draws
        Exp(1) numbers to use instead; `step -> (vocabulary,) float32`.
    """
    (result,) = generate_together(
        network,
        [utterance],
        sampling=sampling,
        seeds=[seed],
        draws=None if draws is None else [draws],
        max_steps=max_steps,
    )
    prompted = len(utterance.prompt) > 0
    used = len(result.tokens) - len(utterance.prompt) - result.capped
    return Generated(tokens=result.tokens, used=used if prompted else 0, capped=result.capped)


def generate_together(
    network: T2SNetwork,
    utterances: Sequence[Utterance],
    *,
    sampling: Sampling = GREEDY,
    seeds: Sequence[int] | None = None,
    draws: Sequence[Draws] | None = None,
    max_steps: int = MAX_STEPS,
) -> list[Generated]:
    """Continue several utterances in one batch; each comes out as it would alone.

    `used` counts all generated tokens here; the original's padded batch drops the last one at the cap.
    """
    rows = [
        TokenRow(
            utterance,
            sampling,
            key=row_key(seeds[place] if seeds else 0, Stream.TOKENS),
            draws=draws[place] if draws else None,
            max_steps=max_steps,
        )
        for place, utterance in enumerate(utterances)
    ]
    longest = max(len(each.phones) + len(each.prompt) for each in utterances)
    batch = T2SBatch(network, slots=len(rows), capacity=longest + max_steps)
    batch.join(*rows)
    while batch.rows:
        batch.step()
    return [_generated(row) for row in rows]


def _generated(row: TokenRow) -> Generated:
    prompt = tuple(row.utterance.prompt.tolist())
    return Generated(tokens=(*prompt, *row.tokens), used=len(row.tokens), capped=row.capped)


@torch.inference_mode()
def teacher_forced(network: T2SNetwork, utterance: Utterance, tokens: Sequence[int]) -> Tensor:
    """Raw logits `(1 + len(tokens), vocabulary)`: of the prefill, then after each token given.

    `tokens` empty gives the prefill's alone.
    """
    cache = network.new_cache(slots=1, capacity=len(utterance.phones) + len(utterance.prompt) + len(tokens))
    _, logits = network.prefill([utterance], cache, room=[len(tokens)])
    collected = [logits]
    for place, token in enumerate(tokens):
        collected.append(network.step(torch.tensor([token]), [len(utterance.prompt) + place], [0], cache))
    return torch.cat(collected)
