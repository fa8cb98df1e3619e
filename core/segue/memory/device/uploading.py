"""Copying a host arena into device memory, in steps, so that whoever does it can be paced or stopped between two.

Shared by the sidecar's uploading child (into memory that workers will map) and by workers that copy for themselves.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from segue.errors import ArenaCorrupt, DeviceError, DigestMismatch
from segue.memory.arena import STEP_BYTES, Arena, Step
from segue.memory.device.device import CudaDevice
from segue.memory.device.mapping import digest_on_device
from segue.memory.device.token import read_token
from segue.memory.messages import PartRef

COPY_TIMEOUT_S = 60.0
_LOOK_EVERY_S = 0.0005

Sleep = Callable[[float], None]


def copy_arena(
    device: CudaDevice,
    arena: Arena,
    address: int,
    *,
    stream: int,
    bytes_per_s: float = 0.0,
    step: Step | None = None,
    sleep: Sleep = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Copy a mapped arena to `address` on a stream of its own; returns when all of it is there.

    Parameters
    ----------
    bytes_per_s
        No faster than this; 0: as fast as the device takes it.

    Raises
    ------
    DeviceError
        The device refuses, or is not through after `COPY_TIMEOUT_S` without progress. Nothing is left in flight unless
        it is lost or hangs.
    """
    source = arena.address_range()[0]
    began_s = clock()
    for start in range(0, arena.size_bytes, STEP_BYTES):
        count = min(STEP_BYTES, arena.size_bytes - start)
        device.copy_in(address + start, source + start, count, stream=stream)
        wait_for(device, stream, sleep=sleep, clock=clock)
        if step is not None:
            step(start + count)
        if bytes_per_s > 0:
            ahead_s = (start + count) / bytes_per_s - (clock() - began_s)
            if ahead_s > 0:
                sleep(ahead_s)


def wait_for(
    device: CudaDevice,
    stream: int,
    *,
    sleep: Sleep = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    timeout_s: float = COPY_TIMEOUT_S,
) -> None:
    """Wait until a stream has done what it was given. Raises `DeviceError` where it does not within `timeout_s`."""
    event = device.record(stream)
    ends_s = clock() + timeout_s
    while not device.is_done(event):
        if clock() >= ends_s:
            raise DeviceError(f"a copy to the device was not through after {timeout_s:g} s: the device hangs")
        sleep(_LOOK_EVERY_S)
    device.forget(event)


def upload(device: CudaDevice, fds: Sequence[int], part: PartRef, *, step: Step | None = None) -> None:
    """Fill the device memory of one part, and hash it there. Takes `fds` over: staging arena, token, device memory.

    Raises
    ------
    ArenaCorrupt
        Staging, token and part do not belong together.
    DigestMismatch
        What arrived is not what was promised.
    DeviceError
        The device refuses.
    """
    arena_fd, token_fd, device_fd = fds
    arena: Arena | None = None
    try:
        arena = Arena.open(arena_fd)
        token = read_token(token_fd, part=part)
        if (arena.digest, arena.size_bytes) != (part.digest, part.size_bytes):
            raise ArenaCorrupt(f"the staging arena holds {arena.digest}, but {part.digest} is to be copied: refused")
        base = device.map_shared(device_fd, token.place.allocation_bytes, writable=True)
        try:
            address = base + token.place.offset
            copy_arena(device, arena, address, stream=device.new_stream(), step=step)
            found = digest_on_device(device, address, part.size_bytes, head=token.head)
        finally:
            device.unmap(base, token.place.allocation_bytes)
        if found != part.digest:
            raise DigestMismatch(f"the part hashes to {found} on the device, but must be {part.digest}: refused")
    finally:
        if arena is not None:
            arena.close()
        for fd in fds:
            os.close(fd)
