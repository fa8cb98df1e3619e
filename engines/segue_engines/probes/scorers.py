"""Judges that Segue does not bring: how natural speech sounds, and what a real speech recogniser hears in it.

Both need models far larger than a voice, so they are plugged in: a command, a URL or a Python entry point, named in the
fleet's settings. Where none is set the report says `not measured`; a figure is never made up.
"""

from __future__ import annotations

import io
import math
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import entry_points
from shlex import split
from typing import Any, Final, Protocol, assert_never

import httpx
import numpy as np
import soundfile

from segue.errors import SegueError
from segue_engines.probes.figures import ScoreFigure
from segue_engines.probes.recogniser import edit_distance
from segue_engines.probes.spectrum import Audio

ENTRY_POINTS: Final = "segue.scorers"
NOT_SET: Final = "no scorer is set"


class ScorerFailed(SegueError):
    """A scorer that could not be reached or gave no figure. The probe reports it; the revision is not blamed."""


class ScorerKind(StrEnum):
    """What a scorer gives.

    NATURALNESS
        A figure, higher is better, such as a predicted mean opinion score.
    WORD_ERROR_RATE
        A transcript, which is compared with the text word by word; lower is better.
    """

    NATURALNESS = "naturalness"
    WORD_ERROR_RATE = "wordErrorRate"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpokenText:
    """One utterance to be judged: `(samples,) float32` mono, and what it should say."""

    audio: Audio
    sample_rate: int
    text: str
    language: str

    def wav(self) -> bytes:
        """The utterance as a 16-bit WAV file."""
        target = io.BytesIO()
        soundfile.write(target, self.audio, self.sample_rate, format="WAV", subtype="PCM_16")
        return target.getvalue()


class Source(Protocol):
    """Where an answer comes from: a number for naturalness, a transcript for the word error rate."""

    def ask(self, spoken: SpokenText) -> str:
        """Answer for one utterance.

        Raises
        ------
        ScorerFailed
            No answer.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorer:
    """A plugged-in judge and its limit.

    Attributes
    ----------
    minimum, maximum
        Limits of the mean over all utterances; without either the figure is shown and judges nothing.
    """

    kind: ScorerKind
    source: Source
    minimum: float | None = None
    maximum: float | None = None

    def score(self, utterances: Sequence[SpokenText]) -> ScoreFigure:
        """Judge utterances and take the mean; a failing source gives `not measured` and its reason."""
        try:
            figures = [self._figure(spoken) for spoken in utterances]
        except ScorerFailed as error:
            return self._said(None, str(error))
        return self._said(float(np.mean(figures)), "") if figures else self._said(None, "there was no audio")

    def _said(self, figure: float | None, reason: str) -> ScoreFigure:
        return ScoreFigure(
            name=self.kind.value, figure=figure, reason=reason, minimum=self.minimum, maximum=self.maximum
        )

    def _figure(self, spoken: SpokenText) -> float:
        answer = self.source.ask(spoken)
        match self.kind:
            case ScorerKind.NATURALNESS:
                return _number(answer)
            case ScorerKind.WORD_ERROR_RATE:
                return word_error_rate(answer, spoken.text)
            case _:
                assert_never(self.kind)


def score_all(scorers: Sequence[Scorer], utterances: Sequence[SpokenText]) -> tuple[ScoreFigure, ...]:
    """Let every scorer judge; kinds without a scorer are listed as not measured."""
    said = [scorer.score(utterances) for scorer in scorers]
    absent = [kind for kind in ScorerKind if kind not in {scorer.kind for scorer in scorers}]
    return (*said, *(ScoreFigure(name=kind.value, reason=NOT_SET) for kind in absent))


def scorer(
    kind: ScorerKind, address: str, *, minimum: float | None = None, maximum: float | None = None, timeout_s: float = 60
) -> Scorer:
    """Make a scorer from its address in the settings.

    Parameters
    ----------
    address
        `command:PROGRAM ARGUMENTS` (the wav on stdin, `SEGUE_TEXT` and `SEGUE_LANGUAGE` in the environment, the answer
        on stdout), `http://…` or `https://…` (see `UrlSource`), or `entry-point:NAME` of the group `segue.scorers`.

    Raises
    ------
    ScorerFailed
        An address of another form, or an entry point that is not installed.
    """
    scheme, _, rest = address.partition(":")
    source: Source
    if scheme == "command" and rest.strip():
        source = CommandSource(command=tuple(split(rest)), timeout_s=timeout_s)
    elif scheme in ("http", "https"):
        source = UrlSource(kind=kind, url=address, timeout_s=timeout_s)
    elif scheme == "entry-point":
        source = _entry_point(rest)
    else:
        raise ScorerFailed(f"scorer {address!r}: begin with 'command:', 'http://', 'https://' or 'entry-point:'")
    return Scorer(kind=kind, source=source, minimum=minimum, maximum=maximum)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSource:
    """A program that reads a wav on stdin and prints its answer."""

    command: tuple[str, ...]
    timeout_s: float = 60

    def ask(self, spoken: SpokenText) -> str:
        """Run the program once."""
        environment = {**os.environ, "SEGUE_TEXT": spoken.text, "SEGUE_LANGUAGE": spoken.language}
        try:
            done = subprocess.run(
                self.command,
                input=spoken.wav(),
                capture_output=True,
                env=environment,
                timeout=self.timeout_s,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ScorerFailed(f"scorer {self.command[0]!r}: {error}") from error
        if done.returncode:
            detail = done.stderr.decode(errors="replace").strip()[-200:]
            raise ScorerFailed(f"scorer {self.command[0]!r} ended with {done.returncode}: {detail}")
        return done.stdout.decode(errors="replace").strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlSource:
    """A web service. Naturalness: POST of the wav, answer `{"score": 4.1}`. Transcripts: as OpenAI's transcriptions."""

    kind: ScorerKind
    url: str
    timeout_s: float = 60

    def ask(self, spoken: SpokenText) -> str:
        """Post one wav."""
        try:
            answer = httpx.post(self.url, timeout=self.timeout_s, **self._body(spoken)).raise_for_status().json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise ScorerFailed(f"scorer {self.url}: {error}") from error
        key = "score" if self.kind is ScorerKind.NATURALNESS else "text"
        if not isinstance(answer, dict) or key not in answer:
            raise ScorerFailed(f"scorer {self.url}: the answer has no {key!r}")
        return str(answer[key])

    def _body(self, spoken: SpokenText) -> dict[str, Any]:
        if self.kind is ScorerKind.NATURALNESS:
            return {"content": spoken.wav(), "headers": {"content-type": "audio/wav"}}
        return {
            "files": {"file": ("speech.wav", spoken.wav(), "audio/wav")},
            "data": {"model": "whisper-1", "language": spoken.language},
        }


def word_error_rate(heard: str, wanted: str) -> float:
    """Word errors per word of the text, case and punctuation aside; scripts without spaces go by character."""
    first, second = _words(heard), _words(wanted)
    codes: dict[str, int] = {}
    labels = [[codes.setdefault(word, len(codes)) for word in words] for words in (first, second)]
    return edit_distance(labels[0], labels[1]) / max(len(second), 1)


_WORD: Final = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+(?:'[^\W_]+)*")


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower().replace("’", "'"))


def _number(answer: str) -> float:
    try:
        figure = float(answer)
    except ValueError:
        raise ScorerFailed(f"the scorer answered {answer[:80]!r}, which is no number") from None
    if not math.isfinite(figure):
        raise ScorerFailed(f"the scorer answered {answer[:80]!r}, which is not finite")
    return figure


def _entry_point(name: str) -> Source:
    found = list(entry_points(group=ENTRY_POINTS, name=name))
    if not found:
        raise ScorerFailed(f"scorer 'entry-point:{name}': no package installs it in the group {ENTRY_POINTS!r}")
    source: Source = found[0].load()()
    return source
