"""A safetensors file as arrays.

Separate from the torch files, whose layout needs a pickle machine: here a JSON header says where each tensor lies. Read
for the models that are published in this format beside torch's, with the same bounds and the same errors. The package
of that name would do, but for bfloat16, which it does not give to numpy, and for errors that name the tensor.

Source: the format's description in the README of huggingface/safetensors: eight bytes with the length of the header,
the header, the bytes of all tensors.
"""

from __future__ import annotations

import json
import math
import os
import stat
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from segue.containers.torch_file import MAX_TENSORS, TensorInfo
from segue.errors import WeightsError

MAX_HEADER_BYTES: Final = 16 << 20
_LENGTH: Final = struct.Struct("<Q")
_METADATA: Final = "__metadata__"
_DTYPES: Final[Mapping[str, str]] = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


@dataclass(frozen=True, slots=True)
class _Place:
    info: TensorInfo
    offset: int
    size: int


class SafetensorsFile:
    """An open file whose tensors were checked, and are read one by one when asked for.

    Attributes
    ----------
    tensors
        Name to what is known of the tensor.
    source
        The file's name, for errors.
    """

    def __init__(self, file: BufferedReader, places: Mapping[str, _Place], *, source: str) -> None:
        self._file = file
        self._places = places
        self.source = source
        self.tensors: Mapping[str, TensorInfo] = {name: place.info for name, place in places.items()}

    def read(self, name: str) -> NDArray[Any]:
        """Read one tensor: C-contiguous, owned by the caller; bfloat16 comes as float32.

        Raises
        ------
        WeightsError
            The bytes cannot be read.
        KeyError
            No such tensor.
        """
        place = self._places[name]
        data = bytearray(place.size)
        with _named(self.source):
            self._file.seek(place.offset)
            read = self._file.readinto(data)
        if read != place.size:
            raise WeightsError(f"{self.source}: tensor {name!r}: the file was cut while it was read")
        return _numbers(data, place.info.dtype).reshape(place.info.shape)


@contextmanager
def open_safetensors(
    path: Path, *, max_tensor_bytes: int = 2 << 30, max_total_bytes: int = 8 << 30
) -> Iterator[SafetensorsFile]:
    """Open a file and check its header, reading no tensor.

    Parameters
    ----------
    path
        A regular file.
    max_tensor_bytes, max_total_bytes
        Limits on what one tensor and all of them may take in memory.

    Raises
    ------
    WeightsError
        Not such a file, cut, corrupt, or larger than the limits; the message names file, tensor and expectation.
    """
    source = path.name
    with _named(source):
        file = path.open("rb")
    with file:
        with _named(source):
            size = _size(file, source)
            head = _LENGTH.size
            length = _LENGTH.unpack(file.read(head))[0] if size >= head else 0
            if not 2 <= length <= min(size - head, MAX_HEADER_BYTES):
                raise WeightsError(f"{source}: no safetensors file: its header would have {length} bytes of {size}")
            places = _places(_header(file.read(length), source), source, begin=head + length, end=size)
            _check(places, source, max_tensor_bytes=max_tensor_bytes, max_total_bytes=max_total_bytes)
        yield SafetensorsFile(file, places, source=source)


@contextmanager
def _named(source: str) -> Iterator[None]:
    """Turn what the operating system says into an error that names the file."""
    try:
        yield
    except OSError as error:
        raise WeightsError(f"{source}: cannot be read: {error.strerror or error}") from error


def _size(file: BufferedReader, source: str) -> int:
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise WeightsError(f"{source}: not a regular file")
    return status.st_size


def _header(raw: bytes, source: str) -> Mapping[str, Any]:
    try:
        header = json.loads(raw, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{source}: its header is no JSON object: {str(error)[:80]}") from error
    if not isinstance(header, dict):
        raise WeightsError(f"{source}: its header is a {type(header).__name__}; expected an object")
    if len(header) > MAX_TENSORS:
        raise WeightsError(f"{source}: more than {MAX_TENSORS} tensors")
    return {name: entry for name, entry in header.items() if name != _METADATA}


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands there twice")
    return found


def _places(header: Mapping[str, Any], source: str, *, begin: int, end: int) -> dict[str, _Place]:
    places = {name: _place(entry, f"{source}: tensor {name[:200]!r}", begin) for name, entry in header.items()}
    reached = begin
    for name, place in sorted(places.items(), key=lambda item: (item[1].offset, item[1].size)):
        if place.offset < reached or place.offset + place.size > end:
            raise WeightsError(
                f"{source}: tensor {name[:200]!r} lies at {place.offset} to {place.offset + place.size}: inside "
                f"another, or outside of {begin} to {end}"
            )
        reached = place.offset + place.size
    return places


def _place(entry: Any, where: str, begin: int) -> _Place:
    match entry:
        case {"dtype": str() as dtype, "shape": list() as shape, "data_offsets": [int() as first, int() as last]}:
            pass
        case _:
            raise WeightsError(f"{where}: expected an object with dtype, shape and data_offsets")
    if dtype not in _DTYPES:
        raise WeightsError(f"{where} is {dtype[:20]!r}; expected one of {', '.join(_DTYPES)}")
    if len(shape) > 16 or not all(type(extent) is int and 0 <= extent < 1 << 48 for extent in shape):
        raise WeightsError(f"{where}: its shape is malformed")
    size = math.prod(shape) * _stored_bytes(_DTYPES[dtype])
    if first < 0 or last - first != size:
        raise WeightsError(f"{where} of shape {tuple(shape)} takes {size} bytes, but lies at {first} to {last}")
    return _Place(TensorInfo(shape=tuple(shape), dtype=_DTYPES[dtype]), begin + first, size)


def _stored_bytes(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _check(places: Mapping[str, _Place], source: str, *, max_tensor_bytes: int, max_total_bytes: int) -> None:
    total = 0
    for name, place in places.items():
        taken = place.size * (2 if place.info.dtype == "bfloat16" else 1)
        if taken > max_tensor_bytes:
            raise WeightsError(
                f"{source}: tensor {name[:200]!r} {place.info.shape} takes {taken} bytes; "
                f"the limit is {max_tensor_bytes}"
            )
        total += taken
    if total > max_total_bytes:
        raise WeightsError(f"{source}: its tensors take more than the limit of {max_total_bytes} bytes")


def _numbers(data: bytearray, dtype: str) -> NDArray[Any]:
    if dtype == "bfloat16":
        bits = np.frombuffer(data, "<u2").astype("<u4")
        bits <<= 16
        return bits.view("<f4")
    if dtype == "bool":
        return np.not_equal(np.frombuffer(data, np.uint8), 0)
    values: NDArray[Any] = np.frombuffer(data, np.dtype(dtype).newbyteorder("<"))
    return values
