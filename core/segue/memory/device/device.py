"""One CUDA device as the memory modes need it: allocations, mappings, copies, streams and events.

Everything that a caller must hold on to is a plain number; who owns it stands with each method. Allocating, exporting
and releasing need no context, so the sidecar never makes one; mapping and copying use the primary context, which is
the one that torch uses in the same process.

Source: CUDA driver API, virtual memory management (cuMemCreate, cuMemExportToShareableHandle, cuMemMap). An allocation
lives until the last handle, mapping and exported descriptor of it is gone, in whatever process that is.
"""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass
from typing import Any

from segue.errors import DeviceError
from segue.memory.device.array import CPU, CUDA
from segue.memory.device.driver import BINDINGS, Driver

LEGACY_STREAM = 1
"""The driver's name for the default stream of a context, on which torch works unless it is told otherwise."""


@dataclass(frozen=True, slots=True)
class Event:
    """A point in a stream's work; owned by whoever recorded it until `CudaDevice.forget`."""

    handle: Any


class CudaDevice:
    """A device by its place among those that this process sees. Thread-safe; each thread uses the same context."""

    def __init__(self, driver: Driver, *, ordinal: int = 0) -> None:
        """Find the device; makes no context.

        Raises
        ------
        DeviceError
            There are fewer devices.
        """
        self._driver = driver
        self._api = driver.api
        self.ordinal = ordinal
        count = int(driver.call("cuDeviceGetCount"))
        if ordinal >= count:
            raise DeviceError(f"cuda:{ordinal} is not there: this process sees {count} CUDA devices")
        self._device = driver.call("cuDeviceGet", ordinal)
        self.uuid = str(uuid.UUID(bytes=bytes(driver.call("cuDeviceGetUuid", self._device).bytes)))
        self._context: Any = None
        self._lock = threading.Lock()

    @classmethod
    def open(cls, name: str, *, driver: str = BINDINGS) -> CudaDevice:
        """The device called `cuda` or `cuda:N`, by the driver in this module. Raises `DeviceError`."""
        return cls(Driver.load(driver), ordinal=ordinal_of(name))

    @property
    def engine_device(self) -> str:
        """What engines call the device. Memory of a driver that tests bring along is for the CPU."""
        return f"cuda:{self.ordinal}" if self._driver.is_real else "cpu"

    @property
    def dlpack_device(self) -> tuple[int, int]:
        """What DLPack calls it: kind and ordinal."""
        return (CUDA, self.ordinal) if self._driver.is_real else (CPU, 0)

    # --- what it can do ---------------------------------------------------------------------------------------------

    @property
    def granularity(self) -> int:
        """Allocations are multiples of so many bytes."""
        flag = self._api.CUmemAllocationGranularity_flags.CU_MEM_ALLOC_GRANULARITY_MINIMUM
        return int(self._driver.call("cuMemGetAllocationGranularity", self._properties(shareable=True), flag))

    @property
    def shares_memory(self) -> bool:
        """Whether allocations can be handed to other processes as descriptors."""
        return self._has("VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED") and self._has(
            "HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED"
        )

    @property
    def behind_mps(self) -> bool:
        """Whether contexts here are shared by way of MPS, so that one client's fault is everybody's."""
        return self._has("MPS_ENABLED")

    def _has(self, name: str) -> bool:
        attribute = getattr(self._api.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
        return bool(int(self._driver.call("cuDeviceGetAttribute", attribute, self._device)))

    # --- allocations; no context needed -----------------------------------------------------------------------------

    def create_shared(self, size_bytes: int) -> int:
        """New memory, zeroed by nobody, as a descriptor that is the caller's; it lives as long as one of its copies.

        Parameters
        ----------
        size_bytes
            A multiple of `granularity`.

        Raises
        ------
        DeviceFull
            The device has none left.
        DeviceError
            It cannot be created or exported; nothing stays behind.
        """
        handle = self._driver.call("cuMemCreate", size_bytes, self._properties(shareable=True), 0)
        try:
            return int(self._driver.call("cuMemExportToShareableHandle", handle, self._descriptor_type, 0))
        finally:
            self._driver.call("cuMemRelease", handle)

    def map_shared(self, fd: int, size_bytes: int, *, writable: bool) -> int:
        """Map memory that came as a descriptor (which stays the caller's); returns its address.

        Raises
        ------
        DeviceError
            The descriptor is none of this device's memory, or shorter than `size_bytes`.
        """
        handle = self._driver.call("cuMemImportFromShareableHandle", fd, self._descriptor_type)
        return self._map(handle, size_bytes, writable=writable)

    def create(self, size_bytes: int) -> int:
        """New memory of this process alone, writable; returns its address. Raises as `create_shared`."""
        handle = self._driver.call("cuMemCreate", size_bytes, self._properties(shareable=False), 0)
        return self._map(handle, size_bytes, writable=True)

    def unmap(self, address: int, size_bytes: int) -> None:
        """Undo `map_shared` or `create`. Milliseconds: not on a serving thread. No work may be left that reads it."""
        self.activate()
        self._driver.call("cuMemUnmap", self._pointer(address), size_bytes)
        self._driver.call("cuMemAddressFree", self._pointer(address), size_bytes)

    def _map(self, handle: Any, size_bytes: int, *, writable: bool) -> int:
        """Map a handle, which is released: from now on the mapping keeps the memory."""
        self.activate()
        reserved = mapped = False
        address: Any = None
        try:
            address = self._driver.call("cuMemAddressReserve", size_bytes, 0, self._pointer(0), 0)
            reserved = True
            self._driver.call("cuMemMap", address, size_bytes, 0, handle, 0)
            mapped = True
            self._driver.call("cuMemSetAccess", address, size_bytes, [self._access(writable=writable)], 1)
        except BaseException:
            if mapped:
                self._driver.call("cuMemUnmap", address, size_bytes)
            if reserved:
                self._driver.call("cuMemAddressFree", address, size_bytes)
            raise
        finally:
            self._driver.call("cuMemRelease", handle)
        return int(address)

    # --- work -------------------------------------------------------------------------------------------------------

    def activate(self) -> None:
        """Make the primary context current in this thread."""
        with self._lock:
            if self._context is None:
                self._context = self._driver.call("cuDevicePrimaryCtxRetain", self._device)
        self._driver.call("cuCtxSetCurrent", self._context)

    def new_stream(self) -> int:
        """A stream that waits for no other and gives way to them; owned by the caller for the process' life."""
        self.activate()
        lowest, _ = self._driver.call("cuCtxGetStreamPriorityRange")
        flag = self._api.CUstream_flags.CU_STREAM_NON_BLOCKING
        return int(self._driver.call("cuStreamCreateWithPriority", int(flag), int(lowest)))

    def copy_in(self, address: int, source: int, size_bytes: int, *, stream: int) -> None:
        """Copy from host address `source` on a stream; the source must stay until the stream got there."""
        self.activate()
        self._driver.call("cuMemcpyHtoDAsync", self._pointer(address), source, size_bytes, self._stream(stream))

    def copy_out(self, target: int, address: int, size_bytes: int) -> None:
        """Copy to host address `target` and wait for it."""
        self.activate()
        self._driver.call("cuMemcpyDtoH", target, self._pointer(address), size_bytes)

    def record(self, stream: int) -> Event:
        """Mark what was given to a stream up to now."""
        self.activate()
        event = self._driver.call("cuEventCreate", int(self._api.CUevent_flags.CU_EVENT_DISABLE_TIMING))
        self._driver.call("cuEventRecord", event, self._stream(stream))
        return Event(event)

    def is_done(self, event: Event) -> bool:
        """Whether everything before the mark is through. Raises `DeviceLost` where that can never be."""
        self.activate()
        return self._driver.is_done("cuEventQuery", event.handle)

    def forget(self, event: Event) -> None:
        """Give an event back."""
        self.activate()
        self._driver.call("cuEventDestroy", event.handle)

    # --- the driver's structures ------------------------------------------------------------------------------------

    @property
    def _descriptor_type(self) -> Any:
        return self._api.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR

    def _properties(self, *, shareable: bool) -> Any:
        properties = self._api.CUmemAllocationProp()
        properties.type = self._api.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
        properties.location.type = self._api.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
        properties.location.id = self.ordinal
        if shareable:
            properties.requestedHandleTypes = self._descriptor_type
        return properties

    def _access(self, *, writable: bool) -> Any:
        flags = self._api.CUmemAccess_flags
        access = self._api.CUmemAccessDesc()
        access.location.type = self._api.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
        access.location.id = self.ordinal
        access.flags = flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE if writable else flags.CU_MEM_ACCESS_FLAGS_PROT_READ
        return access

    def _pointer(self, address: int) -> Any:
        return self._api.CUdeviceptr(address)

    def _stream(self, stream: int) -> Any:
        return self._api.CUstream(stream)


def ordinal_of(name: str) -> int:
    """The ordinal in `cuda` or `cuda:N`.

    Raises
    ------
    DeviceError
        Another name.
    """
    kind, _, number = name.partition(":")
    if kind != "cuda" or not (number or "0").isdigit():
        raise DeviceError(f"a device is called cuda or cuda:N, not {name!r}")
    return int(number or 0)
