"""One request on its way through the engine.

Separate from the synthesizer, which steps many of them: here stands what a request needs to remember between two steps.
Only computed values, never views of weights, so that a closed row cannot keep a retired revision mapped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from segue_engines.gpt_sovits.manner import Manner
from segue_engines.gpt_sovits.randomness import Stream, row_key
from segue_engines.gpt_sovits.sampling import Sampling
from segue_engines.gpt_sovits.sovits.chunks import Fragment
from segue_engines.gpt_sovits.sovits.network import SAMPLE_RATE
from segue_engines.gpt_sovits.spoken import Spoken, with_features
from segue_engines.gpt_sovits.t2s.decode import TokenRow
from segue_engines.gpt_sovits.t2s.network import Utterance

Array = NDArray[np.float32]
INTERVAL_S: Final = 0.3
"""Silence after each fragment, as the original puts it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """How a request wants to be spoken.

    Attributes
    ----------
    whole
        Each fragment is decoded when all its tokens are there, as the original does without streaming, instead of in
        chunks as they come.
    interval_s
        Silence after each fragment.
    """

    seed: int
    speed: float
    sampling: Sampling
    whole: bool
    interval_s: float = INTERVAL_S


class GptSovitsRow:
    """A row of the engine; see `segue.engine.Row` for the contract."""

    def __init__(
        self, spoken: Sequence[Spoken], delivery: Delivery, manner: Manner, leave: Callable[[TokenRow], None]
    ) -> None:
        self._waiting = deque(enumerate(spoken))
        self._phones = tuple(phone for each in spoken for phone in each.phones)
        self._delivery = delivery
        self._leave = leave
        self.manner = manner
        self._said: list[int] = []
        self._ready: list[Array] = []
        self._error: Exception | None = None
        self._capped = False
        self._closed = False
        self.talk: TokenRow | None = None
        self.sound: Fragment | None = None

    @property
    def done(self) -> bool:
        """True once no further audio will come."""
        return self._closed or self._error is not None or (self.talk is None and not self._waiting)

    @property
    def error(self) -> Exception | None:
        """What stopped this row."""
        return self._error

    @property
    def capped(self) -> bool:
        """True when a fragment ran into the limit of tokens."""
        return self._capped or (self.talk is not None and self.talk.capped)

    @property
    def tokens(self) -> Sequence[int]:
        """Semantic tokens of all fragments so far."""
        return [*self._said, *(self.talk.tokens if self.talk is not None else ())]

    @property
    def phones(self) -> Sequence[str]:
        """All phones of the text."""
        return self._phones

    def take(self) -> Array:
        """Audio made since the last call."""
        taken = np.concatenate(self._ready) if self._ready else np.zeros(0, np.float32)
        self._ready.clear()
        return taken

    def close(self) -> None:
        """Drop everything; idempotent."""
        self._closed = True
        self._drop()
        self._ready.clear()

    def fail(self, error: Exception) -> None:
        """Stop this row, and only this one."""
        self._error = error
        self._drop()

    def _drop(self) -> None:
        if self.talk is not None:
            self._leave(self.talk)
        self.talk = self.sound = None
        self._waiting.clear()

    def begin(self, *, max_steps: int) -> None:
        """Start on the next fragment.

        Raises
        ------
        SynthesisError
            Its text features cannot be made any more.
        """
        place, waiting = self._waiting.popleft()
        spoken = with_features(waiting)
        self.talk = TokenRow(
            _utterance(self.manner, spoken),
            self._delivery.sampling,
            key=row_key(self._delivery.seed, Stream.TOKENS, place),
            max_steps=max_steps,
        )
        self.sound = Fragment(
            spoken.ids,
            key=row_key(self._delivery.seed, Stream.NOISE, place),
            speed=self._delivery.speed,
            whole=self._delivery.whole,
        )

    @property
    def hungry(self) -> bool:
        """Whether it needs another token before it can be heard further."""
        return self.talk is not None and not self.talk.done and not self.audible

    @property
    def audible(self) -> bool:
        """Whether there is something to decode."""
        if self.talk is None or self.sound is None:
            return False
        return self.sound.due(len(self.talk.tokens), finished=self.talk.done)

    def hand_out(self, samples: Array) -> None:
        """Audio that is final; ends the fragment with its last."""
        if len(samples):
            self._ready.append(samples)
        if self.talk is not None and self.sound is not None and self.sound.done:
            self._said += self.talk.tokens
            self._capped |= self.talk.capped
            self.talk = self.sound = None
            self._ready.append(np.zeros(int(SAMPLE_RATE * self._delivery.interval_s), np.float32))


def _utterance(manner: Manner, spoken: Spoken) -> Utterance:
    """What is continued, its text and tokens, then the text to say; only the text where there are no tokens."""
    device = manner.prompt.device
    if not len(manner.prompt):
        bert = None if spoken.bert is None else torch.from_numpy(spoken.bert).to(device)
        return Utterance(phones=torch.tensor(spoken.ids, device=device), bert=bert, prompt=manner.prompt)
    before = manner.spoken
    joined = _joined(before, spoken)
    return Utterance(
        phones=torch.tensor(before.ids + spoken.ids, device=device),
        bert=None if joined is None else joined.to(device),
        prompt=manner.prompt,
    )


def _joined(before: Spoken, spoken: Spoken) -> torch.Tensor | None:
    if before.bert is None and spoken.bert is None:
        return None
    blocks = [
        np.zeros((1024, len(each.ids)), np.float32) if each.bert is None else each.bert for each in (before, spoken)
    ]
    return torch.from_numpy(np.concatenate(blocks, axis=1))
