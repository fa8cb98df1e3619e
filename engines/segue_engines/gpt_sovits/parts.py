"""What `prepare` lays into an arena and `build` sees again: the parts `gpt`, `sovits` and `reference`.

Separate from the engine because two processes must agree on it: names, dtypes and the plain data beside the tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segue.engine import PartView, PreparedPart
from segue_engines.gpt_sovits.formats import (
    ModelVersion,
    SovitsCheckpoint,
    SovitsConfig,
    T2SCheckpoint,
    T2SConfig,
    fold_weight_norm,
)
from segue_engines.gpt_sovits.sovits import packing
from segue_engines.gpt_sovits.sovits.network import SovitsNetwork
from segue_engines.gpt_sovits.sovits.packing import DecoderDtype
from segue_engines.gpt_sovits.spoken import Spoken
from segue_engines.gpt_sovits.t2s.network import T2SNetwork
from segue_engines.gpt_sovits.t2s.packing import T2SDtype, packed
from segue_engines.gpt_sovits.tensors import borrow_all

GPT: Final = "gpt"
SOVITS: Final = "sovits"
REFERENCE: Final = "reference"


def gpt_part(checkpoint: T2SCheckpoint, *, dtype: T2SDtype) -> PreparedPart:
    """The T2S half, its large matrices in `dtype`, the rest in float32."""
    return PreparedPart(
        tensors=packed(checkpoint.tensors, dtype=dtype, file=checkpoint.file),
        meta={"config": asdict(checkpoint.config), "dtype": dtype.value, "info": checkpoint.info},
    )


def sovits_part(checkpoint: SovitsCheckpoint, *, dtype: DecoderDtype) -> PreparedPart:
    """The SoVITS half, weight norm folded, its generator in `dtype`, the rest in float32."""
    return PreparedPart(
        tensors=packing.packed(
            fold_weight_norm(checkpoint.tensors, file=checkpoint.file), dtype=dtype, file=checkpoint.file
        ),
        meta={"config": asdict(checkpoint.config), "dtype": dtype.value, "info": checkpoint.info},
    )


def t2s_network(part: PartView) -> T2SNetwork:
    """The network of a `gpt` part, on its memory."""
    return T2SNetwork(T2SConfig(**part.meta["config"]), borrow_all(part.tensors))


def sovits_network(part: PartView) -> SovitsNetwork:
    """The network of a `sovits` part, on its memory. JSON knows neither tuples nor enums."""
    values: dict[str, Any] = {key: _as_tuple(value) for key, value in part.meta["config"].items()}
    config = SovitsConfig(**values | {"version": ModelVersion(values["version"])})
    return SovitsNetwork(config, packing.unpacked(borrow_all(part.tensors)))


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list | tuple) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What is known of a voice's reference recording.

    Attributes
    ----------
    spectrogram
        `(1, 1025, frames) float32`.
    speaker
        `(1, 20480) float32` of a Pro voice, else None.
    prompt
        `(n,) int64`: its semantic tokens; empty where they are not known. Then `spoken` is not used either.
    spoken
        What is said in it.
    """

    spectrogram: Tensor
    speaker: Tensor | None
    prompt: Tensor
    spoken: Spoken


def reference_part(reference: Reference) -> PreparedPart:
    """Lay out a reference."""
    tensors: dict[str, NDArray[Any]] = {
        "spectrogram": reference.spectrogram.numpy(),
        "prompt": reference.prompt.numpy(),
        "phones": np.array(reference.spoken.ids, np.int64),
    }
    if reference.speaker is not None:
        tensors["speaker"] = reference.speaker.numpy()
    if reference.spoken.bert is not None:
        tensors["bert"] = reference.spoken.bert
    return PreparedPart(
        tensors={name: np.ascontiguousarray(array) for name, array in tensors.items()},
        meta={"phones": list(reference.spoken.phones)},
    )


def reference_of(part: PartView) -> Reference:
    """See a reference again. Its small tensors are copied: rows may outlive the arena."""
    tensors: Mapping[str, Tensor] = {name: tensor.clone() for name, tensor in borrow_all(part.tensors).items()}
    bert = tensors.get("bert")
    spoken = Spoken(
        phones=tuple(part.meta["phones"]),
        ids=tuple(tensors["phones"].tolist()),
        bert=None if bert is None else bert.numpy(),
    )
    prompt = tensors["prompt"].to(torch.int64)
    return Reference(spectrogram=tensors["spectrogram"], speaker=tensors.get("speaker"), prompt=prompt, spoken=spoken)
