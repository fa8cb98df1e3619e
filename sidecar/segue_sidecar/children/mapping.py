"""Sealed arenas in a child, mapped and hashed as a worker maps them. Shared by proving and re-hashing."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from segue.memory.arena import Arena, Step
from segue.memory.host import HostMapper, HostPart
from segue.memory.messages import PartRef
from segue_sidecar.children.channel import Channel, JobError


def part_refs(described: Sequence[Mapping[str, Any]]) -> list[PartRef]:
    """Parts as a job names them: `[{"name", "digest", "size"}]`."""
    return [PartRef(name=each["name"], digest=each["digest"], size_bytes=each["size"]) for each in described]


@contextmanager
def mapped(parts: Sequence[PartRef], fds: Sequence[int]) -> Iterator[list[HostPart]]:
    """Map every part; takes the descriptors over.

    Raises
    ------
    ArenaCorrupt
        A header does not fit what was promised.
    JobError
        ViewsHeld: the engine did not let go, so a worker could never retire this revision.
    """
    mapper = HostMapper()
    opened: list[HostPart] = []
    try:
        opened.extend(mapper.map(fd, part) for part, fd in zip(parts, fds, strict=True))
        yield opened
    except BaseException:
        # The traceback may hold views; the process ends soon and takes the mappings with it.
        with contextlib.suppress(BufferError):
            _close(opened)
        raise
    try:
        _close(opened)
    except BufferError as error:
        raise JobError("ViewsHeld", f"the engine keeps views into the weights after close(): {error}") from error


def _close(parts: Sequence[HostPart]) -> None:
    gc.collect()
    for part in parts:
        part.close()


def hash_all(parts: Sequence[PartRef], fds: Sequence[int], channel: Channel) -> None:
    """Hash every arena's content and compare it with its digest. The descriptors stay the caller's.

    Raises
    ------
    DigestMismatch
        The bytes are not the ones promised.
    """
    total = sum(part.size_bytes for part in parts)
    before = 0
    for part, fd in zip(parts, fds, strict=True):
        arena = Arena.open(fd)
        try:
            arena.verify_digest(part.digest, step=_step(channel, before=before, total=total))
        finally:
            arena.close()
        before += part.size_bytes


def _step(channel: Channel, *, before: int, total: int) -> Step:
    return lambda done: channel.progress("verify", done=before + done, total=total)
