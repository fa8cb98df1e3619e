"""A worker's share of `gpu-shared` in a process of its own: maps on command, on the driver without a device.

Run as a script, like `memory_peer`; `DevicePeer` is the test's end.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.fakes import cuda_driver as fake
from tests.support.device_memory import reader, tensor

from segue.errors import SegueError
from segue.memory.interface import MappedPart
from segue.memory.messages import PartRef
from segue.memory.mode import MemoryMode

REPOSITORY = Path(__file__).resolve().parents[2]


class DevicePeer:
    """The test's end of a peer process."""

    def __init__(self, *, fds: Sequence[int] = ()) -> None:
        """Start it with these descriptors, under the same numbers."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.device_peer"],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=fds,
            text=True,
        )

    def ask(self, do: str, **arguments: Any) -> Any:
        """Carry out one command; what it raised comes back as text. `None`: the process died of it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        return json.loads(answer) if answer else None

    def map(self, fds: Sequence[int], part: PartRef) -> Any:
        """Have it map a part; returns the first value of its weight."""
        return self.ask("map", fds=list(fds), part=asdict(part))

    def kill(self) -> int:
        """SIGKILL, and wait; its exit status."""
        self._process.kill()
        return self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


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
    commands = _Commands()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer: Any = getattr(commands, request.pop("do"))(**request)
        except (SegueError, BufferError) as error:
            answer = f"{type(error).__name__}: {error}"
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
