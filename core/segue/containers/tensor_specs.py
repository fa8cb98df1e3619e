"""What the pickle of a weight file says about its tensors: descriptions, with no bytes behind them yet.

Separate from `torch_file` because this part decides what a file may *ask for*; that part decides whether the file bears
it out, and reads.

Source: `_rebuild_tensor_v2` in torch/_utils.py; persistent ids in torch/serialization.py.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from segue.containers.pickle_machine import Global, PlainObject
from segue.errors import UnsafePickle, WeightsError

MAX_DIMENSIONS: Final = 16

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


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of numbers in the file, by the name of its entry."""

    key: str
    dtype: str
    count: int

    @property
    def item_bytes(self) -> int:
        """Bytes of one number in the file."""
        return 2 if self.dtype == "bfloat16" else np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True, eq=False)
class TensorSpec:
    """A tensor as the pickle describes it: a strided window on a storage, in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many numbers it has."""
        total = 1
        for extent in self.shape:
            total *= extent
        return total

    @property
    def memory_bytes(self) -> int:
        """What it takes in memory: bfloat16 is widened to float32."""
        return self.count * (4 if self.storage.dtype == "bfloat16" else self.storage.item_bytes)

    @property
    def end(self) -> int:
        """One past the last element touched."""
        if not self.count:
            return self.offset
        return self.offset + 1 + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))

    @property
    def span(self) -> int:
        """How many numbers of the storage lie between its first and its last: what reading it takes."""
        return self.end - self.offset

    @property
    def contiguous(self) -> bool:
        """Whether the numbers lie in the file in C order, with no gaps."""
        expected = 1
        for extent, step in zip(reversed(self.shape), reversed(self.stride), strict=True):
            if extent != 1 and step != expected:
                return False
            expected *= extent
        return True


class TorchVocabulary:
    """The few names a weight file may use, and what they stand for."""

    def __init__(self, source: str, data_classes: Collection[tuple[str, str]]) -> None:
        self._source = source
        self._data_classes = data_classes

    def allows(self, symbol: Global) -> bool:
        """Say whether the file may name this global at all."""
        name = (symbol.module, symbol.name)
        builders = (_REBUILD_TENSOR, _REBUILD_PARAMETER, _ORDERED_DICT, _SIZE)
        return name in builders or name in _STORAGE_DTYPES or name in self._data_classes

    def call(self, symbol: Global, arguments: tuple[Any, ...]) -> Any:
        """Make the value that a call stands for."""
        match (symbol.module, symbol.name), arguments:
            case ("torch._utils", "_rebuild_tensor_v2"), (storage, offset, shape, stride, *_):
                return self._tensor(storage, offset, shape, stride)
            case ("torch._utils", "_rebuild_parameter"), (TensorSpec() as spec, *_):
                return spec
            case ("collections", "OrderedDict"), ():
                return {}
            case ("torch", "Size"), (tuple() | list() as extents,):
                return tuple(extents)
            case _:
                pass
        raise UnsafePickle(f"{self._source}: {symbol} is called with {len(arguments)} arguments it does not take")

    def new(self, symbol: Global, arguments: tuple[Any, ...]) -> Any:
        """Make an object of a data-only class, as a dict."""
        name = (symbol.module, symbol.name)
        if name in self._data_classes and not arguments:
            return PlainObject()
        if name == _ORDERED_DICT and not arguments:
            return {}
        raise UnsafePickle(f"{self._source}: it makes an object of {symbol}, which is not on the list")

    def resolve(self, persistent_id: Any) -> Any:
        """Make a storage of a persistent id."""
        match persistent_id:
            case ("storage", Global(module, name), str() as key, str(), int() as count) if (
                (module, name) in _STORAGE_DTYPES and 0 <= count < 1 << 48 and type(count) is int
            ):
                return Storage(key, _STORAGE_DTYPES[module, name], count)
        raise UnsafePickle(f"{self._source}: a persistent id that is no tensor storage")

    def _tensor(self, storage: Any, offset: Any, shape: Any, stride: Any) -> TensorSpec:
        sizes = (offset, *shape, *stride) if isinstance(shape, tuple) and isinstance(stride, tuple) else (None,)
        if not isinstance(storage, Storage) or not all(type(n) is int and 0 <= n < 1 << 48 for n in sizes):
            raise UnsafePickle(f"{self._source}: a tensor whose storage, offset, shape or stride is malformed")
        if len(shape) != len(stride) or len(shape) > MAX_DIMENSIONS:
            raise WeightsError(f"{self._source}: a tensor with {len(shape)} dimensions and {len(stride)} strides")
        if math.prod(max(extent, 1) for extent in shape) >= 1 << 48:
            raise WeightsError(f"{self._source}: a tensor of shape {shape}, which no memory holds")
        return TensorSpec(storage, offset, shape, stride)
