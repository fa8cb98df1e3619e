"""A small voice with generated weights, as a worker sees it, and texts that are given as phones."""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tests.support.gpt_sovits.weights import DrawnTensors
from tests.unit.engine_gpt_sovits.golden import case, shapes, sovits_config

from segue.engine import Device, PartView, PreparedPart, SynthesisRequest, VoiceView
from segue.errors import TextRejected
from segue_engines.gpt_sovits.engine import GptSovitsEngine
from segue_engines.gpt_sovits.formats import SovitsCheckpoint, T2SCheckpoint, T2SConfig
from segue_engines.gpt_sovits.parts import GPT, REFERENCE, SOVITS, Reference, gpt_part, reference_part, sovits_part
from segue_engines.gpt_sovits.row import GptSovitsRow
from segue_engines.gpt_sovits.sovits.packing import DecoderDtype
from segue_engines.gpt_sovits.spoken import Spoken
from segue_engines.gpt_sovits.synthesizer import GptSovitsSynthesizer
from segue_engines.gpt_sovits.t2s.packing import T2SDtype

EOS_GAIN = 2.4
PHONES = 60


class PhonesGiven:
    """Reads texts such as `5 6 7 / 8 9`: phone ids, fragments parted by a slash."""

    def read(self, text: str, language: str, *, cut: str = "cut5") -> Sequence[Spoken]:
        """Each fragment."""
        if not text.strip():
            raise TextRejected("nothing to say", span=(0, len(text)))
        return [self.read_reference(part, language) for part in text.split("/")]

    def read_reference(self, text: str, language: str) -> Spoken:
        """One fragment."""
        ids = tuple(map(int, text.split()))
        return Spoken(phones=tuple(f"P{each}" for each in ids), ids=ids)


def words(seed: int, *, fragments: int = 1, phones: int = 24) -> str:
    """A text of random phones."""
    draw = np.random.default_rng(seed)
    return " / ".join(" ".join(map(str, draw.integers(1, 700, size=phones))) for _ in range(fragments))


def t2s_checkpoint(*, seed: int = 1, eos_gain: float = EOS_GAIN) -> T2SCheckpoint:
    """3 layers of width 128."""
    config = T2SConfig(hidden_dim=128, head=4, n_layer=3)
    return T2SCheckpoint(
        config=config, info="", tensors=dict(DrawnTensors(shapes("t2s-reduced-b"), seed=seed, eos_gain=eos_gain))
    )


def sovits_checkpoint(version: str = "v2pro", *, seed: int = 1) -> SovitsCheckpoint:
    """Narrow, with all parts."""
    name = f"sovits-{version}-reduced"
    config = sovits_config(case(name))
    return SovitsCheckpoint(
        version=config.version, config=config, info="", tensors=dict(DrawnTensors(shapes(name), seed=seed))
    )


def reference(*, pro: bool = True, prompt: int = 20) -> Reference:
    """A reference recording that was measured already."""
    draw = torch.Generator().manual_seed(3)
    return Reference(
        spectrogram=torch.rand(1, 1025, 90, generator=draw),
        speaker=torch.randn(1, 20_480, generator=draw) if pro else None,
        prompt=torch.randint(0, 1024, (prompt,), generator=draw),
        spoken=PhonesGiven().read_reference(words(0, phones=14), "en"),
    )


def parts(
    *,
    version: str = "v2pro",
    dtype: T2SDtype = T2SDtype.FP32,
    decoder_dtype: DecoderDtype = DecoderDtype.FP32,
    eos_gain: float = EOS_GAIN,
    prompt: int = 20,
) -> dict[str, PreparedPart]:
    """The three parts of the small voice."""
    return {
        GPT: gpt_part(t2s_checkpoint(eos_gain=eos_gain), dtype=dtype),
        SOVITS: sovits_part(sovits_checkpoint(version), dtype=decoder_dtype),
        REFERENCE: reference_part(reference(pro=version != "v2", prompt=prompt)),
    }


def view(prepared: Mapping[str, PreparedPart], **options: Any) -> VoiceView:
    """Parts as a worker sees them."""
    return VoiceView(
        parts={name: PartView(tensors=part.tensors, meta=part.meta) for name, part in prepared.items()}, options=options
    )


def in_mapping(prepared: Mapping[str, PreparedPart]) -> tuple[mmap.mmap, VoiceView]:
    """The same in one read-only mapping, as an arena would hold it."""
    total = sum(-(-array.nbytes // 64) * 64 for part in prepared.values() for array in part.tensors.values())
    mapping, place, found = mmap.mmap(-1, total), 0, {}
    for name, part in prepared.items():
        views: dict[str, NDArray[Any]] = {}
        for key, array in part.tensors.items():
            mapping[place : place + array.nbytes] = array.tobytes()
            seen = np.frombuffer(mapping, array.dtype, count=array.size, offset=place).reshape(array.shape)
            seen.flags.writeable = False
            views[key] = seen
            place += -(-array.nbytes // 64) * 64
        found[name] = PartView(tensors=views, meta=part.meta)
    return mapping, VoiceView(parts=found)


def build(**changed: Any) -> GptSovitsSynthesizer:
    """The small voice, built; `options={…}` become `spec.options`."""
    options = changed.pop("options", {})
    return GptSovitsEngine(front_end=PhonesGiven()).build(view(parts(**changed), **options), Device(threads=1))


def run(synthesizer: GptSovitsSynthesizer, rows: Sequence[GptSovitsRow]) -> list[NDArray[np.float32]]:
    """Step all rows together until they are done."""
    pieces: list[list[NDArray[np.float32]]] = [[] for _ in rows]
    while not all(row.done for row in rows):
        synthesizer.step([row for row in rows if not row.done])
        for heard, row in zip(pieces, rows, strict=True):
            heard.append(row.take())
    return [np.concatenate(heard) for heard in pieces]


def say(synthesizer: GptSovitsSynthesizer, text: str, **request: Any) -> tuple[list[int], NDArray[np.float32]]:
    """Speak one text alone; its tokens and its samples."""
    row = synthesizer.admit(SynthesisRequest(text=text, **request))
    (samples,) = run(synthesizer, [row])
    if row.error is not None:
        raise row.error
    return list(row.tokens), samples
