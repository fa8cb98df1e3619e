"""What each revision should sound like, spoken here by the same engine from the same weight files.

Separate from the detector, which only compares, and independent of the server: no arena, no batch, no worker in
between. An answer that equals this was made of these weights and no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segue.engine import (
    Device,
    Engine,
    PartView,
    PreparedPart,
    PrepareOptions,
    ReferenceInput,
    SynthesisRequest,
    Synthesizer,
    VoiceView,
)
from segue.errors import InvalidVoiceModel, SynthesisError, WeightsError
from segue_cli.measure.mixed import Rendering
from segue_cli.measure.shots import Shot
from segue_engines.demo import DemoEngine


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionFiles:
    """A revision of a voice and what it is made of.

    Attributes
    ----------
    weights
        The engine's weight names to files.
    reference
        The recording of voices that do not carry their own.
    """

    voice: str
    revision: str
    weights: Mapping[str, Path]
    options: Mapping[str, Any] = field(default_factory=dict)
    engine: str = "demo"
    reference: ReferenceInput | None = None


class LocalVoice:
    """One revision, built in this process."""

    def __init__(
        self,
        parts: Mapping[str, PreparedPart],
        *,
        options: Mapping[str, Any],
        engine: Engine,
        shared: Mapping[str, PartView] | None = None,
    ) -> None:
        views = {name: PartView(tensors=part.tensors, meta=part.meta) for name, part in parts.items()}
        self.pilots_hz = {name: part.meta["pilot_hz"] for name, part in parts.items() if "pilot_hz" in part.meta}
        view = VoiceView(parts=views, options=options, shared=shared or {})
        self._synthesizer: Synthesizer = engine.build(view, Device())
        self._options = options

    @property
    def rate_hz(self) -> int:
        """Hz."""
        return self._synthesizer.sample_rate

    def speak(self, text: str, *, seed: int) -> NDArray[np.float32]:
        """Say a text by itself, in a batch of one: `(samples,) float32`. Raises the row's error."""
        request = SynthesisRequest(text=text, seed=seed, language=str(self._options.get("language", "en")))
        row = self._synthesizer.admit(request)
        pieces: list[NDArray[np.float32]] = []
        try:
            while not row.done:
                self._synthesizer.step([row])
                pieces.append(row.take())
            if row.error is not None:
                raise row.error
        finally:
            row.close()
        return np.concatenate([*pieces, np.zeros(0, np.float32)])


class Renderings:
    """All revisions that were resident in a run, and what they say; each text is spoken once a revision."""

    def __init__(
        self,
        revisions: Iterable[RevisionFiles],
        *,
        engine: Engine | None = None,
        shared: Mapping[str, PartView] | None = None,
    ) -> None:
        """`engine` speaks all of them (the demo engine), with the models that its voices share."""
        self._engine: Engine = engine or DemoEngine()
        self._shared = shared or {}
        self._files = {(files.voice, files.revision): files for files in revisions}
        self._built: dict[tuple[str, str], LocalVoice] = {}
        self._spoken: dict[tuple[str, str, str, int], Rendering | None] = {}

    def add(self, files: RevisionFiles) -> None:
        """Another revision became resident."""
        self._files.setdefault((files.voice, files.revision), files)

    def __call__(self, shot: Shot, revision: str) -> Sequence[Rendering]:
        """Every resident revision's rendering of what a shot says; those that cannot say it are left out."""
        seed = shot.seed or 0
        found = (
            self._rendering(voice, other, text=shot.text, seed=seed)
            for voice, other in tuple(self._files)  # revisions are added while others are judged
            if voice == shot.voice or other == revision
        )
        return [rendering for rendering in found if rendering is not None]

    def of_halves(self, voice: str, *, one: str, other: str) -> LocalVoice:
        """The fault that Segue exists to prevent: a voice put together from halves of two revisions.

        Its second weight file (what is heard: `timbre`, `sovits`) is the other revision's.
        """
        foreign = list(self._files[(voice, one)].weights)[-1]
        halves = {
            **self._prepare(self._files[(voice, one)]),
            foreign: self._prepare(self._files[(voice, other)])[foreign],
        }
        options = self._files[(voice, one)].options
        return LocalVoice(halves, options=options, engine=self._engine, shared=self._shared)

    def local(self, voice: str, revision: str) -> LocalVoice:
        """The revision, built once."""
        key = (voice, revision)
        if key not in self._built:
            files = self._files[key]
            parts = self._prepare(files)
            self._built[key] = LocalVoice(parts, options=files.options, engine=self._engine, shared=self._shared)
        return self._built[key]

    def _prepare(self, files: RevisionFiles) -> Mapping[str, PreparedPart]:
        options = PrepareOptions(options=files.options, reference=files.reference, shared=self._shared)
        return self._engine.prepare(files.weights, options).parts

    def _rendering(self, voice: str, revision: str, *, text: str, seed: int) -> Rendering | None:
        key = (voice, revision, text, seed)
        if key not in self._spoken:
            self._spoken[key] = self._speak(voice, revision, text=text, seed=seed)
        return self._spoken[key]

    def _speak(self, voice: str, revision: str, *, text: str, seed: int) -> Rendering | None:
        try:
            local = self.local(voice, revision)
            samples = local.speak(text, seed=seed)
        except (SynthesisError, WeightsError, InvalidVoiceModel):
            return None  # a text that this revision breaks on, or files or options that were refused
        return Rendering(revision=revision, samples=samples, rate_hz=local.rate_hz, pilots_hz=local.pilots_hz)
