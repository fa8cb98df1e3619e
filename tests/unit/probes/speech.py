"""Speech to listen to in tests: the demo voices, and a voice whose every utterance is bent on the way out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from segue.engine import Device, PartView, PrepareOptions, Row, SynthesisRequest, Synthesizer, VoiceView
from segue_engines.demo.engine import DemoEngine
from segue_engines.probes import BaselineFigures, Case, Clip, ProbeReport, builtin_cases, run_probes, speak

Audio = NDArray[np.float32]
EXAMPLES = Path(__file__).parents[3] / "examples"
CASES = builtin_cases("en")[:4]
RATE_HZ = 24000


@cache
def voice(folder: str) -> Synthesizer:
    """A demo voice, by folder below `examples`."""
    engine = DemoEngine()
    files = {name: EXAMPLES / folder / f"{name}.pth" for name in engine.weight_names}
    prepared = engine.prepare(files, PrepareOptions(options={"language": "en"}))
    parts = {name: PartView(tensors=part.tensors, meta=part.meta) for name, part in prepared.parts.items()}
    return engine.build(VoiceView(parts=parts), Device())


@cache
def clip(text: str = CASES[1].text, folder: str = "voices/narrator/v1") -> Clip:
    return speak(voice(folder), Case(text), 1)


@cache
def reading(folder: str = "voices/narrator/v1") -> Audio:
    """All built-in cases, one after another: about 18 s."""
    return np.concatenate([clip(case.text, folder).audio for case in CASES])


@cache
def reference(name: str = "narrator") -> Audio:
    audio, rate = soundfile.read(EXAMPLES / "voices" / name / "reference.wav", dtype="float32")
    assert rate == RATE_HZ
    return np.asarray(audio, dtype=np.float32)


@cache
def baseline() -> BaselineFigures:
    return probe(voice("voices/narrator/v1")).baseline()


def probe(synthesizer: Synthesizer, *, active: BaselineFigures | None = None) -> ProbeReport:
    return run_probes(
        synthesizer,
        cases=CASES,
        seeds=(1,),
        reference_audio=reference(),
        reference_rate=RATE_HZ,
        baseline=active,
    )


@dataclass
class BentRow:
    audio: Audio
    phones: Sequence[str]
    tokens: Sequence[int]
    error: Exception | None = None
    capped: bool = False
    done: bool = False
    closed: bool = False

    def take(self) -> Audio:
        audio, self.audio = self.audio, np.zeros(0, np.float32)
        return audio if self.done else audio[:0]

    def close(self) -> None:
        self.closed = True


@dataclass
class BentVoice:
    """Speaks as the narrator does, with the audio changed by `bend`, or fails in the ways that its fields say."""

    bend: Callable[[Audio], Audio] = lambda audio: audio
    tokens: Sequence[int] | None = None
    phones: Sequence[str] | None = None
    capped: bool = False
    admit_error: Exception | None = None
    row_error: Exception | None = None
    never_ends: bool = False
    sample_rate: int = RATE_HZ
    rows: list[BentRow] = field(default_factory=list)

    def admit(self, request: SynthesisRequest) -> Row:
        if self.admit_error is not None:
            raise self.admit_error
        spoken = clip(request.text)
        tokens = spoken.tokens if self.tokens is None else self.tokens
        phones = spoken.phones if self.phones is None else self.phones
        row = BentRow(self.bend(spoken.audio.copy()), phones, tokens, capped=self.capped)
        self.rows.append(row)
        return row

    def step(self, rows: Sequence[Row]) -> None:
        for row in rows:
            assert isinstance(row, BentRow)
            row.error = self.row_error
            row.done = not self.never_ends

    def close(self) -> None:
        pass
