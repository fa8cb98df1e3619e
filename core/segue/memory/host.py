"""Host memory behind the weight-memory interface: sealed memfds, mapped read-only.

What runs on machines without a GPU, and the source that `gpu-copy` fills its slots from.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from typing_extensions import override

from segue.engine import PartView
from segue.errors import ArenaCorrupt
from segue.memory import memfd
from segue.memory.arena import Arena, Step
from segue.memory.arena import seal as seal_arena
from segue.memory.interface import Allocation, MappedPart, MemoryMode, MemoryUsage, WeightMapper, WeightMemory
from segue.memory.messages import PartRef
from segue.memory.pool import Background, Pool, run_now


class HostMemory(WeightMemory):
    """The sidecar's side: a `Pool` of arenas."""

    def __init__(
        self, budget_bytes: int, *, spares: int = 1, spare_bytes: int = 0, background: Background = run_now
    ) -> None:
        """See `Pool`. A sidecar gives its executor's `submit` as `background`."""
        self._pool = Pool(budget_bytes, spares=spares, spare_bytes=spare_bytes, background=background)

    @property
    @override
    def mode(self) -> MemoryMode:
        return MemoryMode.HOST

    @override
    def usage(self) -> MemoryUsage:
        return self._pool.usage()

    @override
    def settle(self) -> None:
        self._pool.settle()

    @override
    def allocate(self, size_bytes: int, *, name: str) -> Allocation:
        return self._pool.allocate(size_bytes, name=name)

    @override
    def seal(self, allocation: Allocation, *, owner: str) -> PartRef:
        seal_arena(allocation.fd)
        # Read strictly after sealing, when nobody can change it any more.
        digest = _claimed_digest(allocation)
        self._pool.keep(allocation, digest=digest, owner=owner)
        return PartRef(name=allocation.name, digest=digest, size_bytes=allocation.size_bytes)

    @override
    def abandon(self, allocation: Allocation) -> None:
        self._pool.abandon(allocation)

    @override
    def adopt(self, fds: Sequence[int], *, part: PartRef, owner: str) -> None:
        self._pool.adopt(_only(fds, part), digest=part.digest, size_bytes=part.size_bytes, owner=owner)

    @override
    def holds(self, digest: str) -> bool:
        return self._pool.holds(digest)

    @override
    def retain(self, digest: str, *, owner: str) -> None:
        self._pool.retain(digest, owner=owner)

    @override
    def release(self, digest: str, *, owner: str) -> None:
        self._pool.release(digest, owner=owner)

    @override
    def owners(self, digest: str) -> frozenset[str]:
        return self._pool.owners(digest)

    @override
    def export(self, digest: str) -> tuple[int, ...]:
        return (self._pool.export(digest),)

    @override
    def mark_holder(self, digest: str, *, holder: str) -> None:
        self._pool.mark_holder(digest, holder=holder)

    @override
    def clear_holder(self, digests: Iterable[str], *, holder: str) -> None:
        for digest in digests:
            self._pool.clear_holder(digest, holder=holder)

    @override
    def reap(self) -> tuple[str, ...]:
        return self._pool.reap()

    @override
    def grow_spare(self) -> bool:
        return self._pool.grow_spare()

    @override
    def close(self) -> None:
        self._pool.close()


class HostPart(MappedPart):
    """One arena as a worker maps it, with the descriptor that it gives back to a restarted sidecar."""

    def __init__(self, fd: int, part: PartRef) -> None:
        """Take over `fd` and map it; see `HostMapper.map`."""
        self._part = part
        self._fd = fd
        try:
            self._arena = Arena.open(fd)
        except BaseException:
            os.close(fd)
            raise
        found = (self._arena.digest, self._arena.size_bytes)
        if found != (part.digest, part.size_bytes):
            self.close()
            raise ArenaCorrupt(
                f"part {part.name!r} was offered as {part.digest} of {part.size_bytes} bytes, "
                f"but the arena says {found[0]} and has {found[1]} bytes: refused"
            )

    @property
    @override
    def part(self) -> PartRef:
        return self._part

    @property
    def arena(self) -> Arena:
        """The arena, which stays this part's."""
        return self._arena

    @override
    def view(self) -> PartView:
        return self._arena.part()

    @override
    def address_range(self) -> tuple[int, int]:
        return self._arena.address_range()

    @override
    def prefault(self) -> None:
        self._arena.prefault()

    @override
    def verify(self, *, step: Step | None = None) -> None:
        self._arena.verify_digest(self._part.digest, step=step)

    @override
    def export(self) -> tuple[int, ...]:
        return (os.dup(self._fd),)

    @override
    def close(self) -> None:
        if self._fd < 0:
            return
        self._arena.close()
        os.close(self._fd)
        self._fd = -1


class HostMapper(WeightMapper):
    """The worker's side: map sealed arenas read-only."""

    @override
    def map(self, fds: Sequence[int], part: PartRef) -> HostPart:
        try:
            fd = _only(fds, part)
        except ArenaCorrupt:
            memfd.close_all(fds)
            raise
        return HostPart(fd, part)


def _only(fds: Sequence[int], part: PartRef) -> int:
    if len(fds) != 1:
        raise ArenaCorrupt(
            f"part {part.name!r} came with {len(fds)} descriptors: it lies in device memory, and this process takes "
            "host memory only; set the same memory mode for sidecar and server"
        )
    return fds[0]


def _claimed_digest(allocation: Allocation) -> str:
    arena = Arena.open(allocation.fd)
    try:
        if arena.size_bytes != allocation.size_bytes:
            raise ArenaCorrupt(
                f"{allocation.name!r} was allocated {allocation.size_bytes} bytes, but {arena.size_bytes} were written"
            )
        return arena.digest
    finally:
        arena.close()
