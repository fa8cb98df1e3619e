"""`gpu-shared`, the reader's side: map what the sidecar put on the device, read-only, and keep it findable.

A worker keeps both descriptors for as long as it maps a part: the token's, by which the kernel knows that the part is
held, and the device's, so that the memory outlives the sidecar and can be given back to the next one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

import numpy as np
from typing_extensions import override

from segue.engine import PartView
from segue.errors import ArenaCorrupt, DigestMismatch
from segue.memory import memfd
from segue.memory.arena import STEP_BYTES, Step
from segue.memory.arena_header import PREAMBLE
from segue.memory.device.array import Lender, device_view
from segue.memory.device.departure import Departure, Elsewhere, run_here
from segue.memory.device.device import CudaDevice
from segue.memory.device.token import Token, read_token
from segue.memory.interface import MappedPart, MemoryMode, WeightMapper
from segue.memory.messages import PartRef


class SharedMapper(WeightMapper):
    """Maps parts of one device."""

    def __init__(self, device: CudaDevice, *, elsewhere: Elsewhere = run_here) -> None:
        """Map on `device` and unmap `elsewhere`."""
        self._device = device
        self._elsewhere = elsewhere

    @override
    def map(self, fds: Sequence[int], part: PartRef) -> SharedPart:
        try:
            token = self._checked(fds, part)
            address = self._device.map_shared(fds[1], token.place.allocation_bytes, writable=False)
        except BaseException:
            memfd.close_all(fds)
            raise
        return SharedPart(fds, part, token, cuda=self._device, base=address, elsewhere=self._elsewhere)

    def _checked(self, fds: Sequence[int], part: PartRef) -> Token:
        if len(fds) != MemoryMode.GPU_SHARED.descriptors:
            raise ArenaCorrupt(
                f"part {part.name!r} came with {len(fds)} descriptors instead of token and device memory"
            )
        token = read_token(fds[0], part=part)
        if token.place.device != self._device.uuid:
            raise ArenaCorrupt(
                f"part {part.name!r} lies on device {token.place.device}, but cuda:{self._device.ordinal} of this "
                f"process is {self._device.uuid}: give both containers the same device, or set gpu.mode to gpu-copy"
            )
        return token


class SharedPart(MappedPart):
    """One part in the device memory of the sidecar."""

    def __init__(
        self,
        fds: Sequence[int],
        part: PartRef,
        token: Token,
        *,
        cuda: CudaDevice,
        base: int,
        elsewhere: Elsewhere,
    ) -> None:
        """Take over the descriptors, and the mapping at `base`; see `SharedMapper.map`."""
        self._part = part
        self._token = token
        self._fds = list(fds)
        self._device = cuda
        self._base = base
        self._address = base + token.place.offset
        self._lender = Lender()
        self._departure = Departure(cuda, self._lender, last=self._unmap, elsewhere=elsewhere)

    @property
    @override
    def part(self) -> PartRef:
        return self._part

    @property
    @override
    def leaving(self) -> bool:
        return self._departure.begun

    @override
    def view(self) -> PartView:
        return device_view(
            self._token.header, address=self._address, device=self._device.dlpack_device, lender=self._lender
        )

    @override
    def address_range(self) -> tuple[int, int]:
        return self._address, self._address + self._part.size_bytes

    @override
    def prefault(self) -> None:
        """Nothing to do: a device's memory is there from the first moment on."""

    @override
    def verify(self, *, step: Step | None = None) -> None:
        found = digest_on_device(self._device, self._address, self._part.size_bytes, head=self._token.head, step=step)
        if found != self._part.digest:
            raise DigestMismatch(
                f"part {self._part.name!r} hashes to {found} on the device, but must be {self._part.digest}: refused"
            )

    @override
    def export(self) -> tuple[int, ...]:
        exported: list[int] = []
        try:
            for fd in self._fds:
                exported.append(os.dup(fd))
        except OSError:
            memfd.close_all(exported)
            raise
        return tuple(exported)

    @override
    def close(self) -> None:
        self._departure.proceed()
        memfd.close_all(self._fds)
        self._fds.clear()

    def read(self, start: int, count: int) -> bytes:
        """Bytes of the arena, copied back from the device. For children: it waits for the copy."""
        buffer = np.empty(count, np.uint8)
        self._device.copy_out(buffer.ctypes.data, self._address + start, count)
        return buffer.tobytes()

    def _unmap(self) -> None:
        self._device.unmap(self._base, self._token.place.allocation_bytes)


def digest_on_device(
    device: CudaDevice, address: int, size_bytes: int, *, head: bytes, step: Step | None = None
) -> str:
    """sha256 of an arena in device memory, copied back 4 MiB at a time; lower-case hex.

    Raises
    ------
    DigestMismatch
        It does not begin with `head`, the header that everybody lays out views by.
    """
    buffer = np.empty(STEP_BYTES, np.uint8)
    hasher = hashlib.sha256()
    for start in range(0, size_bytes, STEP_BYTES):
        count = min(STEP_BYTES, size_bytes - start)
        device.copy_out(buffer.ctypes.data, address + start, count)
        piece = buffer[:count]
        expected = head[start : start + count]
        if piece[: len(expected)].tobytes() != expected:
            raise DigestMismatch("the header on the device is not the one that its token shows: refused")
        hasher.update(piece[PREAMBLE.size if start == 0 else 0 :].data)
        if step is not None:
            step(start + count)
    return hasher.hexdigest()
