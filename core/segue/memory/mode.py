"""The kinds of weight memory by name.

Separate because messages say which kind an offer is, and the interface, which speaks in messages, lists what a kind
must be able to do.
"""

from __future__ import annotations

from enum import StrEnum


class MemoryMode(StrEnum):
    """Where weights live while somebody speaks with them.

    A sidecar keeps `host` or `gpu-shared` memory. `gpu-copy` is what a worker with a device makes of host memory.
    """

    HOST = "host"
    GPU_SHARED = "gpu-shared"
    GPU_COPY = "gpu-copy"

    @property
    def descriptors(self) -> int:
        """How many descriptors each part travels with: in device memory, its token and the device's allocation."""
        return 2 if self is MemoryMode.GPU_SHARED else 1
