"""Builders for everything that lives in shared memory, with defaults that a test need not care about."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segue.engine import PreparedPart
from segue.memory import arena, memfd
from segue.memory.arena import ArenaPlan
from segue.memory.messages import PartRef, RevisionRef, VoiceName
from segue.memory.mode import MemoryMode

NARRATOR = VoiceName("default", "narrator")


def prepared_part(*, fill: float = 1.0, values: int = 1000, meta: Mapping[str, Any] | None = None) -> PreparedPart:
    """A part with two small tensors."""
    tensors: dict[str, NDArray[Any]] = {
        "weight": np.full((values,), fill, dtype=np.float32),
        "index": np.arange(6, dtype=np.int64).reshape(2, 3),
    }
    return PreparedPart(tensors=tensors, meta={"rate": 24000} if meta is None else meta)


def written_memfd(part: PreparedPart | None = None, *, sealed: bool = True) -> int:
    """A memfd with one arena in it; owned by the caller."""
    plan = ArenaPlan.of(part or prepared_part())
    fd = memfd.create("test-arena")
    os.ftruncate(fd, plan.total_bytes)
    plan.write(fd)
    if sealed:
        arena.seal(fd)
    return fd


def raw_memfd(content: bytes, *, seals: int = memfd.SEALS_ARENA) -> int:
    """A memfd with these bytes and seals; owned by the caller."""
    fd = memfd.create("test-raw")
    os.pwrite(fd, content, 0)
    memfd.add_seals(fd, seals)
    return fd


def revision_ref(
    *,
    handle: int = 1,
    voice: VoiceName = NARRATOR,
    slot: int = 0,
    parts: tuple[PartRef, ...] | None = None,
    memory: MemoryMode = MemoryMode.HOST,
) -> RevisionRef:
    """A revision whose digest follows from its handle."""
    return RevisionRef(
        voice=voice,
        slot=slot,
        handle=handle,
        revision=f"{handle:064x}",
        engine="demo",
        parts=parts or (PartRef(name="timbre", digest="ab" * 32, size_bytes=4096),),
        memory=memory,
    )


def open_fds() -> int:
    """How many descriptors this process has open now."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counting, not walking
