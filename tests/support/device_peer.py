"""A worker's share of `gpu-shared` in a process of its own: maps on command, on the driver without a device.

`DevicePeer` is the test's end.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tests.fakes import cuda_driver as fake
from tests.support.device_memory import reader, tensor
from tests.support.peer import Peer, answer_commands

from segue.errors import SegueError
from segue.memory.interface import MappedPart
from segue.memory.messages import PartRef
from segue.memory.mode import MemoryMode


class DevicePeer(Peer):
    """The test's end of a peer process."""

    def __init__(self, *, fds: Sequence[int] = ()) -> None:
        """Start it with these descriptors, under the same numbers."""
        super().__init__("tests.support.device_peer", fds=fds)

    def map(self, fds: Sequence[int], part: PartRef) -> Any:
        """Have it map a part; returns the first value of its weight."""
        return self.ask("map", fds=list(fds), part=asdict(part))


class _Commands:
    """What the process can do."""

    def __init__(self) -> None:
        self._mapper = reader(MemoryMode.GPU_SHARED)
        self._mapped: list[MappedPart] = []

    def map(self, fds: list[int], part: dict[str, Any]) -> float:
        """Map a part and keep it."""
        mapped = self._mapper.map(fds, PartRef(**part))
        self._mapped.append(mapped)
        return float(tensor(mapped.view(), "weight")[0])

    def read(self) -> float:
        """The first value of the part mapped last, now."""
        return float(tensor(self._mapped[-1].view(), "weight")[0])

    def verify(self) -> str:
        """Re-hash what was mapped last."""
        self._mapped[-1].verify()
        return "as promised"

    def close(self) -> str:
        """Let all go."""
        while self._mapped:
            self._mapped.pop().close()
        return "closed"

    def write(self) -> str:
        """Write to the weights, which kills whoever tries."""
        first, _ = self._mapped[-1].address_range()
        ctypes.memset(first, 0, 1)
        return "written"

    def fail_import(self) -> str:
        """The next import fails."""
        fake.fail_next("cuMemImportFromShareableHandle", fake.CUresult.CUDA_ERROR_NOT_SUPPORTED)
        return "as you wish"


def main() -> None:
    """Answer commands until stdin ends."""
    answer_commands(_Commands(), told=(SegueError, BufferError))


if __name__ == "__main__":
    main()
