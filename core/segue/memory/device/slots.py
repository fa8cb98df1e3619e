"""`gpu-copy`: the slots of one worker, device memory at addresses that stay.

Slots come in classes: the part's name and its size in whole granules. Whoever needs room gets a free slot of its class,
so that revisions of a voice, and voices of one shape, take turns on the same addresses, and nothing that was captured
for an address has to be captured anew. Beside those in use one slot of each class in use is kept ready: the memory for
the next preload is certain before it is needed. So a voice that is updated has two; a preload that supersedes another
one under a watch finds both taken and gets a third, if the budget has it, which stays until somebody needs the room.

The decision is pure (`choose`); `SlotPool` carries it out. A slot that a copy may still be writing to, because its
device hung or was lost in the middle, is never used again.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from segue.errors import DeviceFull, PoolExhausted
from segue.memory.arena_header import round_up
from segue.memory.device.device import CudaDevice
from segue.memory.interface import MemoryUsage

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SlotClass:
    """Slots of one class are interchangeable."""

    name: str
    size_bytes: int


@dataclass(slots=True, eq=False)
class Slot:
    """Device memory at a fixed address. `released` orders free slots by when they became so."""

    kind: SlotClass
    address: int
    taken: bool = False
    released: int = 0


@dataclass(frozen=True, slots=True)
class Use:
    """Take this free slot."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class Make:
    """Make a new slot, after these free ones of other classes were given back to the device."""

    give_up: tuple[Slot, ...] = ()


@dataclass(frozen=True, slots=True)
class Refuse:
    """There is no room; so many bytes could be had."""

    free_bytes: int


Decision: TypeAlias = Use | Make | Refuse


def choose(slots: Sequence[Slot], kind: SlotClass, *, budget_bytes: int) -> Decision:
    """Where a part of this class goes: a free slot of its class, new memory, or that of others' free slots.

    Of others the one that has been free for longest goes first, and none in vain.
    """
    free = sorted((slot for slot in slots if not slot.taken), key=lambda slot: slot.released)
    own = [slot for slot in free if slot.kind == kind]
    if own:
        return Use(own[-1])
    room_bytes = budget_bytes - sum(slot.kind.size_bytes for slot in slots)
    give_up: list[Slot] = []
    for slot in free:
        if room_bytes >= kind.size_bytes:
            break
        give_up.append(slot)
        room_bytes += slot.kind.size_bytes
    if room_bytes < kind.size_bytes:
        return Refuse(max(0, room_bytes))
    for spared in give_up.copy():
        if room_bytes - spared.kind.size_bytes >= kind.size_bytes:
            give_up.remove(spared)
            room_bytes -= spared.kind.size_bytes
    return Make(tuple(give_up))


def wants_spare(slots: Sequence[Slot], kind: SlotClass, *, budget_bytes: int) -> bool:
    """Whether a slot of this class should be made for the next preload: none is free, and the budget has room as is."""
    if any(slot.kind == kind and not slot.taken for slot in slots):
        return False
    return sum(slot.kind.size_bytes for slot in slots) + kind.size_bytes <= budget_bytes


@dataclass(slots=True)
class SlotPool:
    """All slots of one worker. Thread-safe; what takes the driver long is done by the caller of `take`."""

    device: CudaDevice
    budget_bytes: int
    _slots: list[Slot] = field(default_factory=list)
    _lost_bytes: int = 0
    _peak_bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ticks: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def usage(self) -> MemoryUsage:
        """The figures of now; `spare_bytes` are free slots."""
        with self._lock:
            free_bytes = sum(slot.kind.size_bytes for slot in self._slots if not slot.taken)
            all_bytes = self._all_bytes()
        return MemoryUsage(
            budget_bytes=self.budget_bytes,
            used_bytes=all_bytes - free_bytes,
            lingering_bytes=self._lost_bytes,
            spare_bytes=free_bytes,
            peak_bytes=self._peak_bytes,
        )

    def take(self, size_bytes: int, *, name: str) -> Slot:
        """A slot for a part of this name and size. May take the driver milliseconds: not on a serving thread.

        Raises
        ------
        PoolExhausted
            Neither free slots nor budget nor device have room; carries the figures.
        """
        kind = SlotClass(name, round_up(size_bytes, self.device.granularity))
        with self._lock:
            decision = choose(self._slots, kind, budget_bytes=self.budget_bytes - self._lost_bytes)
            match decision:
                case Use():
                    slot = decision.slot
                case Make():
                    slot = self._make(kind, decision.give_up)
                case Refuse():
                    raise self._exhausted(kind, decision.free_bytes, "the budget is full")
            slot.taken = True
            return slot

    def keep_spare(self, kind: SlotClass) -> None:
        """Have a free slot of this class, if there is room. A device that is full is no error: there is none then."""
        with self._lock, contextlib.suppress(PoolExhausted):
            if wants_spare(self._slots, kind, budget_bytes=self.budget_bytes - self._lost_bytes):
                self._make(kind, ())

    def give_back(self, slot: Slot) -> None:
        """Nothing reads or writes the slot any more: the next may have it, at the same address."""
        with self._lock:
            slot.taken = False
            slot.released = next(self._ticks)

    def discard(self, slot: Slot) -> None:
        """Something may still write to the slot, and nobody can tell: nobody gets it again, and it counts for ever."""
        with self._lock:
            self._slots.remove(slot)
            self._lost_bytes += slot.kind.size_bytes

    def _make(self, kind: SlotClass, give_up: Sequence[Slot]) -> Slot:
        for slot in give_up:
            self._slots.remove(slot)
            self.device.unmap(slot.address, slot.kind.size_bytes)
        try:
            address = self.device.create(kind.size_bytes)
        except DeviceFull as error:
            raise self._exhausted(kind, 0, str(error)) from error
        slot = Slot(kind, address, released=next(self._ticks))
        self._slots.append(slot)
        self._peak_bytes = max(self._peak_bytes, self._all_bytes())
        log.info("%s slot of %d bytes: %d in use or ready", kind.name, kind.size_bytes, len(self._slots))
        return slot

    def _all_bytes(self) -> int:
        return sum(slot.kind.size_bytes for slot in self._slots) + self._lost_bytes

    def _exhausted(self, kind: SlotClass, free_bytes: int, why: str) -> PoolExhausted:
        return PoolExhausted(
            f"{kind.name} needs a slot of {kind.size_bytes} bytes on the device, and {free_bytes} of this worker's "
            f"{self.budget_bytes} can be had: {why}; raise gpu.budgetBytes of the server if the device has more, or "
            "keep fewer revisions",
            needed_bytes=kind.size_bytes,
            free_bytes=free_bytes,
            budget_bytes=self.budget_bytes,
        )
