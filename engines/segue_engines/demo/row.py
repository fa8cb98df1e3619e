"""One request on its way through the demo engine.

Holds what continuous batching needs to remember between two steps: which sentence and frame come next, the phase of the
pulses, the overlap of the windows. Only computed values live here, never views of weights, so that a closed row cannot
keep a retired revision mapped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from segue.engine import SynthesisRequest
from segue_engines.demo import vocoder
from segue_engines.demo.places import frame_places
from segue_engines.demo.text import Sentence
from segue_engines.demo.text.inventory import PHONE_IDS, SENTENCE_ENDS
from segue_engines.demo.vocoder import FFT, HOP, REACH

Array = NDArray[np.float32]

MAX_PHONE_FRAMES: Final = 200
"""A phone longer than a second (at speed 1) is a decoder that does not end by itself."""
STREAMED_PIECES: Final = (48, 96, 200)
"""Frames of the first, second and further pieces of a stream: 0.24 s, 0.48 s, 1 s."""
WHOLE_PIECE: Final = 240
"""Frames of a piece that nobody waits for: 1.2 s, so that a step stays short and others get in."""
SENTENCE_GAP: Final = 56
"""Frames of silence after a sentence: 0.28 s. The model knows pauses inside sentences only."""
CLAUSE_GAP: Final = 24
"""Frames of silence after a piece of a sentence that was too long, and after the last sentence: 0.12 s."""
_LOWEST_HZ: Final = 40.0
_HIGHEST_HZ: Final = 800.0
_STOPS: Final = frozenset(PHONE_IDS[mark] for mark in SENTENCE_ENDS)
_PILOT_LEVEL: Final = 1e-3
"""-60 dB below a full-scale sine."""


@dataclass(slots=True)
class Plan:
    """The sentence being spoken, per 5 ms frame; `place` is the first frame that is not spoken yet."""

    hidden: Array
    owner: NDArray[np.int64]
    places: Array
    pitch: Array
    voicing: Array
    train: Array
    place: int = 0

    @property
    def frames(self) -> int:
        """Length of the sentence in frames."""
        return len(self.owner)


@dataclass(frozen=True, slots=True)
class Timing:
    """Durations of a sentence laid out as frames."""

    owner: NDArray[np.int64]
    places: Array
    capped: bool


def lay_out(lengths: NDArray[np.float32], *, speed: float) -> Timing:
    """Round durations to frames so that errors do not add up; at least one frame each, at most `MAX_PHONE_FRAMES`.

    A duration that is not a number becomes ten frames: what such a voice says is judged by ear, not hidden here.
    """
    cap = MAX_PHONE_FRAMES / speed
    wanted = np.nan_to_num(lengths.astype(np.float64), nan=10.0, posinf=1e9, neginf=1.0) / speed
    capped = bool((wanted > cap).any())
    ends = np.round(np.cumsum(np.minimum(wanted, cap))).astype(np.int64)
    owner, places = frame_places(np.maximum(np.diff(ends, prepend=0), 1))
    return Timing(owner, places, capped)


class DemoRow:
    """A row of the demo engine; see `segue.engine.Row` for the contract."""

    def __init__(self, request: SynthesisRequest, sentences: Sequence[Sentence], *, speed: float) -> None:
        self.speed = speed
        self._streaming = request.streaming
        self._seed = request.seed & (2**64 - 1)
        self._waiting = deque(sentences)
        self._phones = tuple(phone for sentence in sentences for phone in sentence.phones)
        self._tokens: list[int] = []
        self._plan: Plan | None = None
        self._pieces = 0
        self._phase = 0.0
        self._frames_before = 0
        self._tail: Array = np.zeros(FFT - HOP, np.float32)
        self._emitted = -REACH
        self._ready: list[Array] = []
        self._error: Exception | None = None
        self._capped = False
        self._closed = False

    @property
    def done(self) -> bool:
        """True once no further audio will come."""
        return self._closed or self._error is not None or (self._plan is None and not self._waiting)

    @property
    def error(self) -> Exception | None:
        """What stopped this row."""
        return self._error

    @property
    def capped(self) -> bool:
        """True when a phone ran into the length limit."""
        return self._capped

    @property
    def tokens(self) -> Sequence[int]:
        """Phone ids of the sentences begun so far."""
        return self._tokens

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
        self._plan = None
        self._waiting.clear()
        self._ready.clear()

    def fail(self, error: Exception) -> None:
        """Stop this row, and only this one."""
        self._error = error
        self._plan = None
        self._waiting.clear()

    @property
    def plan(self) -> Plan | None:
        """The sentence being spoken, or `None` between sentences."""
        return self._plan

    @property
    def upcoming(self) -> Sentence:
        """The sentence to begin next."""
        return self._waiting[0]

    def begin(self, hidden: Array, timing: Timing, contour: Array, *, pitch_mean: float, pitch_std: float) -> None:
        """Start to speak a sentence whose pitch contour `(10 ms frames, 2)` is known."""
        frames = len(timing.owner)
        at = np.arange(frames) / 2.0
        coarse = np.arange(len(contour))
        pitch = np.interp(at, coarse, contour[:, 0]).astype(np.float32)
        voicing = np.interp(at, coarse, (0.5 + 0.5 * contour[:, 1]).clip(0.0, 1.0)).astype(np.float32)
        f0_hz = np.exp(pitch_mean + pitch_std * pitch.clip(-4.0, 4.0).astype(np.float64))
        f0_hz = np.nan_to_num(f0_hz, nan=_LOWEST_HZ).clip(_LOWEST_HZ, _HIGHEST_HZ)
        samples = np.arange(frames * HOP) / HOP
        train, self._phase = vocoder.pulses(
            np.interp(samples, np.arange(frames), f0_hz),
            voiced=np.repeat(voicing > 0.0, HOP),
            phase=self._phase,
        )
        self._capped |= timing.capped
        self._tokens.extend(self._waiting.popleft().ids)
        self._plan = Plan(hidden, timing.owner, timing.places, pitch, voicing, train)

    def piece(self) -> tuple[int, int]:
        """First and last frame (exclusive) of the next piece of the sentence."""
        assert self._plan is not None
        size = STREAMED_PIECES[min(self._pieces, len(STREAMED_PIECES) - 1)] if self._streaming else WHOLE_PIECE
        first = self._plan.place
        return first, min(first + size, self._plan.frames)

    @property
    def piece_frames(self) -> int:
        """Length of the next piece."""
        first, last = self.piece()
        return last - first

    def sources(self, first: int, last: int) -> tuple[Array, Array]:
        """Windows of pulses and of noise for frames `first` to `last`; `(frames, 480)` each."""
        assert self._plan is not None
        start = first * HOP
        stop = (last - 1) * HOP + 2 * REACH
        origin = self._frames_before * HOP - REACH
        breath = vocoder.noise(origin + start, origin + stop, seed=self._seed)
        return vocoder.windows(self._plan.train[start:stop], last - first), vocoder.windows(breath, last - first)

    def absorb(self, last: int, pieces: Array, *, pilots_hz: tuple[float, ...]) -> None:
        """Take the filtered windows of the frames up to `last` and hand out the samples that are final."""
        assert self._plan is not None
        total = vocoder.overlap_add(pieces)
        total[: len(self._tail)] += self._tail
        final = len(pieces) * HOP
        self._tail = total[final:]
        self._pieces += 1
        self._plan.place = last
        self._emit(total[:final], pilots_hz)
        if last == self._plan.frames:
            self._end_sentence(self._plan.frames, pilots_hz)

    def _end_sentence(self, frames: int, pilots_hz: tuple[float, ...]) -> None:
        """Let the sentence fade into silence."""
        full_stop = self._tokens[-1] in _STOPS and self._waiting
        gap = max(round((SENTENCE_GAP if full_stop else CLAUSE_GAP) / self.speed), 2)
        self._plan = None
        self._frames_before += frames + gap
        silence = np.concatenate((self._tail, np.zeros(gap * HOP, np.float32)))
        self._tail = silence[gap * HOP :]
        self._emit(silence[: gap * HOP], pilots_hz)

    def _emit(self, sound: Array, pilots_hz: tuple[float, ...]) -> None:
        start = self._emitted
        self._emitted += len(sound)
        if start < 0:
            sound, start = sound[-start:], 0
        if len(sound):
            pilots = vocoder.tones(pilots_hz, start=start, count=len(sound), level=_PILOT_LEVEL)
            self._ready.append(vocoder.limited(sound) + pilots)
