"""The seam between Segue and what speaks.

Separate from the engines so that server and sidecar can be read, typed and tested without one. An engine does three
things in three processes: `prepare` in a child of the sidecar (hostile input, slow work), `build` in a server worker
(zero copy, from a sealed arena), and stepping rows in that worker's engine thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Where a voice is built: `cpu`, or `cuda:N` in the GPU modes."""

    name: str = "cpu"
    threads: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceInput:
    """The recording that says how a voice should sound, and what is said in it."""

    path: Path
    text: str = ""
    language: str = "en"


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareOptions:
    """What `prepare` needs beside the files.

    Attributes
    ----------
    options
        `spec.options`, as written by the user.
    reference
        The reference recording, or `None` for voices that carry their own.
    max_tensor_bytes, max_total_bytes
        Bounds checked before memory is taken.
    shared
        The engine's shared models (see `SharesModels`) that this pod has, by name. The views are valid during the call.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    reference: ReferenceInput | None = None
    max_tensor_bytes: int = 2 << 30
    max_total_bytes: int = 8 << 30
    shared: Mapping[str, PartView] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedPart:
    """One part of a revision (`prosody`, `timbre`, `reference`; `gpt`, `sovits`), ready to be laid into an arena.

    Attributes
    ----------
    tensors
        Name to C-contiguous array of any shape; dtypes float16, float32, int8..int64, uint8, bool.
    meta
        Plain JSON that `build` needs (sizes, sample rate, speaker id). Kept small: it travels in the arena header.
    """

    tensors: Mapping[str, NDArray[Any]]
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedVoice:
    """What `Engine.prepare` returns: part name to part, in a fixed order."""

    parts: Mapping[str, PreparedPart]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedModels:
    """What `SharesModels.prepare_models` returns.

    Attributes
    ----------
    parts
        Each model that is there, by name.
    absent
        Each that is not: what is missing where, and what does not work without it.
    """

    parts: Mapping[str, PreparedPart]
    absent: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartView:
    """A part as a worker sees it: views into the mapped arena.

    Attributes
    ----------
    tensors
        On the CPU read-only numpy arrays. On a device objects with `shape`, `dtype` and DLPack
        (`segue.memory.device.array.DeviceArray`): `torch.from_dlpack` sees them without a copy. Nobody may write.
    digest
        Of the arena: equal digests are equal content, in the same memory. Empty where there is no arena.
    """

    tensors: Mapping[str, Any]
    meta: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceView:
    """All parts of one revision, as `Engine.build` takes them. The views stay valid until `Synthesizer.close`.

    Attributes
    ----------
    parts
        Those that `prepare` made.
    options
        `spec.options`.
    shared
        Models that all voices of the engine share, as far as the pod has them (see `SharesModels`). Several voices
        that are built in one process get views of the same memory; it stays mapped until the last of them is closed.
    """

    parts: Mapping[str, PartView]
    options: Mapping[str, Any] = field(default_factory=dict)
    shared: Mapping[str, PartView] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True, eq=False)
class ReferenceRecording:
    """A recording that a request wants to be spoken like.

    Attributes
    ----------
    name
        For messages; no path.
    audio
        The bytes of an audio file.
    digest
        Their sha256.
    text
        What is said in it. Empty: it lends its timbre only.
    language
        Of `text`; empty: the voice's own.
    """

    name: str
    audio: bytes = field(repr=False)
    digest: str
    text: str = ""
    language: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthesisRequest:
    """One utterance.

    Attributes
    ----------
    text
        UTF-8, any length; the engine splits sentences.
    language
        BCP-47 primary tag.
    speed
        Pace relative to the voice's own, 0.25 to 4.
    seed
        Seeds every random draw of this row (64 bit). Same seed, same revision, same text: same audio, whatever else is
        in the batch.
    streaming
        True: hand out audio in small pieces, the first as early as possible. False: any piece size. The samples are
        the same either way.
    options
        Engine parameters of this request (temperature, top_k, …).
    reference
        What `MeasuresReferences.measure` made of the request's own recordings; None: the voice's reference.
    """

    text: str
    language: str = "en"
    speed: float = 1.0
    seed: int = 0
    streaming: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    reference: MeasuredReference | None = None


@runtime_checkable
class Row(Protocol):
    """One request inside a running batch. Owned by the engine thread between `admit` and `close`."""

    @property
    def done(self) -> bool:
        """True once no further audio will come (finished or failed)."""
        ...

    @property
    def error(self) -> Exception | None:
        """What stopped this row, else None. Other rows of the batch are not touched by it."""
        ...

    @property
    def capped(self) -> bool:
        """True when the decoder ran into its length limit instead of ending by itself."""
        ...

    @property
    def tokens(self) -> Sequence[int]:
        """The decoder's tokens so far (`demo`: phones, `gpt_sovits`: semantic tokens). Loop detection reads them."""
        ...

    @property
    def phones(self) -> Sequence[str]:
        """What the text front end made of the text: ARPAbet-like phones, for the text match and the pace."""
        ...

    def take(self) -> NDArray[np.float32]:
        """Audio made since the last call: `(samples,) float32`, mono, within [-1, 1]; empty when there is none."""
        ...

    def close(self) -> None:
        """Drop every tensor of this row. Idempotent; also how a cancelled row leaves."""
        ...


class Synthesizer(Protocol):
    """One built revision. Not thread-safe: one engine thread owns it."""

    @property
    def sample_rate(self) -> int:
        """Hz."""
        ...

    def admit(self, request: SynthesisRequest) -> Row:
        """Run the text front end and make a row. Cheap; raises `TextRejected`, and `OptionRejected` for options of the
        request that it does not have. Safe to call from another thread."""
        ...

    def step(self, rows: Sequence[Row]) -> None:
        """Advance each row by one piece, together. An error of one row is stored in that row, never raised."""
        ...

    def close(self) -> None:
        """Drop every view into the arena, so that its mapping can be closed."""
        ...


@runtime_checkable
class KnowsSpeakers(Protocol):
    """A synthesizer that may carry a speaker network: what conditions the voice hears it, too, for probes."""

    def speaker_vector(self, audio: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32] | None:
        """Who speaks in `(samples,) float32`, mono, as `(n,) float32`; None where this voice has no such network or the
        recording is too short for it."""
        ...


class MeasuredReference(Protocol):
    """What an engine knows of a request's recordings. Computed values only: it outlives the revision that made it."""

    @property
    def size_bytes(self) -> int:
        """What it takes in memory."""
        ...


@runtime_checkable
class MeasuresReferences(Protocol):
    """A synthesizer whose requests may bring recordings of their own."""

    def reference_key(self, recordings: Sequence[ReferenceRecording]) -> str:
        """Names all that `measure` makes its result from: equal keys, equal results, also in another revision."""
        ...

    def measure(self, recordings: Sequence[ReferenceRecording]) -> MeasuredReference:
        """Measure one or more recordings; the first is continued, all of them lend their timbre.

        Takes seconds. Called from a thread of its own while rows are stepped, and never after `close` began.

        Raises
        ------
        OptionRejected
            A recording, its text or its language cannot be used, or a model is missing that listens to it.
        """
        ...


class Engine(Protocol):
    """Turns files into parts, and parts into speech."""

    @property
    def name(self) -> str:
        """As in `spec.engine`: `demo`, `gpt-sovits`."""
        ...

    @property
    def build_id(self) -> str:
        """Changes whenever the same parts could sound different: part of cache keys and verification records."""
        ...

    @property
    def weight_names(self) -> tuple[str, ...]:
        """The keys that `spec.weights` must have."""
        ...

    def prepare(self, files: Mapping[str, Path], options: PrepareOptions) -> PreparedVoice:
        """Read, check and repack weight files. Runs in a child of the sidecar.

        Raises
        ------
        WeightsError
            Unsafe, corrupt or wrongly shaped files; the message names file, tensor and expectation.
        """
        ...

    def build(self, voice: VoiceView, device: Device) -> Synthesizer:
        """Make a synthesizer whose parameters are the views given: nothing is copied."""
        ...


@runtime_checkable
class SharesModels(Protocol):
    """An engine whose voices need models that belong to none of them; loaded once per pod by the sidecar.

    What they are prepared to is a revision of its own: arenas that every revision of the engine holds beside its own
    parts, so that they live exactly as long as somebody needs them.
    """

    @property
    def model_files(self) -> Mapping[str, tuple[str, ...]]:
        """Model to its files, as paths relative to the root under which all models are kept (a directory, a hub's
        repository). Of files that may stand for each other all are named; `prepare_models` takes what is there."""
        ...

    def prepare_models(self, root: Path, options: PrepareOptions) -> PreparedModels:
        """Read, check and repack the models under a directory. Runs in a child of the sidecar.

        Raises
        ------
        WeightsError
            A model that is there is unsafe, corrupt or wrongly shaped. One that is not there is told in `absent`.
        """
        ...
