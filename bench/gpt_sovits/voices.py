"""A voice of the real size with generated weights, as both engines take it, and what it is asked to say.

Separate from the measuring because making 145 million numbers takes longer than some of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from tests.support.gpt_sovits.files import table
from tests.support.gpt_sovits.weights import DrawnTensors

from segue.engine import PreparedPart
from segue_engines.gpt_sovits.formats import ModelVersion, SovitsCheckpoint, SovitsConfig, T2SCheckpoint, T2SConfig
from segue_engines.gpt_sovits.parts import GPT, REFERENCE, SOVITS, Reference, gpt_part, reference_part, sovits_part
from segue_engines.gpt_sovits.sovits.packing import DecoderDtype
from segue_engines.gpt_sovits.spoken import Spoken
from segue_engines.gpt_sovits.t2s.network import Utterance
from segue_engines.gpt_sovits.t2s.packing import T2SDtype

PROMPT_TOKENS: Final = 75
REFERENCE_PHONES: Final = 24
TEXT_PHONES: Final = 40
VERSION: Final = ModelVersion.V2_PRO
_SEED: Final = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFiles:
    """Both files' configs and tensors, named as in the files; float32 values that float16 can hold."""

    t2s_config: Mapping[str, Any]
    t2s: Mapping[str, NDArray[Any]]
    sovits_config: Mapping[str, Any]
    sovits: Mapping[str, NDArray[Any]]


@cache
def weight_files() -> WeightFiles:
    """A v2Pro voice that never stops by itself, so that every run says as many tokens as it is asked for."""
    t2s, sovits = table("t2s"), table("sovits-v2pro")
    return WeightFiles(
        t2s_config=t2s.config,
        t2s=dict(DrawnTensors(t2s.shapes, seed=_SEED, eos_gain=0.0)),
        sovits_config=sovits.config,
        sovits=dict(DrawnTensors(sovits.shapes, seed=_SEED)),
    )


def t2s_part(dtype: T2SDtype) -> PreparedPart:
    """The T2S half as `prepare` would lay it out."""
    files = weight_files()
    config = T2SConfig.read(files.t2s_config, "t2s")
    return gpt_part(T2SCheckpoint(config=config, info="", tensors=files.t2s), dtype=dtype)


@cache
def parts(dtype: T2SDtype = T2SDtype.FP32, decoder: DecoderDtype = DecoderDtype.FP32) -> dict[str, PreparedPart]:
    """All three parts."""
    files = weight_files()
    config = SovitsConfig.read(files.sovits_config, VERSION, "sovits")
    checkpoint = SovitsCheckpoint(version=VERSION, config=config, info="", tensors=files.sovits)
    return {
        GPT: t2s_part(dtype),
        SOVITS: sovits_part(checkpoint, dtype=decoder),
        REFERENCE: reference_part(reference()),
    }


def reference() -> Reference:
    """A recording of 3 s that was measured already."""
    draw = torch.Generator().manual_seed(_SEED)
    ids = tuple(torch.randint(1, 700, (REFERENCE_PHONES,), generator=draw).tolist())
    return Reference(
        spectrogram=torch.rand(1, 1025, 150, generator=draw),
        speaker=torch.randn(1, 20_480, generator=draw),
        prompt=torch.randint(0, 1024, (PROMPT_TOKENS,), generator=draw),
        spoken=Spoken(phones=("P",) * len(ids), ids=ids),
    )


def utterance(seed: int) -> Utterance:
    """A text of some seconds; all texts are of one length, which is what suits the peer best."""
    draw = torch.Generator().manual_seed(seed)
    known = reference()
    text = torch.randint(1, 700, (TEXT_PHONES,), generator=draw)
    phones = torch.cat((torch.tensor(known.spoken.ids), text))
    return Utterance(phones=phones, bert=torch.zeros(1024, len(phones)), prompt=known.prompt)


class PhonesGiven:
    """A front end for texts that are phone ids already: what a front end costs is not measured here."""

    def read(self, text: str, language: str, *, cut: str = "cut5") -> list[Spoken]:
        """One piece."""
        return [self.read_reference(text, language)]

    def read_reference(self, text: str, language: str) -> Spoken:
        """The same."""
        ids = tuple(map(int, text.split()))
        return Spoken(phones=tuple(map(str, ids)), ids=ids)


def text(seed: int) -> str:
    """A text for `PhonesGiven`."""
    return " ".join(map(str, np.random.default_rng(seed).integers(1, 700, size=TEXT_PHONES)))
