"""A torch weight file as arrays and plain data, without torch.

Works in four steps, so that nothing is allocated before all of it was checked: the zip directory against the file
(`zip_directory`), the pickle into data with *descriptions* of tensors in it (`pickle_machine`, `tensor_specs`), every
description against its storage and the limits (here), and only then the bytes. Whoever expects certain tensors opens
the file, compares, and then reads; `load_torch_file` reads all there is.

Source: the layout of `torch.save` (torch/serialization.py), zip format only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from segue.containers.pickle_machine import Global, read_pickle
from segue.containers.tensor_specs import Storage, TensorSpec, TorchVocabulary
from segue.containers.zip_directory import TorchZip, open_torch_zip
from segue.errors import UnsafePickle, WeightsError

MAX_PICKLE_BYTES: Final = 32 << 20
MAX_DEPTH: Final = 64
MAX_VALUES: Final = 200_000
MAX_TENSORS: Final = 65_536
MAX_PATH: Final = 1024

GPT_SOVITS_CONFIG: Final = ("utils", "HParams")
"""The class of the config object in GPT-SoVITS `.pth` files: attributes only, read as a dict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedFile:
    """What was in a weight file.

    Attributes
    ----------
    tensors
        Path to C-contiguous, little-endian array, owned by the caller. The path joins dict keys and list positions
        with `/`: a plain state dict gives its own names, GPT-SoVITS `weight/enc_p.text_embedding.weight`.
        bfloat16, which numpy lacks, is widened to float32 (exact).
    data
        The whole file as dicts, lists, tuples, numbers and strings, with the same arrays in place; objects of
        data-only classes are dicts of their attributes.
    marker
        First two bytes of the file: `b"PK"`, or a version marker that was allowed.
    """

    tensors: dict[str, NDArray[Any]]
    data: Any
    marker: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """A tensor that lies inside the file and within the limits, and was not read yet.

    Attributes
    ----------
    dtype
        As stored: a numpy name, or `bfloat16`.
    """

    shape: tuple[int, ...]
    dtype: str


class TorchFile:
    """An open weight file whose tensors were checked, and are read one by one when asked for.

    Attributes
    ----------
    tensors
        Path (see `LoadedFile.tensors`) to what is known of the tensor.
    data
        As `LoadedFile.data`, with `TensorInfo` in place of arrays.
    marker
        First two bytes of the file.
    source
        The file's name, for errors.
    """

    def __init__(self, archive: TorchZip, data: Any, specs: Mapping[str, TensorSpec]) -> None:
        self._archive = archive
        self._specs = specs
        self._big_endian = _is_big_endian(archive)
        self._raw = data
        infos = {id(spec): TensorInfo(shape=spec.shape, dtype=_dtype_name(spec)) for spec in specs.values()}
        self.source = archive.source
        self.marker = archive.marker
        self.tensors: Mapping[str, TensorInfo] = {name: infos[id(spec)] for name, spec in specs.items()}
        self.data: Any = _with_leaves(data, infos)

    def read(self, name: str) -> NDArray[Any]:
        """Read one tensor: C-contiguous, little endian, owned by the caller; bfloat16 comes as float32.

        Raises
        ------
        WeightsError
            The bytes cannot be read, or do not match their CRC.
        KeyError
            No such tensor.
        """
        with _named(self.source):
            return _tensor(self._specs[name], self._archive, self._big_endian)

    def load(self) -> LoadedFile:
        """Read all of it."""
        arrays: dict[int, NDArray[Any]] = {}
        for name, spec in self._specs.items():
            if id(spec) not in arrays:
                arrays[id(spec)] = self.read(name)
        tensors = {name: arrays[id(spec)] for name, spec in self._specs.items()}
        return LoadedFile(tensors=tensors, data=_with_leaves(self._raw, arrays), marker=self.marker)


@contextmanager
def open_torch_file(
    path: Path,
    *,
    max_tensor_bytes: int = 2 << 30,
    max_total_bytes: int = 8 << 30,
    markers: Collection[bytes] = (b"PK",),
    data_classes: Collection[tuple[str, str]] = (GPT_SOVITS_CONFIG,),
) -> Iterator[TorchFile]:
    """Open a file that `torch.save` wrote (zip format) and check it, reading no tensor and running nothing.

    Parameters
    ----------
    path
        A regular file.
    max_tensor_bytes, max_total_bytes
        Limits on what one tensor and all of them may take in memory, checked before any is read.
    markers
        Allowed first two bytes; GPT-SoVITS Pro files carry `b"05"` or `b"06"` instead of `b"PK"`.
    data_classes
        (module, name) of classes whose objects are turned into dicts of their attributes.

    Raises
    ------
    UnsafePickle
        The pickle asks for anything but tensors, plain containers and `data_classes`.
    WeightsError
        Not such a file, cut, corrupt, or larger than the limits; the message names file, tensor and expectation.
    """
    source = path.name
    with _named(source):
        file = path.open("rb")
    with file:
        with _named(source):
            archive = open_torch_zip(file, source=source, markers=markers)
            raw = _read_description(archive, frozenset(data_classes))
            specs = _check(raw, archive, max_tensor_bytes=max_tensor_bytes, max_total_bytes=max_total_bytes)
            opened = TorchFile(archive, raw, specs)
        yield opened


def load_torch_file(
    path: Path,
    *,
    max_tensor_bytes: int = 2 << 30,
    max_total_bytes: int = 8 << 30,
    markers: Collection[bytes] = (b"PK",),
    data_classes: Collection[tuple[str, str]] = (GPT_SOVITS_CONFIG,),
) -> LoadedFile:
    """Read all of a file that `torch.save` wrote, running nothing of it. Parameters and errors: `open_torch_file`."""
    with open_torch_file(
        path,
        max_tensor_bytes=max_tensor_bytes,
        max_total_bytes=max_total_bytes,
        markers=markers,
        data_classes=data_classes,
    ) as opened:
        return opened.load()


@contextmanager
def _named(source: str) -> Iterator[None]:
    """Turn what the operating system says into an error that names the file."""
    try:
        yield
    except OSError as error:
        raise WeightsError(f"{source}: cannot be read: {error.strerror or error}") from error


def _read_description(archive: TorchZip, data_classes: Collection[tuple[str, str]]) -> Any:
    entry = archive.entries.get("data.pkl")
    if entry is not None and entry.size > MAX_PICKLE_BYTES:
        raise WeightsError(f"{archive.source}: a pickle of {entry.size} bytes; at most {MAX_PICKLE_BYTES} are read")
    vocabulary = TorchVocabulary(archive.source, data_classes)
    return read_pickle(bytes(archive.read("data.pkl")), vocabulary, source=archive.source)


def _walk(data: Any, source: str) -> Iterator[tuple[str, Any]]:
    """Yield (path, leaf) of the data *as a tree*: cycles and shared parts that would unfold without end are refused."""
    pending: list[Iterator[tuple[str, Any]]] = [iter([("", data)])]
    seen = 0
    while pending:
        path, value = next(pending[-1], (None, None))
        if path is None:
            pending.pop()
            continue
        seen += 1
        if len(pending) > MAX_DEPTH or len(path) > MAX_PATH:
            raise UnsafePickle(f"{source}: nested deeper than {MAX_DEPTH}, or names too long, at {path[:80]!r}")
        if seen > MAX_VALUES:
            raise UnsafePickle(f"{source}: it unfolds to more than {MAX_VALUES} values")
        children = _children(value, path)
        if children is None:
            yield path, value
        else:
            pending.append(children)


def _children(value: Any, path: str) -> Iterator[tuple[str, Any]] | None:
    prefix = f"{path}/" if path else ""
    if isinstance(value, dict):
        return ((f"{prefix}{key}", child) for key, child in value.items())
    if isinstance(value, list | tuple):
        return ((f"{prefix}{index}", child) for index, child in enumerate(value))
    return None


def _check(data: Any, archive: TorchZip, *, max_tensor_bytes: int, max_total_bytes: int) -> dict[str, TensorSpec]:
    found: dict[str, TensorSpec] = {}
    total = 0
    for path, leaf in _walk(data, archive.source):
        if isinstance(leaf, Global | Storage):
            raise UnsafePickle(f"{archive.source}: {path!r} is a bare {type(leaf).__name__.lower()}")
        if not isinstance(leaf, TensorSpec):
            continue
        _check_tensor(leaf, archive, f"{archive.source}: tensor {path!r}", max_tensor_bytes)
        total += max(leaf.memory_bytes, leaf.span * leaf.storage.item_bytes)
        if total > max_total_bytes:
            raise WeightsError(f"{archive.source}: its tensors take more than the limit of {max_total_bytes} bytes")
        if path in found:
            raise WeightsError(f"{archive.source}: two tensors have the same name {path!r}")
        found[path] = leaf
        if len(found) > MAX_TENSORS:
            raise WeightsError(f"{archive.source}: more than {MAX_TENSORS} tensors")
    return found


def _check_tensor(spec: TensorSpec, archive: TorchZip, where: str, max_tensor_bytes: int) -> None:
    if spec.memory_bytes > max_tensor_bytes:
        raise WeightsError(f"{where} {spec.shape} takes {spec.memory_bytes} bytes; the limit is {max_tensor_bytes}")
    entry = archive.entries.get(f"data/{spec.storage.key}")
    if entry is None:
        raise WeightsError(f"{where} lies in storage {spec.storage.key[:40]!r}, which the file does not hold")
    expected = spec.storage.count * spec.storage.item_bytes
    if entry.size != expected:
        raise WeightsError(f"{where}: its storage holds {entry.size} bytes where {expected} are declared")
    if spec.end > spec.storage.count:
        raise WeightsError(f"{where} {spec.shape} reaches element {spec.end} of a storage of {spec.storage.count}")


def _is_big_endian(archive: TorchZip) -> bool:
    if "byteorder" not in archive.entries:
        return False
    if archive.entries["byteorder"].size > 16:
        raise WeightsError(f"{archive.source}: its byteorder record is too long")
    order = bytes(archive.read("byteorder"))
    if order not in (b"little", b"big"):
        raise WeightsError(f"{archive.source}: byte order {order!r}; 'little' and 'big' are known")
    return order == b"big"


def _dtype_name(spec: TensorSpec) -> str:
    return "bfloat16" if spec.storage.dtype == "bfloat16" else np.dtype(spec.storage.dtype).name


def _tensor(spec: TensorSpec, archive: TorchZip, big_endian: bool) -> NDArray[Any]:
    """Read what lies between a tensor's first and last number, and no more of its storage."""
    item, entry = spec.storage.item_bytes, f"data/{spec.storage.key}"
    if spec.span == spec.storage.count:
        data = archive.read(entry)
    else:
        data = archive.read_part(entry, spec.offset * item, spec.span * item)
    values = _numbers(data, spec.storage.dtype, big_endian)
    if spec.contiguous:
        return values.reshape(spec.shape)
    strides = tuple(step * values.itemsize for step in spec.stride)
    return np.ascontiguousarray(np.lib.stride_tricks.as_strided(values, spec.shape, strides, writeable=False))


def _numbers(data: bytearray, dtype: str, big_endian: bool) -> NDArray[Any]:
    if dtype == "bfloat16":
        halves = np.frombuffer(data, dtype=">u2" if big_endian else "<u2").astype("<u4")
        halves <<= 16
        return halves.view("<f4")
    if dtype == "|b1":
        return np.not_equal(np.frombuffer(data, dtype=np.uint8), 0)
    values: NDArray[Any] = np.frombuffer(data, dtype=np.dtype(dtype))
    return values.byteswap() if big_endian else values


def _with_leaves(value: Any, leaves: Mapping[int, Any]) -> Any:
    """Put something in the place of each description. Recursion is bounded: `_walk` has refused anything deep."""
    if isinstance(value, TensorSpec):
        return leaves[id(value)]
    if isinstance(value, dict):
        return {key: _with_leaves(child, leaves) for key, child in value.items()}
    if isinstance(value, list):
        return [_with_leaves(child, leaves) for child in value]
    if isinstance(value, tuple):
        return tuple(_with_leaves(child, leaves) for child in value)
    return value
