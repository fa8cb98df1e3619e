"""Memory of the rows' keys and values, kept for the next row: one pool for all voices of a process.

Separate from the cache, which belongs to one voice: twenty voices that take turns need the memory of those rows that
speak now, not twenty times the most that each ever needed. Memory that is used again costs no page faults either, and
those cost more than a step computes: on a virtual machine a fresh page takes ten microseconds, a row has thousands.
"""

from __future__ import annotations

import contextlib
import mmap
import threading
from collections import OrderedDict
from functools import cache
from typing import Final

import torch
from torch import Tensor

KEPT_BYTES: Final = 512 * 2**20
"""How much memory that nobody uses is kept: what sixteen usual rows of bfloat16 had."""


class MemoryPool:
    """Blocks of memory by their size. Whoever takes one has it alone until it is given back, or dropped.

    Parameters
    ----------
    device
        Where its memory is.
    kept_bytes
        What lies idle beyond this goes back to the system, the longest idle first.
    """

    def __init__(self, *, device: torch.device | str = "cpu", kept_bytes: int = KEPT_BYTES) -> None:
        self._device = torch.device(device)
        self._kept_bytes = kept_bytes
        self._idle: OrderedDict[int, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def idle_bytes(self) -> int:
        """What waits for the next row."""
        with self._lock:
            return sum(map(len, self._idle.values()))

    def take(self, size_bytes: int) -> Tensor:
        """`(size_bytes,) uint8` of whatever was there before; the last given back comes first, it may be cached."""
        with self._lock:
            for key in reversed(self._idle):
                if len(self._idle[key]) == size_bytes:
                    return self._idle.pop(key)
        return _fresh(size_bytes, self._device)

    def give_back(self, memory: Tensor) -> None:
        """Let another have it. No view of it may be used any more."""
        with self._lock:
            self._idle[memory.data_ptr()] = memory
            while sum(map(len, self._idle.values())) > self._kept_bytes:
                self._idle.popitem(last=False)


def _fresh(size_bytes: int, device: torch.device) -> Tensor:
    """Memory of its own mapping, in large pages where the system has them.

    Not the allocator's: that keeps what is freed in pieces of any size, and this goes back to the system at once.
    """
    if device.type != "cpu":
        return torch.empty(size_bytes, dtype=torch.uint8, device=device)
    mapping = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # shared ones get no large pages
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a system without large pages
            mapping.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(mapping, dtype=torch.uint8)


@cache
def shared_pool(device: torch.device) -> MemoryPool:
    """The pool of this process on a device."""
    return MemoryPool(device=device)
