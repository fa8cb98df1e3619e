"""`gpu-copy`: host arenas, copied by each worker into slots of its own.

For workers that cannot map what the sidecar has on a device: another device, or a sidecar without one. The sealed host
arena stays mapped beside the copy, as the worker's claim to the part and as what it gives back to a restarted sidecar.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from typing_extensions import override

from segue.engine import PartView
from segue.errors import DeviceError, DigestMismatch
from segue.memory.arena import Step
from segue.memory.device.array import Lender, device_view
from segue.memory.device.departure import Departure, Elsewhere, run_here
from segue.memory.device.device import CudaDevice
from segue.memory.device.mapping import digest_on_device
from segue.memory.device.slots import Slot, SlotPool
from segue.memory.device.uploading import Sleep, copy_arena
from segue.memory.host import HostMapper, HostPart
from segue.memory.interface import MappedPart, WeightMapper
from segue.memory.messages import PartRef

Leave = Callable[[str], None]
"""Told the digest of a part that is used once fewer."""


@dataclass(slots=True, eq=False)
class _Copy:
    """One part on the device, and how many revisions here speak with it."""

    slot: Slot
    users: int = 1


class CopyMapper(WeightMapper):
    """Copies parts to one device. `map` belongs to one thread, parts may be closed on another."""

    def __init__(
        self,
        device: CudaDevice,
        slots: SlotPool,
        *,
        bytes_per_s: float = 0.0,
        elsewhere: Elsewhere = run_here,
        sleep: Sleep = time.sleep,
    ) -> None:
        """Copy on a stream that gives way to others, no faster than `bytes_per_s` (0: as fast as it goes).

        Slots are given back `elsewhere`: whoever makes one meanwhile keeps the pool for as long as the driver takes.
        """
        self._elsewhere = elsewhere
        self._device = device
        self.slots = slots
        self._bytes_per_s = bytes_per_s
        self._sleep = sleep
        self._stream: int | None = None
        self._copies: dict[str, _Copy] = {}
        self._lock = threading.Lock()

    @override
    def map(self, fds: Sequence[int], part: PartRef) -> CopiedPart:
        """Map the host arena and have it on the device; a part that is there already is shared."""
        host = HostMapper().map(fds, part)
        try:
            slot = self._shared(part.digest) or self._copied(host)
        except BaseException:
            host.close()
            raise
        self.slots.keep_spare(slot.kind)
        return CopiedPart(host, slot, cuda=self._device, leave=self._leave, elsewhere=self._elsewhere)

    def _shared(self, digest: str) -> Slot | None:
        with self._lock:
            copy = self._copies.get(digest)
            if copy is None:
                return None
            copy.users += 1
            return copy.slot

    def _copied(self, host: HostPart) -> Slot:
        slot = self.slots.take(host.part.size_bytes, name=host.part.name)
        try:
            if self._stream is None:
                self._stream = self._device.new_stream()
            copy_arena(
                self._device,
                host.arena,
                slot.address,
                stream=self._stream,
                bytes_per_s=self._bytes_per_s,
                sleep=self._sleep,
            )
        except DeviceError:
            self.slots.discard(slot)
            raise
        except BaseException:
            self.slots.give_back(slot)
            raise
        with self._lock:
            self._copies[host.part.digest] = _Copy(slot)
        return slot

    def _leave(self, digest: str) -> None:
        with self._lock:
            copy = self._copies[digest]
            copy.users -= 1
            if copy.users:
                return
            del self._copies[digest]
        self.slots.give_back(copy.slot)


class CopiedPart(MappedPart):
    """One part in a slot."""

    def __init__(
        self,
        host: HostPart,
        slot: Slot,
        *,
        cuda: CudaDevice,
        leave: Leave,
        elsewhere: Elsewhere,
    ) -> None:
        """Take over the host arena and one use of the slot; see `CopyMapper.map`."""
        self._host = host
        self._slot = slot
        self._device = cuda
        self._lender = Lender()
        digest = host.part.digest
        self._departure = Departure(cuda, self._lender, last=lambda: leave(digest), elsewhere=elsewhere)

    @property
    @override
    def part(self) -> PartRef:
        return self._host.part

    @property
    @override
    def leaving(self) -> bool:
        return self._departure.begun

    @override
    def view(self) -> PartView:
        return device_view(
            self._host.arena.header, address=self._slot.address, device=self._device.dlpack_device, lender=self._lender
        )

    @override
    def address_range(self) -> tuple[int, int]:
        return self._slot.address, self._slot.address + self.part.size_bytes

    @override
    def prefault(self) -> None:
        """Nothing to do: a device's memory is there from the first moment on."""

    @override
    def verify(self, *, step: Step | None = None) -> None:
        head = self._host.arena.head
        found = digest_on_device(self._device, self._slot.address, self.part.size_bytes, head=head, step=step)
        if found != self.part.digest:
            raise DigestMismatch(
                f"part {self.part.name!r} hashes to {found} on the device, but must be {self.part.digest}: refused"
            )

    @override
    def export(self) -> tuple[int, ...]:
        return self._host.export()

    @override
    def close(self) -> None:
        self._departure.proceed()
        self._host.close()
