"""Which weight memory this sidecar keeps.

Separate from the assembly because it is decided once, by the configuration and by what can be seen of a device, and
because nothing of CUDA is imported where no `gpu` is configured.
"""

from __future__ import annotations

import logging

from segue.errors import DeviceError, MemoryError_
from segue.memory.device.choosing import Sight, choose_mode
from segue.memory.device.device import CudaDevice
from segue.memory.device.shared import SharedDeviceMemory
from segue.memory.host import HostMemory
from segue.memory.interface import WeightMemory
from segue.memory.mode import MemoryMode
from segue.memory.pool import Background
from segue_sidecar.config import Config, GpuSection, InvalidConfig

logger = logging.getLogger(__name__)


def make_memory(config: Config, *, background: Background) -> WeightMemory:
    """Host memory, or that of a device where it is configured and can be had.

    Raises
    ------
    InvalidConfig
        What was configured cannot be had here.
    """
    host = HostMemory(config.pool.budget_bytes, spares=config.pool.spares, background=background)
    if config.gpu is None:
        return host
    try:
        return _on_device(config.gpu, host, background=background)
    except (MemoryError_, ValueError) as error:
        host.close()
        raise InvalidConfig(f"gpu: {error}") from error


def _on_device(gpu: GpuSection, host: HostMemory, *, background: Background) -> WeightMemory:
    device, sight = _look(gpu)
    choice = choose_mode(gpu.mode, sight)
    logger.info("weights live in %s memory: %s", choice.mode, choice.why)
    if choice.mode is not MemoryMode.GPU_SHARED or device is None:
        return host
    return SharedDeviceMemory(
        device, budget_bytes=gpu.budget_bytes, staging=host, driver=gpu.driver, background=background
    )


def _look(gpu: GpuSection) -> tuple[CudaDevice | None, Sight]:
    try:
        device = CudaDevice.open(gpu.device, driver=gpu.driver)
        return device, Sight.of(device)
    except DeviceError as error:
        return None, Sight(trouble=str(error))
