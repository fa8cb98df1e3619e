"""Builds torch files by hand, opcode by opcode, so that the tests need no torch and can say anything."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

PROTO = b"\x80\x02"
STOP = b"."


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def integer(value: int) -> bytes:
    raw = value.to_bytes(8, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def named(module: str, name: str) -> bytes:
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


def tuple_of(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def dict_of(**items: bytes) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def storage(key: str, count: int, kind: str = "FloatStorage") -> bytes:
    return tuple_of(text("storage"), named("torch", kind), text(key), text("cpu"), integer(count)) + b"Q"


def tensor(
    key: str,
    shape: tuple[int, ...],
    *,
    stride: tuple[int, ...] | None = None,
    offset: int = 0,
    count: int | None = None,
    kind: str = "FloatStorage",
) -> bytes:
    total = 1
    steps: list[int] = []
    for extent in reversed(shape):
        steps.insert(0, total)
        total *= extent
    arguments = tuple_of(
        storage(key, total if count is None else count, kind),
        integer(offset),
        tuple_of(*map(integer, shape)),
        tuple_of(*map(integer, steps if stride is None else stride)),
        b"\x89",
        named("collections", "OrderedDict") + b")R",
    )
    return named("torch._utils", "_rebuild_tensor_v2") + arguments + b"R"


def archive(
    pickle: bytes,
    storages: dict[str, bytes] | None = None,
    *,
    compression: int = zipfile.ZIP_STORED,
    byteorder: bytes = b"little",
    extra: tuple[str, bytes] | None = None,
) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as target:
        target.writestr("archive/data.pkl", pickle)
        target.writestr("archive/byteorder", byteorder)
        for key, raw in (storages or {}).items():
            target.writestr(f"archive/data/{key}", raw)
        if extra is not None:
            target.writestr(*extra)
    return buffer.getvalue()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
