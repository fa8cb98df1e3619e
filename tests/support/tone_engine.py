"""An engine for tests of the data plane: each revision is a tone, and fails in the way that it was made to.

A real implementation of `segue.engine`: its parameters are views into the arena, rows join and leave. What it does is
decided by its weights' meta, so that two revisions of one voice can differ:

`hz`        frequency of the tone; also stored in the tensor that rows read
`fault`     one of `Fault`, and
`fault_on`  texts with this in them fail (empty: all of them); `fault_after_s`: seconds of sound before it happens
`step_s`    how long a step takes, as a sleep

A request may set the option `gain` (0 to 1), and bring recordings: files that hold a frequency as text, which is then
spoken instead of the voice's own (the mean of several). `880 after FIFO` is measured once somebody writes to that FIFO.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segue.engine import (
    Device,
    PreparedPart,
    PreparedVoice,
    PrepareOptions,
    ReferenceRecording,
    Row,
    SynthesisRequest,
    VoiceView,
)
from segue.errors import OptionRejected, TextRejected

RATE_HZ = 24_000
PIECE_S = 0.1
SECONDS_PER_CHAR = 0.05
AMPLITUDE = 0.3
UNREADABLE = "\u00b6"


class Fault(StrEnum):
    """How a revision fails."""

    NONE = ""
    RAISE = "raise"
    RAISE_IN_STEP = "raise-in-step"
    NAN = "nan"
    SILENT = "silent"
    EMPTY = "empty"
    CAPPED = "capped"
    HANG = "hang"
    STALL = "stall"
    BUILD = "build"


def tone_part(
    hz: float,
    *,
    fault: Fault = Fault.NONE,
    fault_on: str = "",
    fault_after_s: float = 0.0,
    step_s: float = 0.0,
    values: int = 1000,
) -> PreparedPart:
    """The one part of a tone voice."""
    return PreparedPart(
        tensors={"hz": np.full((values,), hz, np.float32)},
        meta={"fault": fault.value, "fault_on": fault_on, "fault_after_s": fault_after_s, "step_s": step_s},
    )


def expected_samples(text: str, hz: float, *, speed: float = 1.0) -> NDArray[np.float32]:
    """What a healthy revision says, `(samples,) float32`."""
    count = sample_count(text, speed=speed)
    wave: NDArray[np.float32] = (AMPLITUDE * np.sin(2 * np.pi * hz * np.arange(count) / RATE_HZ)).astype(np.float32)
    return wave


def sample_count(text: str, *, speed: float = 1.0) -> int:
    """How long a text is, in samples."""
    return int(max(1, len(text)) * SECONDS_PER_CHAR / speed * RATE_HZ)


class ToneEngine:
    """Makes tones."""

    @property
    def name(self) -> str:
        return "tone"

    @property
    def build_id(self) -> str:
        return "tone-1"

    @property
    def weight_names(self) -> tuple[str, ...]:
        return ("tone",)

    def prepare(self, files: Mapping[str, Path], options: PrepareOptions) -> PreparedVoice:
        """The file holds the frequency as text."""
        return PreparedVoice(parts={"tone": tone_part(float(files["tone"].read_text()))})

    def build(self, voice: VoiceView, device: Device) -> ToneSynthesizer:
        if voice.parts["tone"].meta.get("fault") == Fault.BUILD:
            raise ValueError("these weights cannot be built")
        return ToneSynthesizer(voice)


@dataclass(frozen=True)
class MeasuredTone:
    """What recordings sound like."""

    hz: float
    size_bytes: int = 8


class ToneSynthesizer:
    """One revision."""

    sample_rate = RATE_HZ

    def __init__(self, voice: VoiceView) -> None:
        part = voice.parts["tone"]
        self._hz: NDArray[np.float32] | None = part.tensors["hz"]
        self._meta = part.meta

    def admit(self, request: SynthesisRequest) -> ToneRow:
        if UNREADABLE in request.text:
            at = request.text.index(UNREADABLE)
            raise TextRejected(f"cannot read {UNREADABLE!r}: remove it", span=(at, at + 1))
        gain = _gain(request)
        if request.reference is not None and not isinstance(request.reference, MeasuredTone):
            raise OptionRejected("no tone", option="reference")
        hz = request.reference.hz if request.reference is not None else None
        applies = str(self._meta["fault_on"]) in request.text and request.text != "Hello."
        fault = Fault(self._meta["fault"]) if applies else Fault.NONE
        return ToneRow(request, fault=fault, fault_after_s=float(self._meta["fault_after_s"]), gain=gain, hz=hz)

    def reference_key(self, recordings: Sequence[ReferenceRecording]) -> str:
        return " ".join(each.digest + each.text for each in recordings)

    def measure(self, recordings: Sequence[ReferenceRecording]) -> MeasuredTone:
        try:
            return MeasuredTone(float(np.mean([_measured_hz(each.audio.decode()) for each in recordings])))
        except ValueError:
            raise OptionRejected(f"{recordings[0].name!r} holds no frequency", option="reference") from None

    def step(self, rows: Sequence[Row]) -> None:
        if self._hz is None:
            raise RuntimeError("this synthesizer was closed")
        time.sleep(float(self._meta["step_s"]))
        for row in rows:
            assert isinstance(row, ToneRow)
            row.advance(float(self._hz[0]))

    def close(self) -> None:
        self._hz = None


def _measured_hz(text: str) -> float:
    hz, separator, fifo = text.partition(" after ")
    if separator:
        Path(fifo).read_bytes()
    return float(hz)


def _gain(request: SynthesisRequest) -> float:
    for option in request.options:
        if option != "gain":
            raise OptionRejected(f"the tone engine has no option {option!r}; it has gain", option=option)
    gain = request.options.get("gain", 1.0)
    if isinstance(gain, bool) or not isinstance(gain, int | float) or not 0 <= gain <= 1:
        raise OptionRejected(f"gain is {gain!r}; expected a number from 0 to 1", option="gain")
    return float(gain)


class ToneRow:
    """One request."""

    def __init__(
        self, request: SynthesisRequest, *, fault: Fault, fault_after_s: float, gain: float = 1.0, hz: float | None
    ) -> None:
        self._gain = gain
        self._hz = hz
        self._total = sample_count(request.text, speed=request.speed)
        self._made = 0
        self._ready: list[NDArray[np.float32]] = []
        self._fault = fault
        self._fault_at = int(fault_after_s * RATE_HZ)
        self._text = request.text
        self.done = False
        self.error: Exception | None = None
        self.capped = False

    @property
    def tokens(self) -> Sequence[int]:
        return range(self._made // int(PIECE_S * RATE_HZ))

    @property
    def phones(self) -> Sequence[str]:
        return list(self._text)

    def advance(self, hz: float) -> None:
        """One piece."""
        count = min(int(PIECE_S * RATE_HZ), self._total - self._made)
        if self._fault is not Fault.NONE and self._made >= self._fault_at and self._fail(count):
            return
        at = np.arange(self._made, self._made + count) / RATE_HZ
        tone = self._gain * AMPLITUDE * np.sin(2 * np.pi * (self._hz or hz) * at)
        self._give(tone.astype(np.float32))

    def take(self) -> NDArray[np.float32]:
        taken = np.concatenate(self._ready) if self._ready else np.zeros(0, np.float32)
        self._ready.clear()
        return taken

    def close(self) -> None:
        self.done = True
        self._ready.clear()

    def _give(self, samples: NDArray[np.float32]) -> None:
        self._ready.append(samples)
        self._made += len(samples)
        self.done = self._made >= self._total

    def _fail(self, count: int) -> bool:
        """Do what the fault is; True: this piece is dealt with."""
        match self._fault:
            case Fault.RAISE:
                self.error, self.done = ArithmeticError("the tone broke"), True
            case Fault.RAISE_IN_STEP:
                raise ArithmeticError("the whole step broke")
            case Fault.NAN:
                self._give(np.full((count,), np.nan, np.float32))
            case Fault.SILENT:
                self._give(np.zeros(count, np.float32))
            case Fault.EMPTY:
                self.done = True
            case Fault.CAPPED:
                self.capped, self.done = True, True
            case Fault.HANG:
                time.sleep(0.01)  # a step that makes nothing
            case Fault.STALL:
                time.sleep(3600)
            case _:
                return False
        return True
