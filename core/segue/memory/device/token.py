"""The token of a part in device memory: a small sealed file in host memory that travels with the device's descriptor.

A device allocation says nothing about itself: its descriptor is no file that could be sealed, stat'ed or leased. The
token stands for it. Everybody who gets the part gets a description of the token's file of its own and keeps it for as
long as it maps the part, so that the one question that may be believed, whether anybody else still holds it (`lease`),
is answered by the kernel as in host memory. It also carries the arena's header: workers lay out their views without
reading from the device, and a restarted sidecar learns where in the allocation the part lies.

Layout (little endian)::

    0    magic          8 bytes   b"SEGUEDV1"
    8    allocation     16 bytes  a random name: parts with the same one share a device allocation
    24   allocation     u64       its bytes
    32   offset         u64       where in it the arena begins, a multiple of 4,096
    40   device         16 bytes  UUID (of the MIG instance where there are such)
    56   zeros          8 bytes
    64   the arena's first bytes: preamble and header JSON, as `arena_header` describes them
"""

from __future__ import annotations

import os
import struct
import uuid
from dataclasses import dataclass

from segue.errors import ArenaCorrupt
from segue.memory import memfd
from segue.memory.arena_header import MAX_HEADER_BYTES, PAGE_BYTES, PREAMBLE, Header, header_end, parse_header
from segue.memory.messages import PartRef

MAGIC = b"SEGUEDV1"
_FIELDS = struct.Struct("<8s16sQQ16s8x")
_SEALING_PATIENCE_S = 1.0
_MAX_BYTES = _FIELDS.size + PREAMBLE.size + MAX_HEADER_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an arena lies: in which allocation of which device, and from which byte on."""

    allocation: str
    allocation_bytes: int
    offset: int
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token whose every field was checked.

    Attributes
    ----------
    head
        The arena's first bytes, as they must stand in device memory, too.
    """

    place: Place
    size_bytes: int
    header: Header
    head: bytes


def make_token(arena_fd: int, place: Place, *, name: str) -> int:
    """The token of a sealed host arena that is to be copied to `place`; sealed, and owned by the caller.

    Raises
    ------
    ArenaCorrupt
        It is no arena.
    """
    head = os.pread(arena_fd, PREAMBLE.size, 0)
    head += os.pread(arena_fd, header_end(head) - PREAMBLE.size, PREAMBLE.size)
    fields = _FIELDS.pack(
        MAGIC,
        uuid.UUID(place.allocation).bytes,
        place.allocation_bytes,
        place.offset,
        uuid.UUID(place.device).bytes,
    )
    fd = memfd.create(f"segue-token-{name}"[:200])
    try:
        memfd.write_all(fd, memoryview(fields + head), 0)
        # Only the kernel can hold its one page, and not for long.
        memfd.add_seals(fd, memfd.SEALS_ARENA, patience_s=_SEALING_PATIENCE_S)
        read_token(fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def read_token(fd: int, *, part: PartRef | None = None) -> Token:
    """Read and check a token; `fd` stays the caller's.

    Parameters
    ----------
    part
        What it was offered as.

    Raises
    ------
    ArenaCorrupt
        Not sealed, any field out of bounds, or another part.
    """
    memfd.require_seals(fd, memfd.SEALS_ARENA, what="the token of a device arena")
    length = os.fstat(fd).st_size
    if not _FIELDS.size + PREAMBLE.size <= length <= _MAX_BYTES:
        raise ArenaCorrupt(f"the token of a device arena has {length} bytes: not a token")
    content = os.pread(fd, length, 0)
    magic, allocation, allocation_bytes, offset, device = _FIELDS.unpack_from(content)
    if magic != MAGIC:
        raise ArenaCorrupt(f"the token of a device arena begins with {magic!r} instead of {MAGIC!r}")
    head = content[_FIELDS.size :]
    size_bytes = PREAMBLE.unpack_from(head)[3]
    if len(head) != header_end(head) or offset % PAGE_BYTES or offset + size_bytes > allocation_bytes:
        raise ArenaCorrupt(
            f"the token of a device arena names {size_bytes} bytes at {offset} of {allocation_bytes}, with {len(head)} "
            "bytes of header: refused"
        )
    header = parse_header(head, size_bytes=size_bytes)
    if part is not None and (header.digest, size_bytes) != (part.digest, part.size_bytes):
        raise ArenaCorrupt(
            f"part {part.name!r} was offered as {part.digest} of {part.size_bytes} bytes, but its token says "
            f"{header.digest} and {size_bytes} bytes: refused"
        )
    place = Place(
        allocation=str(uuid.UUID(bytes=allocation)),
        allocation_bytes=allocation_bytes,
        offset=offset,
        device=str(uuid.UUID(bytes=device)),
    )
    return Token(place=place, size_bytes=size_bytes, header=header, head=head)
