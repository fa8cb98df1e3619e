"""The layout of an arena: preamble, offset table, and the checks that make a foreign one safe to map.

Separate from `arena` because this is the contract, and because every byte of it is hostile until it was checked.

Layout (little endian)::

    0    magic            8 bytes   b"SEGUEAR1"
    8    version          u32       1
    12   header length    u32       bytes of JSON that follow the preamble
    16   total length     u64       of the file
    24   data offset      u64       the first multiple of 4,096 behind the header
    32   digest          32 bytes   sha256 over everything from byte 64 on
    64   header JSON      {"meta": {…}, "tensors": [[name, dtype, [shape], offset], …]}, canonical, sorted by name
    …    tensors          C order, each at a multiple of 64; offsets count from the data offset; zeros between

The same tensors and meta give the same bytes, so the digest is also the key under which revisions share a part.
"""

from __future__ import annotations

import json
import math
import mmap
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segue.errors import ArenaCorrupt, ShapeMismatch

MAGIC = b"SEGUEAR1"
VERSION = 1
ALIGNMENT_BYTES = 64

DTYPES = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")
MAX_HEADER_BYTES = 16 << 20
MAX_TENSORS = 65_536
MAX_DIMENSIONS = 8
MAX_NAME_LENGTH = 512

PREAMBLE = struct.Struct("<8sIIQQ32s")
PAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One row of the offset table. `offset` counts from the beginning of the file, in bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensor."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A header whose every field was checked against the file's size."""

    entries: tuple[TensorEntry, ...]
    meta: Mapping[str, Any]
    digest: str


def header_end(preamble: bytes) -> int:
    """Where the header of an arena that begins with `preamble` (at least 64 bytes) ends; unchecked, at most 16 MiB."""
    length: int = PREAMBLE.unpack_from(preamble)[2]
    return PREAMBLE.size + min(length, MAX_HEADER_BYTES)


def parse_header(buffer: mmap.mmap | bytes, *, size_bytes: int | None = None) -> Header:
    """Read and check the header of an arena that fills `buffer`, or begins with it and has `size_bytes`.

    Raises
    ------
    ArenaCorrupt
        The message names the field, the value and the bound.
    """
    if len(buffer) < PREAMBLE.size:
        raise ArenaCorrupt(f"the arena has {len(buffer)} bytes, fewer than its preamble of {PREAMBLE.size}")
    magic, version, length, total, data_offset, digest = PREAMBLE.unpack(buffer[: PREAMBLE.size])
    if magic != MAGIC:
        raise ArenaCorrupt(f"the arena begins with {magic!r} instead of {MAGIC!r}: not an arena, or never finished")
    if version != VERSION:
        raise ArenaCorrupt(f"the arena has format version {version}; this build reads {VERSION}")
    found = len(buffer) if size_bytes is None else size_bytes
    if total != found:
        raise ArenaCorrupt(f"the arena says {total} bytes, but the file has {found}")
    end = PREAMBLE.size + length
    # There and nowhere else: the preamble is not part of the digest, so it must leave no choice.
    if length > MAX_HEADER_BYTES or data_offset != round_up(end, PAGE_BYTES) or data_offset > total:
        raise ArenaCorrupt(
            f"the arena's header of {length} bytes with data at {data_offset} does not fit {total} bytes"
        )
    document = _parse_json(buffer[PREAMBLE.size : end])
    tensors, meta = document.get("tensors"), document.get("meta")
    if not isinstance(tensors, list) or not isinstance(meta, dict) or len(tensors) > MAX_TENSORS:
        raise ArenaCorrupt(f"the arena's header needs a list `tensors` (at most {MAX_TENSORS}) and an object `meta`")
    entries = tuple(_entry(row, data_offset=data_offset, total=total) for row in tensors)
    _check_disjoint(entries)
    return Header(entries=entries, meta=meta, digest=digest.hex())


def _entry(row: Any, *, data_offset: int, total: int) -> TensorEntry:
    match row:
        case [str(name), str(dtype), list(shape), offset] if _is_count(offset) and all(map(_is_count, shape)):
            pass
        case _:
            raise ArenaCorrupt(f"a row of the offset table must be [name, dtype, shape, offset], not {str(row)[:120]}")
    if not 0 < len(name) <= MAX_NAME_LENGTH:
        raise ArenaCorrupt(f"the tensor name {name[:40]!r} has {len(name)} characters; 1 to {MAX_NAME_LENGTH} are read")
    if dtype not in DTYPES:
        raise ArenaCorrupt(f"tensor {name!r} has dtype {dtype[:40]!r}; known are {', '.join(DTYPES)}")
    if len(shape) > MAX_DIMENSIONS:
        raise ArenaCorrupt(f"tensor {name!r} has {len(shape)} dimensions; at most {MAX_DIMENSIONS} are read")
    entry = TensorEntry(name, dtype, tuple(shape), data_offset + offset)
    if offset % ALIGNMENT_BYTES or max(entry.shape, default=0) > total or entry.offset + entry.size_bytes > total:
        raise ArenaCorrupt(f"tensor {name!r} {entry.shape} at {entry.offset} is outside the arena of {total} bytes")
    return entry


def _check_disjoint(entries: tuple[TensorEntry, ...]) -> None:
    names = {entry.name for entry in entries}
    if len(names) != len(entries):
        raise ArenaCorrupt(f"the offset table names {len(entries) - len(names)} tensors twice")
    position = 0
    for entry in sorted(entries, key=lambda e: (e.offset, e.size_bytes)):
        if entry.offset < position:
            raise ArenaCorrupt(f"tensor {entry.name!r} at {entry.offset} overlaps the one that ends at {position}")
        position = entry.offset + entry.size_bytes


def _parse_json(raw: bytes) -> dict[str, Any]:
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ArenaCorrupt(f"the arena's header is not JSON: {type(error).__name__}") from error
    if not isinstance(document, dict):
        raise ArenaCorrupt(f"the arena's header must be a JSON object, not {type(document).__name__}")
    return document


def header_json(entries: Sequence[TensorEntry], meta: Mapping[str, Any]) -> bytes:
    """The canonical header; `entries` with offsets from the data offset.

    Raises
    ------
    ShapeMismatch
        Meta that is not JSON, or a header over 16 MiB.
    """
    table = [[entry.name, entry.dtype, list(entry.shape), entry.offset] for entry in entries]
    document = {"tensors": table, "meta": dict(meta)}
    try:
        text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ShapeMismatch(f"the meta of a part must be plain JSON: {error}") from error
    header = text.encode()
    if len(header) > MAX_HEADER_BYTES:
        raise ShapeMismatch(f"the header of a part may have {MAX_HEADER_BYTES} bytes, not {len(header)}")
    return header


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def round_up(value: int, unit: int) -> int:
    """The next multiple of `unit`."""
    return -(-value // unit) * unit
