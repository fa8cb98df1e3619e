"""Which similarity should a voice ask for?

0.9 is a guess that fits most voices. What fits *this* voice lies between how like itself it is, piece against piece,
and how like it the nearest other speaker is. Pure: embeddings in, a suggestion with its margins out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from segue.errors import SegueError
from segue_engines.probes.speaker import MIN_SPEECH_S, embed, similarity, speech_only
from segue_engines.probes.spectrum import SPEECH_RATE_HZ, Audio, at_rate

Embedding = NDArray[np.float32]
_COHORT: Final = Path(__file__).parent / "data" / "cohort.npz"
_SHARE_OF_GAP: Final = 1 / 3
"""How far below the worst same-speaker score the threshold stands. Nearer to that score than to the strangers, of whom
few are known; not at it, because a model is never quite as like a recording as its own pieces are (0.01 to 0.03)."""
_MIN_GAP: Final = 0.05
_MIN_PIECE_S: Final = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """A distribution of similarities."""

    count: int
    lowest: float
    mean: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Scores:
        """Sum up at least one value."""
        return cls(count=len(values), lowest=min(values), mean=sum(values) / len(values), highest=max(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A suggested threshold, and what it rests on.

    Attributes
    ----------
    threshold
        For `verification.minSimilarity`, to two decimals.
    same_speaker, other_speakers
        Scores of pieces of this voice with each other, and with the other voices.
    margin_below, margin_above
        From the threshold down to the nearest other speaker, and up to the worst piece of this voice.
    separable
        Whether the two are far enough apart for any threshold to mean something.
    nearest
        Name of the most similar other voice.
    message
        For people.
    """

    threshold: float
    same_speaker: Scores
    other_speakers: Scores
    margin_below: float
    margin_above: float
    separable: bool
    nearest: str
    message: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


class NotEnoughAudio(SegueError):
    """Too little speech to calibrate with; the message says how much there is and how much is needed."""


def pieces_of(audio: Audio, sample_rate: int, *, piece_s: float = MIN_SPEECH_S) -> list[Embedding]:
    """Embed pieces of a recording that do not overlap.

    Parameters
    ----------
    audio
        `(samples,) float32`, mono; silences do not count.
    piece_s
        Wanted length of a piece. With too little speech for two, the recording is halved.

    Raises
    ------
    NotEnoughAudio
        Less than 8 s of speech.
    """
    speech = speech_only(at_rate(audio, sample_rate))
    seconds = speech.size / SPEECH_RATE_HZ
    if seconds < 2 * _MIN_PIECE_S:
        raise NotEnoughAudio(f"{seconds:.1f} s of speech; at least {2 * _MIN_PIECE_S:.0f} s are needed, 20 s are good")
    count = max(2, int(seconds / piece_s))
    return [embed(piece, SPEECH_RATE_HZ) for piece in np.array_split(speech, count)]


@cache
def builtin_voices() -> dict[str, Embedding]:
    """Embeddings of voices that ship with the package, to compare with where no others are at hand."""
    with np.load(_COHORT, allow_pickle=False) as stored:
        return {name: stored[name].astype(np.float32) for name in stored.files}


def calibrate(own: Sequence[Embedding], others: Mapping[str, Iterable[Embedding]]) -> Calibration:
    """Suggest a similarity threshold for a voice.

    Parameters
    ----------
    own
        At least two pieces of the voice, `(256,) float32` each, best of ten seconds and more.
    others
        Name to pieces of voices that must be refused.

    Raises
    ------
    NotEnoughAudio
        Fewer than two own pieces, or no other voice.
    """
    named = [(name, piece) for name, pieces in others.items() for piece in pieces]
    if len(own) < 2 or not named:
        raise NotEnoughAudio(f"{len(own)} pieces of the voice and {len(named)} of others; two and one are needed")
    same = Scores.of([similarity(first, second) for first, second in combinations(own, 2)])
    scored = [(similarity(piece, other), name) for piece in own for name, other in named]
    other = Scores.of([score for score, _ in scored])
    gap = same.lowest - other.highest
    threshold = round(same.lowest - _SHARE_OF_GAP * gap, 2)
    nearest = max(scored)[1]
    return Calibration(
        threshold=threshold,
        same_speaker=same,
        other_speakers=other,
        margin_below=threshold - other.highest,
        margin_above=same.lowest - threshold,
        separable=gap >= _MIN_GAP,
        nearest=nearest,
        message=_message(same, other, threshold, gap=gap, nearest=nearest),
    )


def _message(same: Scores, other: Scores, threshold: float, *, gap: float, nearest: str) -> str:
    figures = f"own pieces {same.lowest:.3f} to {same.highest:.3f}, nearest other voice {nearest} {other.highest:.3f}"
    if gap < _MIN_GAP:
        return f"{figures}: too close to tell apart; use longer recordings, or expect wrong verdicts"
    return f"{figures}: ask for {threshold:.2f}"
