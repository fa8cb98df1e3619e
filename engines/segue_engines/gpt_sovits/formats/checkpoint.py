"""Opening the two files: version, config and every tensor's shape and type are checked, then tensors are read.

Separate from the container reader because that one knows no names: here a file is held against what its own config
promises, before memory is taken for any tensor. Tensors are read one by one when they are asked for, so that preparing
a voice of 290 MB takes the memory of what it makes and of one tensor, not of the files as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from segue.containers import TensorInfo, TorchFile, open_torch_file
from segue.errors import ShapeMismatch, WeightsError
from segue_engines.gpt_sovits.formats.config import SovitsConfig, T2SConfig
from segue_engines.gpt_sovits.formats.shapes import Shape, is_ignored, sovits_shapes, t2s_shapes
from segue_engines.gpt_sovits.formats.versions import (
    HEAD_BYTES,
    MARKERS,
    PLAIN_MARKER,
    ModelVersion,
    kind_by_head,
    kind_of,
    refuse_unserved,
)

DTYPES: Final = ("float16", "float32", "bfloat16")
_WEIGHTS: Final = "weight/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one tensor and all of them may take in memory; files that would take more are refused unread."""

    max_tensor_bytes: int = 1 << 30
    max_total_bytes: int = 4 << 30


class StoredTensors(Mapping[str, NDArray[Any]]):
    """Tensors of an open file, in the file's order; each access reads one anew.

    Arrays come C-contiguous in the type they are stored in (float16 or float32; bfloat16 is widened to float32) and
    belong to the caller.
    """

    def __init__(self, file: TorchFile, names: Mapping[str, TensorInfo]) -> None:
        self._file = file
        self._names = names

    @override
    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._names:
            raise KeyError(name)
        array = self._file.read(_WEIGHTS + name)
        if not np.isfinite(array).all():
            count = int(array.size - np.count_nonzero(np.isfinite(array)))
            raise WeightsError(
                f"{self._file.source}: tensor {name!r} holds {count} numbers that are NaN or infinite: the training "
                f"diverged, or the file is damaged; use an earlier epoch"
            )
        return array

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    @override
    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True, slots=True, kw_only=True)
class T2SCheckpoint:
    """A T2S file.

    Attributes
    ----------
    file
        Its name, for errors.
    info
        What the trainer noted, such as `GPT-e15`.
    tensors
        Exactly the names and shapes of `t2s_shapes(config)`; float16 or float32. While the file is open they are read
        when asked for; a value that is NaN or infinite raises `WeightsError` then.
    """

    file: str = "weights"
    config: T2SConfig
    info: str
    tensors: Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SovitsCheckpoint:
    """A SoVITS file; attributes as `T2SCheckpoint`, with the names and shapes of `sovits_shapes(config)`."""

    file: str = "weights"
    version: ModelVersion
    config: SovitsConfig
    info: str
    tensors: Mapping[str, NDArray[Any]]


@contextmanager
def open_t2s(path: Path, limits: Limits | None = None) -> Iterator[T2SCheckpoint]:
    """Open a `.ckpt` and check all but the values of its tensors; the tensors can be read until it is left.

    Raises
    ------
    UnsupportedVersion
        A v1 file.
    UnsafePickle
        It asks for anything but tensors and plain data.
    ShapeMismatch
        A tensor is missing, unknown, or of another shape or type than its config implies.
    WeightsError
        No such file, cut, corrupt, too large, the other half of a voice, or a config out of range.
    """
    with _opened(path, limits, markers=(PLAIN_MARKER,)) as file:
        data = _top(file)
        tensors = _weights(file)
        if "enc_p.text_embedding.weight" in tensors:
            raise WeightsError(f"{file.source}: a SoVITS file where the GPT half (.ckpt) is expected: swap the two")
        config = T2SConfig.read(data.get("config"), file.source)
        kept = _check(file.source, tensors, t2s_shapes(config))
        yield T2SCheckpoint(file=file.source, config=config, info=_info(data), tensors=StoredTensors(file, kept))


@contextmanager
def open_sovits(path: Path, limits: Limits | None = None) -> Iterator[SovitsCheckpoint]:
    """Open a `.pth` and check all but the values of its tensors; the tensors can be read until it is left.

    Raises
    ------
    UnsupportedVersion
        v1, v3, v4 or a LoRA; the message says what to do.
    UnsafePickle, ShapeMismatch, WeightsError
        As `open_t2s`.
    """
    head = _head(path)
    said = kind_by_head(head, path.name)
    if said is not None and said.is_other:
        refuse_unserved(said, path.name)  # before it is opened: it may hold objects that are not read here
    with _opened(path, limits, markers=(PLAIN_MARKER, *MARKERS)) as file:
        data = _top(file)
        tensors = _weights(file)
        if any(name.startswith("model.h.layers.") for name in tensors):
            raise WeightsError(f"{file.source}: a GPT file where the SoVITS half (.pth) is expected: swap the two")
        kind = kind_of(head, file)
        refuse_unserved(kind, file.source)
        config = SovitsConfig.read(data.get("config"), kind.version, file.source)
        used = {name: info for name, info in tensors.items() if not is_ignored(name)}
        kept = _check(file.source, used, sovits_shapes(config))
        yield SovitsCheckpoint(
            file=file.source, version=kind.version, config=config, info=_info(data), tensors=StoredTensors(file, kept)
        )


def read_t2s(path: Path, limits: Limits | None = None) -> T2SCheckpoint:
    """Read all of a `.ckpt`; errors as `open_t2s`."""
    with open_t2s(path, limits) as checkpoint:
        return replace(checkpoint, tensors=dict(checkpoint.tensors))


def read_sovits(path: Path, limits: Limits | None = None) -> SovitsCheckpoint:
    """Read all of a `.pth`; errors as `open_sovits`."""
    with open_sovits(path, limits) as checkpoint:
        return replace(checkpoint, tensors=dict(checkpoint.tensors))


@contextmanager
def _opened(path: Path, limits: Limits | None, *, markers: tuple[bytes, ...]) -> Iterator[TorchFile]:
    allowed = limits or Limits()
    with open_torch_file(
        path,
        max_tensor_bytes=allowed.max_tensor_bytes,
        max_total_bytes=allowed.max_total_bytes,
        markers=markers,
    ) as file:
        yield file


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        raise WeightsError(f"{path.name}: cannot be read: {error.strerror or error}") from error


def _top(file: TorchFile) -> Mapping[str, Any]:
    data = file.data
    if not isinstance(data, Mapping) or not isinstance(data.get("weight"), Mapping) or "config" not in data:
        raise WeightsError(
            f"{file.source}: no `weight` and `config` in it; expected a file of GPT_weights* or SoVITS_weights*, not a "
            f"training checkpoint of logs/"
        )
    return data


def _info(data: Mapping[str, Any]) -> str:
    said = data.get("info")
    return said[:200] if isinstance(said, str) else ""


def _weights(file: TorchFile) -> dict[str, TensorInfo]:
    return {name.removeprefix(_WEIGHTS): info for name, info in file.tensors.items() if name.startswith(_WEIGHTS)}


def _check(file: str, tensors: Mapping[str, TensorInfo], shapes: Mapping[str, Shape]) -> dict[str, TensorInfo]:
    """Hold the tensors against what is expected; returns them in the expected order."""
    if missing := [name for name in shapes if name not in tensors]:
        raise ShapeMismatch(
            f"{file}: tensor {missing[0]!r} is missing ({len(missing)} in all); expected shape {shapes[missing[0]]}"
        )
    if unknown := [name for name in tensors if name not in shapes]:
        raise ShapeMismatch(
            f"{file}: unknown tensor {unknown[0][:200]!r} ({len(unknown)} in all); a voice of this config has none such"
        )
    for name, shape in shapes.items():
        info = tensors[name]
        if info.shape != shape:
            raise ShapeMismatch(f"{file}: tensor {name!r} has shape {info.shape}; expected {shape}")
        if info.dtype not in DTYPES:
            raise ShapeMismatch(f"{file}: tensor {name!r} is {info.dtype}; expected {', '.join(DTYPES)}")
    return {name: tensors[name] for name in shapes}
