"""Sealed parts in a child, mapped and hashed as a worker maps them. Shared by proving, probing and re-hashing.

`terms` is what `WeightMemory.mapping_terms` says: the kind of memory, and the device that parts are built on.
"""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from segue.memory.device.device import CudaDevice
from segue.memory.device.mapping import SharedMapper, SharedPart
from segue.memory.host import HostMapper
from segue.memory.interface import MappedPart, WeightMapper
from segue.memory.messages import PartRef
from segue.memory.mode import MemoryMode
from segue_sidecar.children.channel import Channel, JobError

_CLOSE_WITHIN_S = 10.0
"""How long a device may work on after an engine has let go."""


def part_refs(described: Sequence[Mapping[str, Any]]) -> list[PartRef]:
    """Parts as a job names them: `[{"name", "digest", "size"}]`."""
    return [PartRef(name=each["name"], digest=each["digest"], size_bytes=each["size"]) for each in described]


def fds_of(parts: Sequence[PartRef], terms: Mapping[str, Any]) -> int:
    """How many descriptors these parts come with."""
    return len(parts) * MemoryMode(terms["mode"]).descriptors


def descriptors_of(
    some: Iterable[PartRef], parts: Sequence[PartRef], fds: Sequence[int], terms: Mapping[str, Any]
) -> list[int]:
    """The descriptors of some of these parts."""
    own = {part.name: theirs for part, theirs in _grouped(parts, fds, terms)}
    return [fd for part in some for fd in own[part.name]]


def map_all(parts: Sequence[PartRef], fds: Sequence[int], terms: Mapping[str, Any]) -> list[MappedPart]:
    """Map every part for as long as this process lives; takes the descriptors over.

    Raises
    ------
    MemoryError_
        A header does not fit what was promised, or the device refuses.
    """
    mapper = mapper_of(terms)
    return [mapper.map(own, part) for part, own in _grouped(parts, fds, terms)]


@contextmanager
def mapped(parts: Sequence[PartRef], fds: Sequence[int], terms: Mapping[str, Any]) -> Iterator[list[MappedPart]]:
    """Map every part; takes the descriptors over.

    Raises
    ------
    MemoryError_
        A header does not fit what was promised, or the device refuses.
    JobError
        ViewsHeld: the engine did not let go, so a worker could never retire this revision.
    """
    mapper = mapper_of(terms)
    opened: list[MappedPart] = []
    try:
        opened.extend(mapper.map(own, part) for part, own in _grouped(parts, fds, terms))
        yield opened
    except BaseException:
        # The traceback may hold views; the process ends soon and takes the mappings with it.
        with contextlib.suppress(BufferError):
            _close(opened, within_s=0.0)
        raise
    try:
        _close(opened, within_s=_CLOSE_WITHIN_S if mapper is not _HOST else 0.0)
    except BufferError as error:
        raise JobError("ViewsHeld", f"the engine keeps views into the weights after close(): {error}") from error


def hash_all(parts: Sequence[PartRef], fds: Sequence[int], terms: Mapping[str, Any], channel: Channel) -> None:
    """Hash every part's content and compare it with its digest. The descriptors stay the caller's.

    Raises
    ------
    DigestMismatch
        The bytes are not the ones promised.
    """
    mapper = mapper_of(terms)
    total = sum(part.size_bytes for part in parts)
    before = 0
    for part, own in _grouped(parts, fds, terms):
        opened = mapper.map([os.dup(fd) for fd in own], part)
        try:
            opened.verify(step=channel.steps("verify", before=before, total=total))
        finally:
            _close([opened], within_s=_CLOSE_WITHIN_S)
        before += part.size_bytes


def device_parts(parts: Sequence[PartRef], fds: Sequence[int], terms: Mapping[str, Any]) -> list[SharedPart]:
    """Parts in device memory, mapped for the rest of this process; takes the descriptors over."""
    mapper = SharedMapper(device_of(terms))
    return [mapper.map(own, part) for part, own in _grouped(parts, fds, terms)]


def mapper_of(terms: Mapping[str, Any]) -> WeightMapper:
    """What maps parts of the kind that `terms` names."""
    if terms["mode"] == MemoryMode.HOST:
        return _HOST
    return SharedMapper(device_of(terms))


def device_of(terms: Mapping[str, Any]) -> CudaDevice:
    """The device that `terms` name, seen from this process."""
    return CudaDevice.open(terms["cuda"], driver=terms["driver"])


_HOST = HostMapper()


def _grouped(
    parts: Sequence[PartRef], fds: Sequence[int], terms: Mapping[str, Any]
) -> list[tuple[PartRef, Sequence[int]]]:
    each = MemoryMode(terms["mode"]).descriptors
    return [(part, fds[place * each : (place + 1) * each]) for place, part in enumerate(parts)]


def _close(parts: Sequence[MappedPart], *, within_s: float) -> None:
    """Close all; in host memory at once or not at all, on a device as soon as it has finished."""
    gc.collect()
    ends_s = time.monotonic() + within_s
    for part in parts:
        while True:
            try:
                part.close()
                break
            except BufferError:
                if time.monotonic() >= ends_s:
                    raise
                time.sleep(0.005)
