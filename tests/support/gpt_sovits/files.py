"""GPT-SoVITS weight files as its trainer writes them, of real or reduced shapes, with drawn weights.

Separate from the weights so that a test can also write files that are wrong: any part can be replaced.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray
from tests.support.gpt_sovits.torch_writer import HParams, Tensor, write_torch_file
from tests.support.gpt_sovits.weights import DrawnTensors

from segue_engines.gpt_sovits.formats import ModelVersion, SovitsConfig, T2SConfig, sovits_shapes, t2s_shapes

TABLES: Final = Path(__file__).parents[2] / "golden" / "gpt_sovits" / "tables"
"""Names and shapes of all tensors of real files and of the reduced ones that the golden vectors were made with."""

MARKERS: Final = {"v2": b"PK", "v2Pro": b"05", "v2ProPlus": b"06"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What is in a file: the config as stored, and the shapes of its tensors."""

    config: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]


def table(name: str) -> Table:
    """A table by the name of its file: `t2s`, `sovits-v2pro`, `t2s-reduced-a`, …"""
    content = json.loads((TABLES / f"{name}.json").read_text(encoding="utf-8"))
    shapes = {key: tuple(shape) for key, shape in content["tensors"].items()}
    return Table(config=content["config"], shapes=shapes)


@dataclass(slots=True, kw_only=True)
class WeightFile:
    """A file about to be written; change any of it first.

    Attributes
    ----------
    tensors
        Name to `Tensor`.
    data
        All beside `weight`.
    """

    tensors: dict[str, Tensor]
    data: dict[str, Any] = field(default_factory=dict)
    marker: bytes = b"PK"

    @property
    def model(self) -> dict[str, Any]:
        """The `model` section of the config."""
        section: dict[str, Any] = self.data["config"]["model"]
        return section

    def write(self, path: Path) -> Path:
        """Write it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_torch_file(path, {"weight": self.tensors, **self.data}, marker=self.marker)


def t2s_file(name: str = "t2s", *, seed: int = 1, eos_gain: float = 1.0, dtype: str = "float16") -> WeightFile:
    """A `.ckpt` with the config and shapes of a table."""
    from_table = table(name)
    drawn = DrawnTensors(from_table.shapes, seed=seed, eos_gain=eos_gain)
    return WeightFile(tensors=_tensors(drawn, dtype), data={"config": deepcopy(from_table.config), "info": "GPT-e15"})


def sovits_file(name: str = "sovits-v2pro", *, seed: int = 1, dtype: str = "float16") -> WeightFile:
    """A `.pth` with the config and shapes of a table; config as an object and marker as the trainer has them."""
    from_table = table(name)
    config = as_hparams(from_table.config)
    return WeightFile(
        tensors=_tensors(DrawnTensors(from_table.shapes, seed=seed), dtype),
        data={"config": config, "info": "8epoch_200iteration"},
        marker=MARKERS[config["model"]["version"]],
    )


def small_t2s_file(*, seed: int = 1, dtype: str = "float16") -> WeightFile:
    """The smallest `.ckpt` worth the name: one layer, 16 wide, 70 KB."""
    config = deepcopy(table("t2s-reduced-b").config)
    config["model"] |= {"hidden_dim": 16, "embedding_dim": 16, "head": 2, "n_layer": 1}
    shapes = t2s_shapes(T2SConfig.read(config, "small"))
    return WeightFile(
        tensors=_tensors(DrawnTensors(shapes, seed=seed), dtype), data={"config": config, "info": "GPT-e15"}
    )


def small_sovits_file(version: str = "v2Pro", *, seed: int = 1, dtype: str = "float16") -> WeightFile:
    """A `.pth` as small as its fixed parts allow: 9 MB for the Pro versions, 16 for v2."""
    config = deepcopy(table(f"sovits-{version.lower()}-reduced").config)
    config["model"] |= {"filter_channels": 8, "inter_channels": 4, "upsample_initial_channel": 32}
    if version != "v2":
        config["model"]["gin_channels"] = 8
    shapes = sovits_shapes(SovitsConfig.read(config, ModelVersion(version), "small"))
    shapes["quantizer.vq.layers.0._codebook.cluster_size"] = (1024,)
    return WeightFile(
        tensors=_tensors(_kept(tuple(shapes.items()), seed), dtype),
        data={"config": as_hparams(config), "info": "8epoch_200iteration"},
        marker=MARKERS[version],
    )


@lru_cache(maxsize=4)
def _kept(shapes: tuple[tuple[str, tuple[int, ...]], ...], seed: int) -> Mapping[str, NDArray[Any]]:
    """Drawn once for the many tests that change one thing of a small file."""
    return dict(DrawnTensors(dict(shapes), seed=seed))


def as_hparams(value: Any) -> Any:
    """Turn each dict of a config into an object, as the original does."""
    if isinstance(value, Mapping):
        return HParams({key: as_hparams(each) for key, each in value.items()})
    return deepcopy(value)


def _tensors(drawn: Mapping[str, NDArray[Any]], dtype: str) -> dict[str, Tensor]:
    shapes = drawn.shapes if isinstance(drawn, DrawnTensors) else {name: drawn[name].shape for name in drawn}
    return {name: Tensor(tuple(shape), dtype, partial(drawn.__getitem__, name)) for name, shape in shapes.items()}
