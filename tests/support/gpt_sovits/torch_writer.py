"""Writes files as `torch.save` does, without torch, tensor by tensor.

Separate from `tests.unit.containers.pickles`, which builds wrong files byte by byte: this one writes right ones of any
size. The tests of the formats show that torch reads them.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

STORAGES: Final = {
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "int64": "LongStorage",
}
ALIGNMENT_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor to write: its array is made when its turn comes."""

    shape: tuple[int, ...]
    dtype: str
    make: Callable[[], NDArray[Any]]

    @classmethod
    def of(cls, array: NDArray[Any], dtype: str | None = None) -> Tensor:
        """A tensor that is there already, stored as `dtype` (default: its own)."""
        return cls(array.shape, dtype or array.dtype.name, lambda: array)

    def stored(self) -> bytes:
        """Its bytes in the file."""
        array = np.ascontiguousarray(self.make())
        if self.dtype == "bfloat16":
            bits = array.astype(np.float32).view(np.uint32)
            return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()
        return array.astype(np.dtype(self.dtype).newbyteorder("<")).tobytes()


class HParams(dict[str, Any]):
    """Stands for an object of the original's class `utils.HParams` with these attributes."""


def write_torch_file(path: Path, data: Any, *, marker: bytes = b"PK") -> Path:
    """Write nested dicts, lists, plain values, `Tensor` and `HParams`; `marker` replaces the first two bytes."""
    pickle = _Pickle()
    pickle.add(data)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, "data.pkl", b"\x80\x02" + b"".join(pickle.pieces) + b".")
        _add(archive, "byteorder", b"little")
        for key, tensor in enumerate(pickle.tensors):
            _add(archive, f"data/{key}", tensor.stored())
        _add(archive, "version", b"3\n")
    if marker != b"PK":
        with path.open("r+b") as file:
            file.write(marker)
    return path


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Add an entry whose bytes begin at a multiple of 64, as torch does for mapping files into memory."""
    entry = zipfile.ZipInfo(f"archive/{name}")
    assert archive.fp is not None
    begins = archive.fp.tell() + 30 + len(entry.filename) + 4
    padding = -begins % ALIGNMENT_BYTES
    entry.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
    archive.writestr(entry, content)


@dataclass(slots=True)
class _Pickle:
    pieces: list[bytes] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)

    def add(self, value: Any) -> None:
        self.pieces.extend(self._encoded(value))

    def _encoded(self, value: Any) -> Iterator[bytes]:
        match value:
            case HParams():
                yield b"cutils\nHParams\n)\x81"
                yield from self._dict(value)
                yield b"b"
            case Mapping():
                yield from self._dict(value)
            case list():
                yield b"]("
                for each in value:
                    yield from self._encoded(each)
                yield b"e"
            case Tensor():
                yield self._tensor(value)
            case None:
                yield b"N"
            case bool():
                yield b"\x88" if value else b"\x89"
            case int():
                raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
                yield b"\x8a" + bytes([len(raw)]) + raw
            case float():
                yield b"G" + struct.pack(">d", value)
            case str():
                yield _text(value)
            case _:
                raise TypeError(f"a {type(value).__name__} is not written here")

    def _dict(self, value: Mapping[str, Any]) -> Iterator[bytes]:
        yield b"}("
        for key, each in value.items():
            yield _text(key)
            yield from self._encoded(each)
        yield b"u"

    def _tensor(self, tensor: Tensor) -> bytes:
        key = str(len(self.tensors))
        self.tensors.append(tensor)
        count, strides = 1, list[int]()
        for extent in reversed(tensor.shape):
            strides.insert(0, count)
            count *= extent
        storage = b"(" + _text("storage") + f"ctorch\n{STORAGES[tensor.dtype]}\n".encode() + _text(key) + _text("cpu")
        return b"".join(
            (
                b"ctorch._utils\n_rebuild_tensor_v2\n((",
                storage[1:] + _number(count) + b"tQ",
                _number(0),
                b"(" + b"".join(map(_number, tensor.shape)) + b"t",
                b"(" + b"".join(map(_number, strides)) + b"t",
                b"\x89ccollections\nOrderedDict\n)RtR",
            )
        )


def _text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def _number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)
