"""`gpu-shared`, the sidecar's side: device memory that the sidecar owns and workers map read-only.

A part is written into a host arena as everywhere (staging), then a child copies it to the device and hashes it there
(`upload`); only then can it be exported, and the staging is let go. So the child that reads hostile files never sees
the device, and the sidecar itself never makes a context: it creates allocations, keeps their descriptors, and outlives
whatever happens to the device's contexts.

Two budgets: what is resident counts against the device's, what is being filled against that of host memory, too.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from typing_extensions import override

from segue.errors import ArenaCorrupt, MemoryError_
from segue.memory import memfd
from segue.memory.device.device import CudaDevice
from segue.memory.device.driver import BINDINGS
from segue.memory.device.pool import DevicePool, Room
from segue.memory.device.token import make_token, read_token
from segue.memory.host import HostMemory
from segue.memory.interface import Allocation, MemoryMode, MemoryUsage, Upload, WeightMemory
from segue.memory.messages import PartRef
from segue.memory.pool import Background, run_now

_STAGING = "staging"


class SharedDeviceMemory(WeightMemory):
    """Parts on one device."""

    def __init__(
        self,
        device: CudaDevice,
        *,
        budget_bytes: int,
        staging: HostMemory,
        driver: str = BINDINGS,
        background: Background = run_now,
    ) -> None:
        """Take over `staging`. `driver` is what children load to reach the same device."""
        self._device = device
        self._driver = driver
        self._staging = staging
        self._pool = DevicePool(
            budget_bytes,
            device=device.uuid,
            granularity=device.granularity,
            create=device.create_shared,
            background=background,
        )
        self._rooms: dict[int, Room] = {}  # by the staging descriptor
        self._unfilled: set[str] = set()

    @property
    @override
    def mode(self) -> MemoryMode:
        return MemoryMode.GPU_SHARED

    @override
    def usage(self) -> MemoryUsage:
        return self._pool.usage()

    @override
    def budgets(self) -> Mapping[str, MemoryUsage]:
        return {"host": self._staging.usage(), "gpu": self._pool.usage()}

    @property
    @override
    def mapping_terms(self) -> Mapping[str, Any]:
        return {
            "mode": self.mode.value,
            "device": self._device.engine_device,
            "cuda": f"cuda:{self._device.ordinal}",
            "driver": self._driver,
        }

    @override
    def settle(self) -> None:
        self._staging.settle()

    # --- filling ----------------------------------------------------------------------------------------------------

    @override
    def allocate(self, size_bytes: int, *, name: str) -> Allocation:
        """As in host memory; the device's memory is taken first, so that a full device is known before any work."""
        room = self._pool.make_room(size_bytes, name=name)
        try:
            allocation = self._staging.allocate(size_bytes, name=name)
        except BaseException:
            self._pool.give_up(room)
            raise
        self._rooms[allocation.fd] = room
        return allocation

    @override
    def seal(self, allocation: Allocation, *, owner: str) -> PartRef:
        part = self._staging.seal(allocation, owner=_STAGING)
        room = self._rooms.pop(allocation.fd)
        already = self._pool.holds(part.digest)
        try:
            (arena_fd,) = self._staging.export(part.digest)
            try:
                token_fd = make_token(arena_fd, self._pool.place_of(room), name=part.name)
            finally:
                os.close(arena_fd)
        except BaseException:
            self._pool.give_up(room)
            self._forget_staging(part.digest)
            raise
        self._pool.keep(token_fd, room, digest=part.digest, owner=owner)
        if not already:
            self._unfilled.add(part.digest)
        elif part.digest not in self._unfilled:
            self._forget_staging(part.digest)
        return part

    @override
    def abandon(self, allocation: Allocation) -> None:
        self._staging.abandon(allocation)
        room = self._rooms.pop(allocation.fd, None)
        if room is not None:
            self._pool.give_up(room)

    @override
    def uploads(self, digests: Iterable[str]) -> tuple[Upload, ...]:
        found: list[Upload] = []
        try:
            for digest in digests:
                if digest in self._unfilled:
                    found.append(self._upload(digest))
        except BaseException:
            for upload in found:
                memfd.close_all(upload.fds)
            raise
        return tuple(found)

    def _upload(self, digest: str) -> Upload:
        fds = [*self._staging.export(digest)]
        try:
            fds += self._pool.export(digest)
            size_bytes = os.fstat(fds[0]).st_size
        except BaseException:
            memfd.close_all(fds)
            raise
        return Upload(part=PartRef(name="part", digest=digest, size_bytes=size_bytes), fds=tuple(fds))

    @override
    def uploaded(self, digest: str) -> None:
        if digest in self._unfilled:
            self._unfilled.discard(digest)
            self._forget_staging(digest)

    def _forget_staging(self, digest: str) -> None:
        self._staging.release(digest, owner=_STAGING)
        self._staging.reap()

    # --- who needs it -----------------------------------------------------------------------------------------------

    @override
    def adopt(self, fds: Sequence[int], *, part: PartRef, owner: str) -> None:
        if len(fds) != self.mode.descriptors:
            raise ArenaCorrupt(
                f"part {part.name!r} came back with {len(fds)} descriptors instead of a token and device memory: "
                "the memory mode was changed, it is loaded again"
            )
        token_fd, device_fd = fds
        memfd.require_owner(token_fd, uid=os.geteuid(), what="the token of a device arena")
        token = read_token(token_fd, part=part)
        if token.place.device != self._device.uuid:
            raise ArenaCorrupt(
                f"part {part.name!r} lies on device {token.place.device}, this sidecar's is {self._device.uuid}: "
                "it is loaded again"
            )
        self._pool.adopt(token_fd, device_fd, token.place, digest=part.digest, owner=owner)

    @override
    def holds(self, digest: str) -> bool:
        return self._pool.holds(digest)

    @override
    def retain(self, digest: str, *, owner: str) -> None:
        self._pool.retain(digest, owner=owner)

    @override
    def release(self, digest: str, *, owner: str) -> None:
        unfilled = digest in self._unfilled
        if self._pool.release(digest, owner=owner, usable=not unfilled) and unfilled:
            self._unfilled.discard(digest)
            self._forget_staging(digest)

    @override
    def owners(self, digest: str) -> frozenset[str]:
        return self._pool.owners(digest)

    @override
    def export(self, digest: str) -> tuple[int, ...]:
        if digest in self._unfilled:
            raise MemoryError_(f"the part {digest[:10]} was not copied to the device yet: upload it first")
        return self._pool.export(digest)

    @override
    def mark_holder(self, digest: str, *, holder: str) -> None:
        self._pool.mark_holder(digest, holder=holder)

    @override
    def clear_holder(self, digests: Iterable[str], *, holder: str) -> None:
        for digest in digests:
            self._pool.clear_holder(digest, holder=holder)

    @override
    def reap(self) -> tuple[str, ...]:
        self._staging.reap()
        return self._pool.reap()

    @override
    def grow_spare(self) -> bool:
        return self._staging.grow_spare()

    @override
    def close(self) -> None:
        with contextlib.ExitStack() as both:
            both.callback(self._staging.close)
            both.callback(self._pool.close)
