"""How a worker reaches the weights that it is offered, by the device that it speaks on.

Separate because nothing of CUDA is loaded where the device is the CPU. What a worker with a device does is decided by
what it is offered: device memory is mapped, a host arena is copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from typing_extensions import override

from segue.errors import SegueError
from segue.memory.device.choosing import Sight, refuse_mps
from segue.memory.device.copying import CopyMapper
from segue.memory.device.departure import unmapping_thread
from segue.memory.device.device import CudaDevice
from segue.memory.device.mapping import SharedMapper
from segue.memory.device.slots import SlotPool
from segue.memory.host import HostMapper
from segue.memory.interface import MappedPart, WeightMapper
from segue.memory.messages import PartRef
from segue.memory.mode import MemoryMode
from segue_server.config import Gpu


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerMemory:
    """What maps parts, and what engines call the device that they are on."""

    mapper: WeightMapper
    engine_device: str


def worker_memory(device: str, gpu: Gpu) -> WorkerMemory:
    """Everything for this device.

    Raises
    ------
    SegueError
        It is not there, or behind MPS.
    """
    if device == "cpu":
        return WorkerMemory(mapper=HostMapper(), engine_device=device)
    try:
        cuda = CudaDevice.open(device, driver=gpu.driver)
        refuse_mps(Sight.of(cuda))
    except SegueError as error:
        raise SegueError(f"device: {device}: {error}") from error
    return WorkerMemory(mapper=DeviceMapper(cuda, gpu), engine_device=cuda.engine_device)


class DeviceMapper(WeightMapper):
    """Maps device memory, and copies host memory."""

    def __init__(self, device: CudaDevice, gpu: Gpu) -> None:
        elsewhere = unmapping_thread()
        self._shared = SharedMapper(device, elsewhere=elsewhere)
        self._copy = CopyMapper(
            device,
            SlotPool(device, gpu.budget_bytes),
            bytes_per_s=gpu.copy_bytes_per_s,
            elsewhere=elsewhere,
        )

    @override
    def map(self, fds: Sequence[int], part: PartRef) -> MappedPart:
        if len(fds) == MemoryMode.GPU_SHARED.descriptors:
            return self._shared.map(fds, part)
        return self._copy.map(fds, part)
