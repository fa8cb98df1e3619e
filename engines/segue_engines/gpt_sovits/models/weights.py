"""The weight files of the shared models, in either container, held against the shapes that their configs imply.

Separate from the voices' checkpoints: these are plain state dicts of other people's models, with names that changed
over the years, and with heads that nobody here needs. What is not asked for is passed over unread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from segue.containers import TensorInfo, open_safetensors, open_torch_file
from segue.errors import ShapeMismatch, WeightsError
from segue_engines.gpt_sovits.formats import Limits
from segue_engines.gpt_sovits.models.shapes import Shape

DTYPES: Final = ("float16", "float32", "bfloat16")

_OLD_ENDINGS: Final = (
    (".LayerNorm.gamma", ".LayerNorm.weight"),
    (".LayerNorm.beta", ".LayerNorm.bias"),
    (".parametrizations.weight.original0", ".weight_g"),
    (".parametrizations.weight.original1", ".weight_v"),
)
"""What files call some tensors that were converted from TensorFlow, or written by a torch that norms weights anew."""


class _Opened(Protocol):
    """An open container."""

    @property
    def source(self) -> str: ...
    @property
    def tensors(self) -> Mapping[str, TensorInfo]: ...
    def read(self, name: str) -> NDArray[Any]: ...


class ModelTensors(Mapping[str, NDArray[Any]]):
    """The tensors of an open file that were asked for; each access reads one anew.

    Arrays come C-contiguous in the type they are stored in (bfloat16 widened to float32) and belong to the caller; one
    with a NaN or an infinity raises `WeightsError`.
    """

    def __init__(self, file: _Opened, names: Mapping[str, str]) -> None:
        self._file = file
        self._names = names

    @property
    def file(self) -> str:
        """Its name, for errors."""
        return self._file.source

    @override
    def __getitem__(self, name: str) -> NDArray[Any]:
        array = self._file.read(self._names[name])
        if not np.isfinite(array).all():
            raise WeightsError(f"{self.file}: tensor {name!r} holds numbers that are NaN or infinite: it is damaged")
        return array

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    @override
    def __len__(self) -> int:
        return len(self._names)


@contextmanager
def open_model(
    path: Path, shapes: Mapping[str, Shape], *, prefix: str = "", limits: Limits | None = None
) -> Iterator[ModelTensors]:
    """Open a weight file and check the tensors of `shapes` in it; they can be read until it is left.

    Parameters
    ----------
    path
        `*.safetensors`, or a file of `torch.save`.
    prefix
        What stands before all names in the file of a model with a head (`bert.`); it may be absent.

    Raises
    ------
    ShapeMismatch
        A tensor is missing, or of another shape or type.
    UnsafePickle
        It asks for anything but tensors and plain data.
    WeightsError
        No such file, cut, corrupt or too large.
    """
    with _opened(path, limits or Limits()) as file:
        names = {_canonical(name, prefix): name for name in file.tensors}
        for name, shape in shapes.items():
            _check(file, name, names.get(name), shape)
        yield ModelTensors(file, {name: names[name] for name in shapes})


@contextmanager
def _opened(path: Path, limits: Limits) -> Iterator[_Opened]:
    open_file = open_safetensors if path.suffix == ".safetensors" else open_torch_file
    with open_file(path, max_tensor_bytes=limits.max_tensor_bytes, max_total_bytes=limits.max_total_bytes) as file:
        yield file


def _canonical(name: str, prefix: str) -> str:
    name = name.removeprefix(prefix)
    for old, new in _OLD_ENDINGS:
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def _check(file: _Opened, name: str, stored: str | None, shape: Shape) -> None:
    if stored is None:
        raise ShapeMismatch(f"{file.source}: tensor {name!r} is missing; expected shape {shape}")
    info = file.tensors[stored]
    if info.shape != shape:
        raise ShapeMismatch(f"{file.source}: tensor {stored!r} has shape {info.shape}; expected {shape}")
    if info.dtype not in DTYPES:
        raise ShapeMismatch(f"{file.source}: tensor {stored!r} is {info.dtype}; expected {', '.join(DTYPES)}")
