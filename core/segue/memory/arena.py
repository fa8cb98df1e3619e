"""Arenas: one part of a revision in memory that is written once, sealed, and mapped by everyone who speaks with it.

Separate from the pool because the layout is a contract between the child that writes, the sidecar that adopts and the
workers that map, and because the content is hostile until it was checked.

The layout is described in `arena_header`.

290 MB in 24 tensors (2-core Linux 6.18, CPython 3.11, beside other work): digest 260 ms, writing with the digest 260 ms
into warm pages and 285 ms into fresh ones, sealing 2 ms, mapping and checking the header 0.2 ms, prefaulting 28 to
54 ms, verifying 205 to 285 ms.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segue.engine import PartView, PreparedPart
from segue.errors import ArenaCorrupt, DigestMismatch, ShapeMismatch
from segue.memory import memfd
from segue.memory.arena_header import (
    ALIGNMENT_BYTES,
    DTYPES,
    MAGIC,
    MAX_DIMENSIONS,
    MAX_NAME_LENGTH,
    MAX_TENSORS,
    PAGE_BYTES,
    PREAMBLE,
    VERSION,
    Header,
    TensorEntry,
    header_end,
    header_json,
    parse_header,
    round_up,
)

STEP_BYTES = 4 << 20
"""Writing and hashing go in steps of this size, so that the caller can be throttled between two of them."""

MADV_POPULATE_READ = 22

Step = Callable[[int], None]
"""Called after each step with the bytes done so far; sleep in it to slow down, raise in it to stop."""


@dataclass(frozen=True)
class ArenaPlan:
    """A part laid out, before any memory is taken: the size is known, the digest can be asked for.

    Knowing both first is what lets two revisions share a part without it being written twice.
    """

    entries: tuple[TensorEntry, ...]
    tensors: Mapping[str, NDArray[Any]]
    header: bytes
    data_offset: int
    total_bytes: int

    @classmethod
    def of(cls, part: PreparedPart) -> ArenaPlan:
        """Lay out `part`: tensors sorted by name, each at a multiple of 64 bytes.

        Raises
        ------
        ShapeMismatch
            A tensor that is not C-contiguous, has a dtype outside `DTYPES`, a table that is too large, or meta that is
            not JSON.
        """
        if len(part.tensors) > MAX_TENSORS:
            raise ShapeMismatch(f"a part may have {MAX_TENSORS} tensors, not {len(part.tensors)}")
        tensors = {name: _checked(name, part.tensors[name]) for name in sorted(part.tensors)}
        relative = tuple(_lay_out(tensors))
        header = header_json(relative, part.meta)
        data_offset = round_up(PREAMBLE.size + len(header), PAGE_BYTES)
        entries = tuple(TensorEntry(e.name, e.dtype, e.shape, data_offset + e.offset) for e in relative)
        end = max((entry.offset + entry.size_bytes for entry in entries), default=data_offset)
        return cls(entries, tensors, header, data_offset, round_up(end, ALIGNMENT_BYTES))

    @cached_property
    def digest(self) -> str:
        """sha256 of the arena's content, lower-case hex: the key of this part."""
        hasher = hashlib.sha256()
        for _, piece in self._pieces():
            hasher.update(piece)
        return hasher.hexdigest()

    def write(self, fd: int, *, step: Step | None = None) -> str:
        """Write the arena into fresh memory by `pwrite`, and return its digest. The caller seals.

        The preamble is written last: an arena whose writer was killed has no magic.

        Parameters
        ----------
        fd
            A memfd of zeros (`WeightMemory.allocate`), cut or grown to `total_bytes` first; never one that held
            something before.
        step
            Called after each 4 MiB.

        Raises
        ------
        MemoryError_
            The memory cannot be had.
        """
        os.ftruncate(fd, self.total_bytes)
        hasher = hashlib.sha256()
        done = 0
        for offset, piece in self._pieces():
            for start in range(0, len(piece), STEP_BYTES):
                chunk = piece[start : start + STEP_BYTES]
                memfd.write_all(fd, chunk, offset + start)
                hasher.update(chunk)
                done += len(chunk)
                if step is not None:
                    step(done)
        digest = hasher.digest()
        preamble = PREAMBLE.pack(MAGIC, VERSION, len(self.header), self.total_bytes, self.data_offset, digest)
        memfd.write_all(fd, memoryview(preamble), 0)
        return digest.hex()

    def _pieces(self) -> Iterator[tuple[int, memoryview]]:
        """Everything from byte 64 to the end, in order, padding included: (offset, bytes)."""
        yield PREAMBLE.size, memoryview(self.header)
        position = PREAMBLE.size + len(self.header)
        for entry in self.entries:
            yield position, memoryview(bytes(entry.offset - position))
            yield entry.offset, self.tensors[entry.name].reshape(-1).view(np.uint8).data
            position = entry.offset + entry.size_bytes
        yield position, memoryview(bytes(self.total_bytes - position))


class Arena:
    """A sealed arena, mapped read-only.

    Arrays from `views` are views into the mapping: while one of them lives, `close` raises `BufferError` and the
    memory stays. The descriptor it was opened from stays the caller's.
    """

    def __init__(self, mapping: mmap.mmap, header: Header) -> None:
        """Take over a mapping whose header was checked; use `open`."""
        self._map = mapping
        self._header = header

    @classmethod
    def open(cls, fd: int) -> Arena:
        """Map `fd` read-only and check its header. The content is checked by `verify_digest`.

        Raises
        ------
        ArenaCorrupt
            Seals missing, or any field of the header out of bounds.
        """
        memfd.require_seals(fd, memfd.SEALS_ARENA, what="the arena")
        size = os.fstat(fd).st_size
        if size < PREAMBLE.size:
            raise ArenaCorrupt(f"the arena has {size} bytes, fewer than its preamble of {PREAMBLE.size}")
        mapping = mmap.mmap(fd, size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
        try:
            return cls(mapping, parse_header(mapping))
        except BaseException:
            mapping.close()
            raise

    @property
    def digest(self) -> str:
        """What the header claims: lower-case hex."""
        return self._header.digest

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole arena."""
        return len(self._map)

    @property
    def header(self) -> Header:
        """Offset table, meta and digest, checked."""
        return self._header

    @property
    def head(self) -> bytes:
        """The arena's first bytes, preamble and header JSON."""
        return self._map[: header_end(self._map[: PREAMBLE.size])]

    @property
    def entries(self) -> tuple[TensorEntry, ...]:
        """The offset table."""
        return self._header.entries

    @property
    def meta(self) -> Mapping[str, Any]:
        """What the engine put beside the tensors."""
        return self._header.meta

    @property
    def closed(self) -> bool:
        """Whether `close` succeeded."""
        return self._map.closed

    def verify_digest(self, expected: str | None = None, *, step: Step | None = None) -> None:
        """Hash the content and compare with the header, and with `expected` where given.

        Raises
        ------
        DigestMismatch
            The bytes are not the ones promised.
        """
        hasher = hashlib.sha256()
        with memoryview(self._map) as content:
            for start in range(PREAMBLE.size, len(content), STEP_BYTES):
                with content[start : start + STEP_BYTES] as piece:
                    hasher.update(piece)
                if step is not None:
                    step(min(start + STEP_BYTES, len(content)))
        found = hasher.hexdigest()
        for source, promised in (("header", self.digest), ("journal", expected)):
            if promised is not None and found != promised:
                raise DigestMismatch(f"the arena hashes to {found}, but its {source} says {promised}: refused")

    def views(self) -> dict[str, NDArray[Any]]:
        """Every tensor as a read-only array over the mapping; nothing is copied."""
        return {entry.name: self._view(entry) for entry in self._header.entries}

    def part(self) -> PartView:
        """What `Engine.build` takes for this part."""
        return PartView(tensors=self.views(), meta=self._header.meta, digest=self.digest)

    def address_range(self) -> tuple[int, int]:
        """First and past-the-end address of the mapping: where every parameter of a row must lie."""
        start = np.frombuffer(self._map, dtype=np.uint8, count=1).ctypes.data
        return start, start + len(self._map)

    def prefault(self) -> None:
        """Map every page now (MADV_POPULATE_READ), so that the first request does not (advice before Linux 5.14).

        In steps: `madvise` keeps the interpreter's lock, and other threads of a worker answer requests meanwhile.
        """
        try:
            for start in range(0, len(self._map), STEP_BYTES):
                self._map.madvise(MADV_POPULATE_READ, start, min(STEP_BYTES, len(self._map) - start))
        except OSError:
            self._map.madvise(mmap.MADV_WILLNEED)

    def close(self) -> None:
        """Unmap. Idempotent.

        Raises
        ------
        BufferError
            A view still lives somewhere: drop it (`gc.collect()`), then try again.
        """
        self._map.close()

    def _view(self, entry: TensorEntry) -> NDArray[Any]:
        dtype = np.dtype(entry.dtype)
        count = math.prod(entry.shape)
        if count == 0:
            empty = np.empty(entry.shape, dtype=dtype)
            empty.flags.writeable = False
            return empty
        return np.frombuffer(self._map, dtype=dtype, count=count, offset=entry.offset).reshape(entry.shape)


def seal(fd: int, *, patience_s: float = 0.0) -> None:
    """Seal a written arena: from now on nobody writes, resizes or unseals it. Idempotent.

    Takes the kernel 2 to 9 ms for 290 MB (2-core Linux 6.18), and much longer while something moves its pages: best
    done by the child that wrote, with `memfd.SEALING_PATIENCE_S`.

    Raises
    ------
    MemoryError_
        Somebody still maps it writable, or holds a page of it, after `patience_s`.
    """
    if memfd.seals_of(fd) & memfd.SEALS_ARENA != memfd.SEALS_ARENA:
        memfd.add_seals(fd, memfd.SEALS_ARENA, patience_s=patience_s)


def check_adoptable(fd: int, *, uid: int, size_bytes: int) -> None:
    """Refuse an arena that did not come from a sidecar of `uid`, or could still change. The digest is checked apart.

    Raises
    ------
    ArenaCorrupt
        Another owner, another size, or a seal that is missing.
    """
    memfd.require_owner(fd, uid=uid, what="the arena")
    memfd.require_seals(fd, memfd.SEALS_ARENA, what="the arena")
    found = os.fstat(fd).st_size
    if found != size_bytes:
        raise ArenaCorrupt(f"the arena has {found} bytes, but the journal says {size_bytes}: refused")


def _checked(name: str, tensor: NDArray[Any]) -> NDArray[Any]:
    if not 0 < len(name) <= MAX_NAME_LENGTH:
        raise ShapeMismatch(f"a tensor name has 1 to {MAX_NAME_LENGTH} characters, not {len(name)}: {name[:40]!r}")
    if tensor.dtype.name not in DTYPES or not tensor.dtype.isnative:
        raise ShapeMismatch(f"tensor {name!r} has dtype {tensor.dtype}; arenas take {', '.join(DTYPES)}")
    if not tensor.flags.c_contiguous:
        raise ShapeMismatch(f"tensor {name!r} {tensor.shape} is not C-contiguous: np.ascontiguousarray it in prepare")
    if tensor.ndim > MAX_DIMENSIONS:
        raise ShapeMismatch(f"tensor {name!r} has {tensor.ndim} dimensions; arenas take {MAX_DIMENSIONS}")
    return tensor


def _lay_out(tensors: Mapping[str, NDArray[Any]]) -> Iterator[TensorEntry]:
    position = 0
    for name, tensor in tensors.items():
        yield TensorEntry(name, tensor.dtype.name, tuple(tensor.shape), position)
        position = round_up(position + tensor.nbytes, ALIGNMENT_BYTES)
