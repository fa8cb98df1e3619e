"""What a kind of weight memory must be able to do.

Host memory (`host`), device memory shared by the sidecar (`device.shared`) and device slots filled from host arenas
(`device.copying`) do it behind the same two protocols. Sidecar and server use nothing else of the memory, so a mode is
chosen in one place.

A part is known by its key: the digest of its content. The same key in two revisions is the same memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from segue.engine import PartView
from segue.memory import memfd
from segue.memory.arena import Step
from segue.memory.messages import PartRef
from segue.memory.mode import MemoryMode

__all__ = [
    "Allocation",
    "MappedPart",
    "MemoryMode",
    "MemoryUsage",
    "Upload",
    "WeightMapper",
    "WeightMemory",
]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A sealed part that is to be copied to where it will be spoken with from.

    Attributes
    ----------
    part
        What it is.
    fds
        Fresh descriptors, the receiver's: the sealed host arena, then what `WeightMemory.export` gives.
    """

    part: PartRef
    fds: tuple[int, ...]


class WeightMemory(Protocol):
    """The owner's side, in the sidecar. Not thread-safe: the sidecar's loop owns it."""

    @property
    def mode(self) -> MemoryMode:
        """Which kind this is."""
        ...

    def usage(self) -> MemoryUsage:
        """The figures of now, of the budget that resident parts count against."""
        ...

    def budgets(self) -> Mapping[str, MemoryUsage]:
        """The figures of every budget there is: `host`, and `gpu` where parts live on a device."""
        return {"host": self.usage()}

    @property
    def mapping_terms(self) -> Mapping[str, Any]:
        """What a child must be told so that it can map parts; plain JSON (see `segue_sidecar.children.mapping`)."""
        return {"mode": MemoryMode.HOST.value, "device": "cpu"}

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

    def uploads(self, digests: Iterable[str]) -> tuple[Upload, ...]:
        """Which of these parts have yet to be copied before they can be exported. A child does it; then `uploaded`.

        None in host memory: a part is spoken with from where it was written.
        """
        return ()

    def uploaded(self, digest: str) -> None:
        """The part was copied and hashed where it lies now. Idempotent."""
        return

    def adopt(self, fds: Sequence[int], *, part: PartRef, owner: str) -> None:
        """Take over a part that a worker gave back. `fds` stay the caller's. Counts against the budget, even over it.

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

    def export(self, digest: str) -> tuple[int, ...]:
        """The part's descriptors for one worker or child, as many as `mode.descriptors`; owned by the caller.

        The first is a new read-only description, by which the kernel can say who still holds the part.

        Raises
        ------
        KeyError
            The part is not here.
        MemoryError_
            It was not uploaded yet.
        """
        ...

    def export_all(self, parts: Iterable[PartRef]) -> list[int]:
        """The descriptors of several parts, one after the other, as `export` gives them; all or none."""
        fds: list[int] = []
        try:
            for part in parts:
                fds += self.export(part.digest)
        except BaseException:
            memfd.close_all(fds)
            raise
        return fds

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

    @property
    def leaving(self) -> bool:
        """Whether `close` was begun and cannot be taken back: then nobody new may use this mapping."""
        return False

    def view(self) -> PartView:
        """What `Engine.build` takes. Views keep the memory mapped."""
        ...

    def address_range(self) -> tuple[int, int]:
        """First and past-the-end address: where a row's parameters must lie."""
        ...

    def prefault(self) -> None:
        """Make the first request not pay for page faults. May take tens of milliseconds: not on the loop."""
        ...

    def verify(self, *, step: Step | None = None) -> None:
        """Re-hash the content. Long: not on the loop. `step` is called after each 4 MiB.

        Raises
        ------
        DigestMismatch
            Not the bytes promised.
        """
        ...

    def export(self) -> tuple[int, ...]:
        """Duplicates of the descriptors, to give back to a restarted sidecar; owned by the caller."""
        ...

    def close(self) -> None:
        """Unmap and drop the descriptors. Idempotent. In host memory milliseconds for large parts: not on the loop.

        Raises
        ------
        BufferError
            Not yet: a view still lives, or a device still works with it. Try again; nothing was lost.
        """
        ...


class WeightMapper(Protocol):
    """The reader's side, in workers and provers."""

    def map(self, fds: Sequence[int], part: PartRef) -> MappedPart:
        """Map a part from what `WeightMemory.export` gave. Takes over `fds`, also when it raises.

        Raises
        ------
        ArenaCorrupt
            Header, seals, size or digest field do not fit `part`.
        """
        ...
