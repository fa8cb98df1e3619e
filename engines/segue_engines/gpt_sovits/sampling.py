"""From logits to the next token, in exactly the order of the original.

Separate from the decoder because the order of these steps is heard: the penalty comes before everything, the nucleus is
cut before the temperature, and the stop test sees the penalised logits. Works on rows of a batch, each with its own
settings; no row's result depends on another row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from segue.errors import InvalidVoiceModel

_COLDEST: Final = 1e-5
_INFINITE: Final = float("-inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a row draws its tokens; the defaults are those of the original's API.

    Attributes
    ----------
    top_k
        How many of the best logits may be drawn (ties with the last of them as well); clipped to the vocabulary.
    top_p
        Tokens are dropped where the cumulated probability, the token itself included, exceeds this; the best stays.
    temperature
        Divides the logits; at least 1e-5.
    repetition_penalty
        Positive logits of tokens that were there before are divided by it, negative ones multiplied.
    """

    top_k: int = 15
    top_p: float = 1.0
    temperature: float = 1.0
    repetition_penalty: float = 1.35

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise InvalidVoiceModel(f"top_k is {self.top_k}; expected 1 or more", field="top_k")
        if self.repetition_penalty <= 0:
            raise InvalidVoiceModel(
                f"repetition_penalty is {self.repetition_penalty:g}; expected more than 0 (1 turns it off)",
                field="repetition_penalty",
            )
        if self.temperature < 0 or self.top_p < 0:
            raise InvalidVoiceModel(
                f"temperature {self.temperature:g} and top_p {self.top_p:g} must not be negative",
                field="temperature" if self.temperature < 0 else "top_p",
            )


GREEDY: Final = Sampling(top_k=1)
"""The best penalised logit every time."""


class BatchSampling:
    """The settings of several rows as columns, so that a batch is sampled in a few operations."""

    def __init__(self, rows: Sequence[Sampling], *, device: torch.device | str = "cpu") -> None:
        def column(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)[:, None]

        self.penalty = column([row.repetition_penalty for row in rows])
        self.top_p = column([row.top_p for row in rows])
        self.temperature = column([max(row.temperature, _COLDEST) for row in rows])
        self.top_k = torch.tensor([row.top_k for row in rows], dtype=torch.int64, device=device)[:, None]
        self.widest_k = max(row.top_k for row in rows)
        self.any_nucleus = any(row.top_p < 1 for row in rows)
        self.any_temperature = any(row.temperature != 1 for row in rows)


def seen_mask(previous: Tensor, vocabulary: int) -> Tensor:
    """Which tokens were there before; `previous (rows, n) int64` to `(rows, vocabulary) bool`. Each counts once."""
    seen = torch.zeros(len(previous), vocabulary, dtype=torch.bool, device=previous.device)
    return seen.scatter_(1, previous, True)


def penalised(logits: Tensor, seen: Tensor, penalty: Tensor) -> Tensor:
    """Lower the logits of tokens that were there before; `(rows, vocabulary)` both, `penalty (rows, 1)`."""
    lowered = torch.where(logits < 0, logits * penalty, logits / penalty)
    return torch.where(seen, lowered, logits)


def probabilities_of(logits: Tensor, sampling: BatchSampling) -> Tensor:
    """Probabilities `(rows, vocabulary) float32` of *penalised* logits; what cannot be drawn has exactly zero."""
    if sampling.any_nucleus:
        logits = _nucleus(logits, sampling.top_p)
    if sampling.any_temperature:
        logits = logits / sampling.temperature
    widest = min(sampling.widest_k, logits.shape[-1])
    best = torch.topk(logits, widest, dim=-1).values
    last = best.gather(1, (sampling.top_k - 1).clamp(max=widest - 1))
    return torch.softmax(logits.masked_fill(logits < last, _INFINITE), dim=-1)


def _nucleus(logits: Tensor, top_p: Tensor) -> Tensor:
    ordered, places = torch.sort(logits, dim=-1, descending=True)
    beyond = torch.cumsum(torch.softmax(ordered, dim=-1), dim=-1) > top_p
    beyond &= top_p < 1
    beyond[:, 0] = False
    return logits.masked_fill(torch.zeros_like(beyond).scatter_(1, places, beyond), _INFINITE)


def probabilities(logits: Tensor, previous: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """What one row would draw from.

    Parameters
    ----------
    logits
        `(1, vocabulary) float32`, as the head gives them (cut off the EOS column first where it may not be drawn).
    previous
        `(1, n) int64`, prompt and generated tokens; `n` may be 0.

    Returns
    -------
    tuple
        The probabilities and the penalised logits, both `(1, vocabulary) float32`.
    """
    columns = BatchSampling([sampling], device=logits.device)
    lowered = penalised(logits, seen_mask(previous, logits.shape[-1]), columns.penalty)
    return probabilities_of(lowered, columns), lowered


def draw(chances: Tensor, exponential: Tensor) -> Tensor:
    """Draw one token of each row; `exponential (rows, vocabulary)` holds Exp(1) draws. `(rows,) int64`."""
    return torch.argmax(chances / exponential, dim=-1)
