"""The golden vectors: what the original computed with generated weights, and networks built of the same weights."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tests.support.gpt_sovits.weights import DrawnTensors, checksum
from torch import Tensor

from segue_engines.gpt_sovits.formats import ModelVersion, SovitsConfig, T2SConfig, fold_weight_norm
from segue_engines.gpt_sovits.sovits.network import SovitsNetwork
from segue_engines.gpt_sovits.t2s.network import T2SNetwork

FOLDER = Path(__file__).parents[2] / "golden" / "gpt_sovits"
_TABLES = {
    "t2s-full": "t2s",
    "t2s-reduced-a": "t2s-reduced-a",
    "t2s-reduced-b": "t2s-reduced-b",
    "sovits-v2pro-full": "sovits-v2pro",
    "front": "sv-eres2netv2",
}


@dataclass(frozen=True, slots=True)
class Case:
    """One golden case: what `cases.json` says of it, and its arrays as tensors."""

    name: str
    facts: Mapping[str, Any]
    arrays: Mapping[str, Tensor]

    def __getitem__(self, array: str) -> Tensor:
        return self.arrays[array]

    def weights(self) -> dict[str, NDArray[Any]]:
        """The generated weights of this case, checked against its checksum."""
        table = next((file for start, file in _TABLES.items() if self.name.startswith(start)), self.name)
        made = dict(DrawnTensors(shapes(table), seed=self.facts["seed"], eos_gain=self.facts.get("eos_gain", 1.0)))
        assert checksum(made) == self.facts["weights_checksum"]
        return made


def shapes(table: str) -> dict[str, list[int]]:
    """Tensor names and shapes of a weight file."""
    tensors = json.loads((FOLDER / "tables" / f"{table}.json").read_text(encoding="utf-8"))["tensors"]
    return dict(tensors)


@cache
def facts() -> Mapping[str, Any]:
    """All cases."""
    loaded: dict[str, Any] = json.loads((FOLDER / "cases.json").read_text(encoding="utf-8"))
    return loaded


def named(*kinds: str) -> list[str]:
    """Names of the cases of these kinds."""
    return [name for name, about in facts().items() if about["kind"] in kinds]


def case(name: str) -> Case:
    """Read one case."""
    with np.load(FOLDER / f"{name}.npz") as file:
        return Case(name, facts()[name], {key: torch.from_numpy(file[key]) for key in file.files})


def as_tensors(arrays: Mapping[str, NDArray[Any]] | Iterator[tuple[str, NDArray[Any]]]) -> dict[str, Tensor]:
    """Arrays as tensors that share their memory."""
    return {name: torch.from_numpy(array) for name, array in dict(arrays).items()}


def t2s_config(golden: Case) -> T2SConfig:
    """The sizes of a T2S case."""
    return T2SConfig.read({"model": golden.facts["config"], "data": {"max_sec": 54}}, golden.name)


def t2s_network(golden: Case) -> T2SNetwork:
    """The T2S network of a case."""
    return T2SNetwork(t2s_config(golden), as_tensors(golden.weights()))


def sovits_config(golden: Case) -> SovitsConfig:
    """The sizes of a SoVITS case."""
    data = {"sampling_rate": 32000, "hop_length": 640, "filter_length": 2048, "win_length": 2048}
    model = golden.facts["config"]
    return SovitsConfig.read({"model": model, "data": data}, ModelVersion(model["version"]), golden.name)


def sovits_network(golden: Case) -> SovitsNetwork:
    """The SoVITS network of a case."""
    return SovitsNetwork(sovits_config(golden), as_tensors(fold_weight_norm(golden.weights())))


def largest_difference(found: Tensor, expected: Tensor) -> float:
    """Largest absolute difference of two arrays of one shape."""
    assert found.shape == expected.shape
    return float((found - expected).abs().max())
