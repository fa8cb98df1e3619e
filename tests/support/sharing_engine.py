"""The tiny engine with models that its voices share: `ear`, which no voice can be prepared without, and `eye`.

A model is a file `ear/values.npy`, or for `eye` either of two; its first value is what it says, and is kept in the meta
of each voice that was prepared with it. `prepared.log` counts how often they were prepared.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tests.support.tiny_engine import TinyEngine
from typing_extensions import override

from segue.engine import (
    Device,
    PreparedModels,
    PreparedPart,
    PreparedVoice,
    PrepareOptions,
    SharesModels,
    Synthesizer,
    VoiceView,
)
from segue.errors import WeightsError

PLACE = "tests.support.sharing_engine:SharingEngine"
FILES = {"ear": ("ear/values.npy",), "eye": ("eye/left.npy", "eye/right.npy")}


class SharingEngine(TinyEngine, SharesModels):
    """See the module."""

    @property
    @override
    def name(self) -> str:
        return "sharing"

    @property
    @override
    def model_files(self) -> Mapping[str, tuple[str, ...]]:
        return FILES

    @override
    def prepare_models(self, root: Path, options: PrepareOptions) -> PreparedModels:
        with (root / "prepared.log").open("a") as log:
            log.write(f"{os.getpid()}\n")
        parts, absent = {}, {}
        for model, names in FILES.items():
            path = next((root / name for name in names if (root / name).exists()), None)
            if path is None:
                absent[model] = f"{' or '.join(names)} is not there; without it: no {model}"
                continue
            try:
                values = np.load(path, allow_pickle=False)
            except ValueError as error:
                raise WeightsError(f"{names[0]}: tensor 'values': {error}") from error
            parts[model] = PreparedPart(tensors={"values": values.astype(np.float32) * options.options.get("gain", 1)})
        return PreparedModels(parts=parts, absent=absent)

    @override
    def prepare(self, files: Mapping[str, Path], options: PrepareOptions) -> PreparedVoice:
        if "ear" not in options.shared:
            raise WeightsError("a voice is prepared with the shared model 'ear', which is not there")
        made = super().prepare(files, options)
        heard = float(options.shared["ear"].tensors["values"][0])
        tone = made.parts["tone"]
        return PreparedVoice(parts={"tone": PreparedPart(tensors=tone.tensors, meta={**tone.meta, "heard": heard})})

    @override
    def build(self, voice: VoiceView, device: Device) -> Synthesizer:
        heard = float(voice.shared["ear"].tensors["values"][0])
        if heard != voice.parts["tone"].meta["heard"]:
            raise WeightsError(f"prepared with another ear ({voice.parts['tone'].meta['heard']}) than this ({heard})")
        return super().build(voice, device)


class SecretiveEngine(SharingEngine):
    """Reads files that it did not name, and calls its part what only shared models are called."""

    @property
    @override
    def model_files(self) -> Mapping[str, tuple[str, ...]]:
        return {"ear": ("elsewhere.npy",)}

    @override
    def prepare(self, files: Mapping[str, Path], options: PrepareOptions) -> PreparedVoice:
        return PreparedVoice(parts={"shared.ear": PreparedPart(tensors={"values": np.ones(1, np.float32)})})


def write_model(root: Path, name: str, value: float, *, values: int = 100_000) -> None:
    """Put a model's file into its place, in one step."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(".new.npy")
    np.save(temporary, np.full((values,), value, np.float32))
    temporary.replace(path)
