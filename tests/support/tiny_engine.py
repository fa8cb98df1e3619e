"""A real engine that is small: one tone, and whatever trouble a test asks its weights for.

A weight file is a `.npz` with `tone` (float32, its size is the arena's) and `settings` (JSON bytes): `hz`, and
`prepare`, `build` or `speak` set to a kind of trouble.
"""

from __future__ import annotations

import io
import json
import os
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from segue.engine import (
    Device,
    Engine,
    PreparedPart,
    PreparedVoice,
    PrepareOptions,
    Row,
    SynthesisRequest,
    Synthesizer,
    VoiceView,
)
from segue.errors import ShapeMismatch, WeightsError

RATE_HZ = 16_000
SECONDS = 0.5
PLACE = "tests.support.tiny_engine:TinyEngine"


def weights(*, hz: float = 220.0, values: int = 4096, **trouble: Any) -> bytes:
    """The bytes of one weight file."""
    settings = json.dumps({"hz": hz, **trouble}).encode()
    buffer = io.BytesIO()
    np.savez(
        buffer,
        tone=np.full((values,), hz, dtype=np.float32),
        settings=np.frombuffer(settings, dtype=np.uint8),
    )
    return buffer.getvalue()


def _get_into(trouble: str | None) -> None:
    match trouble:
        case "hang":
            time.sleep(3600)
        case "crash":
            os._exit(3)
        case "kill":
            os.kill(os.getpid(), 9)
        case "eat":
            _ = np.ones((1 << 40,), dtype=np.uint8)
        case "raise":
            raise WeightsError("the test asked for it")
        case _:
            return


class TinyEngine(Engine):
    """One weight, `tone`; one part, `tone`."""

    @property
    @override
    def name(self) -> str:
        return "tiny"

    @property
    @override
    def build_id(self) -> str:
        return "tiny-1"

    @property
    @override
    def weight_names(self) -> tuple[str, ...]:
        return ("tone",)

    @override
    def prepare(self, files: Mapping[str, Path], options: PrepareOptions) -> PreparedVoice:
        try:
            with np.load(files["tone"], allow_pickle=False) as archive:
                tone, settings = archive["tone"], json.loads(bytes(archive["settings"]))
        except (ValueError, OSError, KeyError, zipfile.BadZipFile, EOFError) as error:
            raise WeightsError(f"{files.get('tone')}: no weights: {error}") from error
        _get_into(settings.get("prepare"))
        if tone.ndim != 1 or tone.dtype != np.float32:
            raise ShapeMismatch(f"tone is {tone.shape} {tone.dtype}, expected (n,) float32")
        return PreparedVoice(parts={"tone": PreparedPart(tensors={"tone": tone}, meta=settings)})

    @override
    def build(self, voice: VoiceView, device: Device) -> Synthesizer:
        part = voice.parts["tone"]
        _get_into(part.meta.get("build"))
        tone = part.tensors["tone"]
        seen: Any = tone if isinstance(tone, np.ndarray) else np.from_dlpack(tone)
        return TinySynthesizer(seen, part.meta)


class TinySynthesizer(Synthesizer):
    """Half a second of a tone."""

    def __init__(self, tone: NDArray[np.float32], meta: Mapping[str, Any]) -> None:
        self._tone: NDArray[np.float32] | None = tone
        self.meta = meta

    @property
    @override
    def sample_rate(self) -> int:
        return RATE_HZ

    @override
    def admit(self, request: SynthesisRequest) -> Row:
        return TinyRow()

    @override
    def step(self, rows: Sequence[Row]) -> None:
        assert self._tone is not None
        for row in rows:
            assert isinstance(row, TinyRow)
            row.speak(float(self._tone[0]), self.meta.get("speak"))

    @override
    def close(self) -> None:
        self._tone = None


class TinyRow(Row):
    """One utterance."""

    def __init__(self) -> None:
        self._audio: list[NDArray[np.float32]] = []
        self._done = False
        self._error: Exception | None = None

    @property
    @override
    def done(self) -> bool:
        return self._done

    @property
    @override
    def error(self) -> Exception | None:
        return self._error

    @property
    @override
    def capped(self) -> bool:
        return False

    @property
    @override
    def tokens(self) -> Sequence[int]:
        return ()

    @property
    @override
    def phones(self) -> Sequence[str]:
        return ()

    def speak(self, hz: float, trouble: str | None) -> None:
        """All of it in one step."""
        _get_into(trouble)
        samples = np.arange(int(RATE_HZ * SECONDS)) / RATE_HZ
        audio = (0.3 * np.sin(2 * np.pi * hz * samples)).astype(np.float32)
        if trouble == "silent":
            audio[:] = 0
        if trouble == "nan":
            audio[7] = np.nan
        if trouble == "error":
            self._error = RuntimeError("the test asked for it")
        self._audio.append(audio)
        self._done = True

    @override
    def take(self) -> NDArray[np.float32]:
        taken, self._audio = self._audio, []
        return np.concatenate(taken) if taken else np.zeros(0, np.float32)

    @override
    def close(self) -> None:
        self._audio = []
