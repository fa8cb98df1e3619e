"""Which way of device memory is taken, and what is refused.

Separate because people ask why: the answer is one pure function of what was configured and what the sidecar sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from segue.errors import DeviceError
from segue.memory.device.device import CudaDevice
from segue.memory.mode import MemoryMode


class GpuMode(StrEnum):
    """What can be configured. `auto` shares where the sidecar sees the device, else workers copy."""

    AUTO = "auto"
    SHARED = "gpu-shared"
    COPY = "gpu-copy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What a process sees of its device.

    Attributes
    ----------
    trouble
        Why it sees none; empty: it sees one.
    uuid
        Of the device, or of the MIG instance.
    shares_memory
        Whether allocations can be handed to other processes.
    behind_mps
        Whether one client's fault would be everybody's.
    """

    trouble: str = ""
    uuid: str = ""
    shares_memory: bool = False
    behind_mps: bool = False

    @classmethod
    def of(cls, device: CudaDevice) -> Sight:
        """Look."""
        return cls(uuid=device.uuid, shares_memory=device.shares_memory, behind_mps=device.behind_mps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What the sidecar keeps, and why."""

    mode: MemoryMode
    why: str


def choose_mode(configured: GpuMode, sight: Sight) -> Choice:
    """What kind of memory a sidecar keeps for a fleet whose server speaks on a device.

    Raises
    ------
    DeviceError
        `gpu-shared` was asked for and cannot be had, or there is MPS.
    """
    if configured is not GpuMode.COPY:
        refuse_mps(sight)
    match configured:
        case GpuMode.COPY:
            return Choice(mode=MemoryMode.GPU_COPY, why="gpu.mode is gpu-copy")
        case GpuMode.AUTO if sight.trouble:
            return Choice(mode=MemoryMode.GPU_COPY, why=f"the sidecar sees no device: {sight.trouble}")
        case GpuMode.AUTO if not sight.shares_memory:
            return Choice(mode=MemoryMode.GPU_COPY, why=f"device {sight.uuid} cannot hand memory to other processes")
        case GpuMode.AUTO:
            return Choice(mode=MemoryMode.GPU_SHARED, why=f"the sidecar sees device {sight.uuid}")
        case GpuMode.SHARED:
            trouble = sight.trouble or ("" if sight.shares_memory else "it cannot hand memory to other processes")
            if trouble:
                raise DeviceError(
                    f"gpu.mode is gpu-shared, but {trouble}; give the sidecar the server's device, or auto"
                )
            return Choice(mode=MemoryMode.GPU_SHARED, why="gpu.mode is gpu-shared")


def refuse_mps(sight: Sight) -> None:
    """Refuse a device behind MPS: a fault of one process there is a fault of all, the known-good revision included.

    Raises
    ------
    DeviceError
        There is MPS.
    """
    if sight.behind_mps:
        raise DeviceError(
            f"device {sight.uuid} is behind MPS, where a fault of one process ends all others on it: a bad revision "
            "could not be taken back. Stop MPS (nvidia-cuda-mps-control quit), or use MIG or time slicing instead"
        )
