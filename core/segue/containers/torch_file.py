"""A torch weight file as arrays and plain data, without torch.

Works in four steps, so that nothing is allocated before all of it was checked: the zip directory against the file
(`zip_directory`), the pickle into data with *descriptions* of tensors in it (`pickle_machine`), every description
against its storage and the limits (here), and only then the bytes.

Source: the layout of `torch.save` (torch/serialization.py; `_rebuild_tensor_v2` in torch/_utils.py), zip format only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from segue.containers.pickle_machine import Global, PlainObject, read_pickle
from segue.containers.zip_directory import TorchZip, open_torch_zip
from segue.errors import UnsafePickle, WeightsError

MAX_PICKLE_BYTES: Final = 32 << 20
MAX_DEPTH: Final = 64
MAX_VALUES: Final = 1_000_000
MAX_PATH: Final = 4096
MAX_DIMENSIONS: Final = 16

GPT_SOVITS_CONFIG: Final = ("utils", "HParams")
"""The class of the config object in GPT-SoVITS `.pth` files: attributes only, read as a dict."""

_STORAGE_DTYPES: Final[Mapping[tuple[str, str], str]] = {
    ("torch", "HalfStorage"): "<f2",
    ("torch", "FloatStorage"): "<f4",
    ("torch", "DoubleStorage"): "<f8",
    ("torch", "LongStorage"): "<i8",
    ("torch", "IntStorage"): "<i4",
    ("torch", "ShortStorage"): "<i2",
    ("torch", "CharStorage"): "<i1",
    ("torch", "ByteStorage"): "<u1",
    ("torch", "BoolStorage"): "|b1",
    ("torch", "BFloat16Storage"): "bfloat16",
    ("torch.storage", "UntypedStorage"): "<u1",
    ("torch", "UntypedStorage"): "<u1",
}
_REBUILD_TENSOR: Final = ("torch._utils", "_rebuild_tensor_v2")
_REBUILD_PARAMETER: Final = ("torch._utils", "_rebuild_parameter")
_ORDERED_DICT: Final = ("collections", "OrderedDict")
_SIZE: Final = ("torch", "Size")


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


def load_torch_file(
    path: Path,
    *,
    max_tensor_bytes: int = 2 << 30,
    max_total_bytes: int = 8 << 30,
    markers: Collection[bytes] = (b"PK",),
    data_classes: Collection[tuple[str, str]] = (GPT_SOVITS_CONFIG,),
) -> LoadedFile:
    """Read a file that `torch.save` wrote (zip format), running nothing of it.

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
    try:
        with path.open("rb") as file:
            archive = open_torch_zip(file, source=source, markers=markers)
            raw = _read_description(archive, frozenset(data_classes))
            specs = _check(raw, archive, max_tensor_bytes=max_tensor_bytes, max_total_bytes=max_total_bytes)
            arrays = _read_tensors(specs, archive)
    except OSError as error:
        raise WeightsError(f"{source}: cannot be read: {error.strerror or error}") from error
    return LoadedFile(
        tensors={name: arrays[id(spec)] for name, spec in specs}, data=_with_arrays(raw, arrays), marker=archive.marker
    )


@dataclass(frozen=True, slots=True)
class _Storage:
    key: str
    dtype: str
    count: int

    @property
    def item_bytes(self) -> int:
        return 2 if self.dtype == "bfloat16" else np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True, eq=False)
class _TensorSpec:
    """A tensor as the pickle describes it: a strided window on a storage, in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def count(self) -> int:
        total = 1
        for extent in self.shape:
            total *= extent
        return total

    @property
    def memory_bytes(self) -> int:
        return self.count * (4 if self.storage.dtype == "bfloat16" else self.storage.item_bytes)

    @property
    def end(self) -> int:
        """One past the last element touched."""
        if not self.count:
            return self.offset
        return self.offset + 1 + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))

    @property
    def contiguous(self) -> bool:
        expected = 1
        for extent, step in zip(reversed(self.shape), reversed(self.stride), strict=True):
            if extent != 1 and step != expected:
                return False
            expected *= extent
        return True


class _TorchVocabulary:
    """The few names a weight file may use, and what they stand for."""

    def __init__(self, source: str, data_classes: Collection[tuple[str, str]]) -> None:
        self._source = source
        self._data_classes = data_classes

    def allows(self, symbol: Global) -> bool:
        name = (symbol.module, symbol.name)
        builders = (_REBUILD_TENSOR, _REBUILD_PARAMETER, _ORDERED_DICT, _SIZE)
        return name in builders or name in _STORAGE_DTYPES or name in self._data_classes

    def call(self, symbol: Global, arguments: tuple[Any, ...]) -> Any:
        match (symbol.module, symbol.name), arguments:
            case ("torch._utils", "_rebuild_tensor_v2"), (storage, offset, shape, stride, *_):
                return self._tensor(storage, offset, shape, stride)
            case ("torch._utils", "_rebuild_parameter"), (_TensorSpec() as spec, *_):
                return spec
            case ("collections", "OrderedDict"), ():
                return {}
            case ("torch", "Size"), (tuple() | list() as extents,):
                return tuple(extents)
            case _:
                pass
        raise UnsafePickle(f"{self._source}: {symbol} is called with {len(arguments)} arguments it does not take")

    def new(self, symbol: Global, arguments: tuple[Any, ...]) -> Any:
        name = (symbol.module, symbol.name)
        if name in self._data_classes and not arguments:
            return PlainObject()
        if name == _ORDERED_DICT and not arguments:
            return {}
        raise UnsafePickle(f"{self._source}: it makes an object of {symbol}, which is not on the list")

    def resolve(self, persistent_id: Any) -> Any:
        match persistent_id:
            case ("storage", Global(module, name), str() as key, str(), int() as count) if (
                (module, name) in _STORAGE_DTYPES and 0 <= count < 1 << 48 and type(count) is int
            ):
                return _Storage(key, _STORAGE_DTYPES[module, name], count)
        raise UnsafePickle(f"{self._source}: a persistent id that is no tensor storage")

    def _tensor(self, storage: Any, offset: Any, shape: Any, stride: Any) -> _TensorSpec:
        sizes = (offset, *shape, *stride) if isinstance(shape, tuple) and isinstance(stride, tuple) else (None,)
        if not isinstance(storage, _Storage) or not all(type(n) is int and 0 <= n < 1 << 48 for n in sizes):
            raise UnsafePickle(f"{self._source}: a tensor whose storage, offset, shape or stride is malformed")
        if len(shape) != len(stride) or len(shape) > MAX_DIMENSIONS:
            raise WeightsError(f"{self._source}: a tensor with {len(shape)} dimensions and {len(stride)} strides")
        return _TensorSpec(storage, offset, shape, stride)


def _read_description(archive: TorchZip, data_classes: Collection[tuple[str, str]]) -> Any:
    entry = archive.entries.get("data.pkl")
    if entry is not None and entry.size > MAX_PICKLE_BYTES:
        raise WeightsError(f"{archive.source}: a pickle of {entry.size} bytes; at most {MAX_PICKLE_BYTES} are read")
    vocabulary = _TorchVocabulary(archive.source, data_classes)
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


def _check(
    data: Any, archive: TorchZip, *, max_tensor_bytes: int, max_total_bytes: int
) -> list[tuple[str, _TensorSpec]]:
    found: list[tuple[str, _TensorSpec]] = []
    total = 0
    for path, leaf in _walk(data, archive.source):
        if isinstance(leaf, Global | _Storage):
            raise UnsafePickle(f"{archive.source}: {path!r} is a bare {type(leaf).__name__.strip('_').lower()}")
        if not isinstance(leaf, _TensorSpec):
            continue
        _check_tensor(leaf, archive, f"{archive.source}: tensor {path!r}", max_tensor_bytes)
        total += leaf.memory_bytes
        if total > max_total_bytes:
            raise WeightsError(f"{archive.source}: its tensors take more than the limit of {max_total_bytes} bytes")
        found.append((path, leaf))
    if len({path for path, _ in found}) != len(found):
        raise WeightsError(f"{archive.source}: two tensors have the same name")
    return found


def _check_tensor(spec: _TensorSpec, archive: TorchZip, where: str, max_tensor_bytes: int) -> None:
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


def _read_tensors(specs: list[tuple[str, _TensorSpec]], archive: TorchZip) -> dict[int, NDArray[Any]]:
    big_endian = _is_big_endian(archive)
    storages: dict[tuple[str, str], NDArray[Any]] = {}
    uses: dict[tuple[str, str], int] = {}
    arrays: dict[int, NDArray[Any]] = {}
    unique = {id(spec): spec for _, spec in specs}
    for spec in unique.values():
        key = (spec.storage.key, spec.storage.dtype)
        uses[key] = uses.get(key, 0) + 1
    for identity, spec in unique.items():
        key = (spec.storage.key, spec.storage.dtype)
        if key not in storages:
            storages[key] = _storage_array(archive.read(f"data/{key[0]}"), key[1], big_endian)
        uses[key] -= 1
        arrays[identity] = _window(storages[key], spec)
        if not uses[key]:
            del storages[key]
    return arrays


def _is_big_endian(archive: TorchZip) -> bool:
    if "byteorder" not in archive.entries:
        return False
    if archive.entries["byteorder"].size > 16:
        raise WeightsError(f"{archive.source}: its byteorder record is too long")
    order = bytes(archive.read("byteorder"))
    if order not in (b"little", b"big"):
        raise WeightsError(f"{archive.source}: byte order {order!r}; 'little' and 'big' are known")
    return order == b"big"


def _storage_array(data: bytearray, dtype: str, big_endian: bool) -> NDArray[Any]:
    if dtype == "bfloat16":
        halves = np.frombuffer(data, dtype=">u2" if big_endian else "<u2").astype("<u4")
        return (halves << 16).view("<f4")
    if dtype == "|b1":
        return np.not_equal(np.frombuffer(data, dtype=np.uint8), 0)
    values: NDArray[Any] = np.frombuffer(data, dtype=np.dtype(dtype))
    return values.byteswap() if big_endian else values


def _window(storage: NDArray[Any], spec: _TensorSpec) -> NDArray[Any]:
    """Cut a tensor out of its storage: a view where it is the whole storage in order, else a copy."""
    if spec.contiguous:
        piece = storage[spec.offset : spec.offset + spec.count].reshape(spec.shape)
        return piece if spec.count == storage.size else piece.copy()
    strides = tuple(step * storage.itemsize for step in spec.stride)
    window = np.lib.stride_tricks.as_strided(storage[spec.offset :], spec.shape, strides, writeable=False)
    return np.ascontiguousarray(window)


def _with_arrays(value: Any, arrays: Mapping[int, NDArray[Any]]) -> Any:
    """Put arrays where descriptions stand. Recursion is bounded: `_walk` has refused anything deep."""
    if isinstance(value, _TensorSpec):
        return arrays[id(value)]
    if isinstance(value, dict):
        return {key: _with_arrays(child, arrays) for key, child in value.items()}
    if isinstance(value, list):
        return [_with_arrays(child, arrays) for child in value]
    if isinstance(value, tuple):
        return tuple(_with_arrays(child, arrays) for child in value)
    return value
