"""The seam to the CUDA driver.

`cuda.bindings.driver` has no types and answers every call with a tuple that begins with a code. Here, and nowhere
else, is it called: by name, through a module that is given, so that tests give another one with real processes,
descriptors and mappings but no device (`tests/fakes/cuda_driver.py`). Nothing is loaded before `Driver.load`.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any, Final

from segue.errors import DeviceError, DeviceFull, DeviceLost

BINDINGS: Final = "cuda.bindings.driver"

_LOST: Final = frozenset(
    {
        "CUDA_ERROR_DEINITIALIZED",
        "CUDA_ERROR_DEVICE_UNAVAILABLE",
        "CUDA_ERROR_CONTEXT_IS_DESTROYED",
        "CUDA_ERROR_ECC_UNCORRECTABLE",
        "CUDA_ERROR_HARDWARE_STACK_ERROR",
        "CUDA_ERROR_ILLEGAL_ADDRESS",
        "CUDA_ERROR_ILLEGAL_INSTRUCTION",
        "CUDA_ERROR_INVALID_ADDRESS_SPACE",
        "CUDA_ERROR_INVALID_PC",
        "CUDA_ERROR_LAUNCH_FAILED",
        "CUDA_ERROR_LAUNCH_TIMEOUT",
        "CUDA_ERROR_MISALIGNED_ADDRESS",
        "CUDA_ERROR_NVLINK_UNCORRECTABLE",
        "CUDA_ERROR_UNKNOWN",
    }
)
"""After these every further call of this process fails as well."""


class Driver:
    """The driver API of one process, initialised."""

    def __init__(self, api: ModuleType) -> None:
        """Initialise the driver. Memory of another one than NVIDIA's (`is_real`) is read by the processor.

        Raises
        ------
        DeviceError
            There is no NVIDIA driver here, or it does not start.
        """
        self.api: Any = api
        self.is_real = api.__name__ == BINDINGS
        try:
            self.call("cuInit", 0)
        except RuntimeError as error:  # the bindings found no libcuda.so.1
            raise DeviceError(
                f"no CUDA driver here ({str(error).rstrip('.')}); give the container a device, or use the cpu"
            ) from error

    @classmethod
    def load(cls, module: str = BINDINGS) -> Driver:
        """Import the bindings and initialise the driver.

        Raises
        ------
        DeviceError
            The bindings are not installed, there is no driver, or it does not start.
        """
        try:
            api = importlib.import_module(module)
        except ImportError as error:
            raise DeviceError(f"the CUDA bindings {module} cannot be imported: pip install 'segue[gpu]'") from error
        return cls(api)

    def call(self, name: str, *arguments: Any) -> Any:
        """One call; what it returns beside the code: nothing, a value, or a tuple of them.

        Raises
        ------
        DeviceFull
            The device has no memory left.
        DeviceLost
            The device, or this process' context on it, is of no more use.
        DeviceError
            Any other code.
        """
        code, *values = getattr(self.api, name)(*arguments)
        if int(code) != 0:
            raise self._error(name, code)
        return None if not values else values[0] if len(values) == 1 else tuple(values)

    def is_done(self, name: str, *arguments: Any) -> bool:
        """A query: False while the driver answers that it is not ready. Raises as `call`."""
        (code,) = getattr(self.api, name)(*arguments)
        if code == self.api.CUresult.CUDA_ERROR_NOT_READY:
            return False
        if int(code) != 0:
            raise self._error(name, code)
        return True

    def _error(self, name: str, code: Any) -> DeviceError:
        known = getattr(code, "name", str(code))
        if known == "CUDA_ERROR_OUT_OF_MEMORY":
            return DeviceFull(f"{name}: the device has no memory left ({known})")
        if known in _LOST:
            return DeviceLost(f"{name}: the device is lost to this process ({known}): it must be started again")
        return DeviceError(f"{name} failed with {known}")
