"""What a kind of weight memory must be able to do.

Host memory does it now (`host`); device memory shared by the sidecar (`gpu-shared`) and device slots filled from host
arenas (`gpu-copy`) will do it behind the same two protocols. Sidecar and server use nothing else of the memory, so a
mode is chosen in one place.

A part is known by its key: the digest of its content. The same key in two revisions is the same memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from segue.engine import PartView
from segue.memory.messages import PartRef


class MemoryMode(StrEnum):
    """Where weights live while somebody speaks with them."""

    HOST = "host"
    GPU_SHARED = "gpu-shared"
    GPU_COPY = "gpu-copy"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUsage:
    """The pool in figures, all in bytes.

    Attributes
    ----------
    budget_bytes
        What may be used.
    used_bytes
        Resident parts, parts being filled, and parts let go that somebody may still hold.
    lingering_bytes
        The share of `used_bytes` that was let go, but may still be held or is on its way back to the kernel.
    spare_bytes
        Pre-faulted and not yet used; given up when room is needed.
    peak_bytes
        The most that used and spare bytes together ever came to.
    """

    budget_bytes: int
    used_bytes: int
    lingering_bytes: int
    spare_bytes: int
    peak_bytes: int

    @property
    def free_bytes(self) -> int:
        """What an allocation can still get, spares included; negative after adopting more than the budget."""
        return self.budget_bytes - self.used_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """Memory of a part that is being filled.

    Attributes
    ----------
    fd
        Writable; stays the memory's. Pass it to the child that fills (`pass_fds`), which writes exactly one arena.
    name
        Of the part; also the memfd's name in /proc/PID/maps.
    size_bytes
        That the budget keeps for it. The file may be longer until `ArenaPlan.write` has cut it.
    warm
        Its pages came from a spare: filling them takes no new memory.
    """

    fd: int
    name: str
    size_bytes: int
    warm: bool


class WeightMemory(Protocol):
    """The owner's side, in the sidecar. Not thread-safe: the sidecar's loop owns it."""

    @property
    def mode(self) -> MemoryMode:
        """Which kind this is."""
        ...

    def usage(self) -> MemoryUsage:
        """The figures of now."""
        ...

    def settle(self) -> None:
        """Every worker has said hello or is dead: from now on memory may be allocated.

        Before, arenas that only a worker still holds are not in the books, and allocating beside them would take the
        memory twice.
        """
        ...

    def allocate(self, size_bytes: int, *, name: str) -> Allocation:
        """Make room for one part, fresh and zeroed, warm where a spare fits. Fast: filling takes the memory.

        Raises
        ------
        PoolExhausted
            The budget has no room; carries the figures. Evict (`eviction.choose_evictions`), `reap`, try again.
        NotReady
            `settle` was not called yet.
        """
        ...

    def seal(self, allocation: Allocation, *, owner: str) -> PartRef:
        """The part is written: seal it, check its header, keep it for `owner`. Returns name, key and size.

        The content is hashed apart (`Arena.verify_digest`, in a child), because that takes long. A part that is there
        already is kept once, and the new copy let go.

        Raises
        ------
        ArenaCorrupt
            What was written is no arena.
        MemoryError_
            Somebody still maps it writable.
        """
        ...

    def abandon(self, allocation: Allocation) -> None:
        """Give up an allocation that was not finished; its memory counts until the child that filled it is gone."""
        ...

    def adopt(self, fd: int, *, part: PartRef, owner: str) -> None:
        """Take over a part that a worker gave back. `fd` stays the caller's. Counts against the budget, even over it.

        Checks seals, owner and size. The content is re-hashed apart (`Arena.verify_digest`), because that takes long.

        Raises
        ------
        ArenaCorrupt
            Not a part that this pod's sidecar made.
        """
        ...

    def holds(self, digest: str) -> bool:
        """Whether this part is resident and not let go."""
        ...

    def retain(self, digest: str, *, owner: str) -> None:
        """`owner` (a revision) needs this part, too; brings back one that was let go but is not free yet.

        Raises
        ------
        KeyError
            The part is not here (any more).
        """
        ...

    def release(self, digest: str, *, owner: str) -> None:
        """`owner` needs this part no longer. The memory is free when `reap` says so. Idempotent."""
        ...

    def owners(self, digest: str) -> frozenset[str]:
        """Who needs this part."""
        ...

    def export(self, digest: str) -> int:
        """A new read-only description of the part, for one worker or child; owned by the caller.

        Raises
        ------
        KeyError
            The part is not here.
        """
        ...

    def mark_holder(self, digest: str, *, holder: str) -> None:
        """Note that a worker got this part. Only asked where the kernel cannot say who holds what."""
        ...

    def clear_holder(self, digests: Iterable[str], *, holder: str) -> None:
        """The worker said `retired` for these, or died."""
        ...

    def reap(self) -> tuple[str, ...]:
        """Free what was let go and is held by nobody; returns the digests. Their bytes count until they are given back.

        Cheap: call it after each `retired`, worker death and child exit, and each second while `lingering_bytes` is
        not 0.
        """
        ...

    def grow_spare(self) -> bool:
        """One small step of pre-faulting a spare, within the budget. False: nothing left to do for now."""
        ...

    def close(self) -> None:
        """Close every descriptor. What workers map lives on."""
        ...


class MappedPart(Protocol):
    """One part in a worker, readable."""

    @property
    def part(self) -> PartRef:
        """What it is."""
        ...

    def view(self) -> PartView:
        """What `Engine.build` takes. Views keep the memory mapped."""
        ...

    def address_range(self) -> tuple[int, int]:
        """First and past-the-end address: where a row's parameters must lie."""
        ...

    def prefault(self) -> None:
        """Make the first request not pay for page faults. May take tens of milliseconds: not on the loop."""
        ...

    def verify(self) -> None:
        """Re-hash the content. Long: not on the loop.

        Raises
        ------
        DigestMismatch
            Not the bytes promised.
        """
        ...

    def export(self) -> int:
        """A duplicate of the descriptor, to give back to a restarted sidecar; owned by the caller."""
        ...

    def close(self) -> None:
        """Unmap and drop the descriptor. Idempotent. Takes milliseconds for large parts: not on the loop.

        Raises
        ------
        BufferError
            A view still lives.
        """
        ...


class WeightMapper(Protocol):
    """The reader's side, in workers and provers."""

    def map(self, fd: int, part: PartRef) -> MappedPart:
        """Map a part. Takes over `fd`, also when it raises.

        Raises
        ------
        ArenaCorrupt
            Header, seals, size or digest field do not fit `part`.
        """
        ...
