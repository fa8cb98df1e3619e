"""`cuda.bindings.driver` without a device: the same calls on memory that every process can really share.

A device allocation is a memfd, a device address a real address: exporting, importing, passing descriptors, access
flags, reference counts and the death of a peer are the kernel's, not ours. Types and codes are those of the bindings,
which import without a driver. What the real driver would not allow answers with its codes; what it would punish with
noise (unmapping under a running batch) is noted in `state.violations`, which tests expect to be empty.

Work on streams is done at once, unless a test holds a stream (`hold`), until it lets it go (`let_go`).
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import mmap
import os
import threading
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cuda.bindings.driver import (
    CUcontext,
    CUdevice,
    CUdevice_attribute,
    CUdeviceptr,
    CUevent,
    CUevent_flags,
    CUmemAccess_flags,
    CUmemAccessDesc,
    CUmemAllocationGranularity_flags,
    CUmemAllocationHandleType,
    CUmemAllocationProp,
    CUmemAllocationType,
    CUmemGenericAllocationHandle,
    CUmemLocationType,
    CUresult,
    CUstream,
    CUstream_flags,
    CUuuid,
)

from segue.memory import memfd
from segue.memory.lease import still_held

__all__ = [
    "CUcontext",
    "CUdevice",
    "CUdevice_attribute",
    "CUdeviceptr",
    "CUevent",
    "CUevent_flags",
    "CUmemAccessDesc",
    "CUmemAccess_flags",
    "CUmemAllocationGranularity_flags",
    "CUmemAllocationHandleType",
    "CUmemAllocationProp",
    "CUmemAllocationType",
    "CUmemGenericAllocationHandle",
    "CUmemLocationType",
    "CUresult",
    "CUstream",
    "CUstream_flags",
    "CUuuid",
]

MIB = 1 << 20
GRANULARITY = 2 * MIB
UUID = "6e0c9a5e-0f5f-4b7e-9d0e-5e60eface001"
LEGACY = 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_MAP_FIXED = 0x10
_MAP_NORESERVE = 0x4000
_NAME = "memfd:fake-cuda "


@dataclass(slots=True)
class Allocation:
    """One device allocation as this process knows it. `fd` is a description of our own, which no peer has."""

    fd: int
    size_bytes: int
    shareable: bool
    created_here: bool
    references: int = 1


@dataclass(slots=True)
class Mapping:
    """An address range with memory behind it."""

    size_bytes: int
    allocation: Allocation
    access: int = mmap.PROT_READ & 0


@dataclass(slots=True)
class Stream:
    """Work in order. While it is held, it waits."""

    held: bool = False
    waiting: deque[tuple[int, int, Callable[[], None]]] = field(default_factory=deque)
    given: int = 0
    done: int = 0

    def give(self, work: Callable[[], None], *, address: int = 0, size_bytes: int = 0) -> None:
        """Have it done after what was given before."""
        self.given += 1
        self.waiting.append((address, size_bytes, work))
        self.run()

    def run(self) -> None:
        """Do what waits, unless it is held."""
        while self.waiting and not self.held:
            self.waiting.popleft()[2]()
            self.done += 1


class State:
    """All that this process' fake driver knows; a test makes a new one with `reset`."""

    def __init__(self) -> None:
        self.initialised = False
        self.devices = [UUID]
        self.total_bytes = 1 << 40
        self.mps = False
        self.shares_memory = True
        self.lost = False
        self.violations: list[str] = []
        self.failures: dict[str, deque[CUresult]] = {}
        self.calls: list[str] = []
        self.created: list[Allocation] = []
        self.handles: dict[int, Allocation] = {}
        self.reservations: dict[int, int] = {}
        self.mappings: dict[int, Mapping] = {}
        self.streams: dict[int, Stream] = {0: Stream(), LEGACY: Stream()}
        self.events: dict[int, tuple[int, int]] = {}
        self.numbers = itertools.count(16)
        self.current = threading.local()


state = State()


# --- for tests --------------------------------------------------------------------------------------------------------


def reset() -> State:
    """Forget everything, and give back what this process still maps."""
    global state
    for address, mapping in list(state.mappings.items()):
        _libc.munmap(address, mapping.size_bytes)
        state.reservations.pop(address, None)
    for address, size_bytes in state.reservations.items():
        _libc.munmap(address, size_bytes)
    known = {id(each): each for each in [*state.created, *state.handles.values()]}
    known |= {id(mapping.allocation): mapping.allocation for mapping in state.mappings.values()}
    memfd.close_all([each.fd for each in known.values() if each.fd >= 0])
    state = State()
    return state


def fail_next(call: str, code: CUresult, *, times: int = 1) -> None:
    """The next calls of this name answer with a code."""
    state.failures.setdefault(call, deque()).extend([code] * times)


def hold(stream: int = LEGACY) -> None:
    """What is given to this stream from now on waits."""
    state.streams[stream].held = True


def let_go(stream: int = LEGACY) -> None:
    """The stream does what waits."""
    state.streams[stream].held = False
    state.streams[stream].run()


def begin_batch(address: int, size_bytes: int, *, stream: int = LEGACY) -> None:
    """A kernel that reads a range is given to a stream."""
    state.streams[stream].give(lambda: None, address=address, size_bytes=size_bytes)


def used_bytes() -> int:
    """Memory of allocations made here that anybody, in whatever process, still refers to."""
    _forget_dead()
    return sum(each.size_bytes for each in state.created)


def peek(address: int, size_bytes: int) -> bytes:
    """What stands at a device address."""
    return ctypes.string_at(address, size_bytes)


# --- inside -----------------------------------------------------------------------------------------------------------


def _answer(name: str) -> CUresult:
    state.calls.append(name)
    waiting = state.failures.get(name)
    if waiting:
        return waiting.popleft()
    if name != "cuInit" and not state.initialised:
        return CUresult.CUDA_ERROR_NOT_INITIALIZED
    if state.lost:
        return CUresult.CUDA_ERROR_LAUNCH_FAILED
    return CUresult.CUDA_SUCCESS


def _with_context(name: str) -> CUresult:
    code = _answer(name)
    if code == CUresult.CUDA_SUCCESS and not getattr(state.current, "context", 0):
        return CUresult.CUDA_ERROR_INVALID_CONTEXT
    return code


def _referred_to(allocation: Allocation) -> bool:
    mapped = any(mapping.allocation is allocation for mapping in state.mappings.values())
    return allocation.references > 0 or mapped


def _forget_dead() -> None:
    """Allocations that nobody refers to any more: no handle or mapping here, no descriptor or mapping anywhere."""
    for allocation in list(state.created):
        if not _referred_to(allocation) and not still_held(allocation.fd):
            state.created.remove(allocation)
            os.close(allocation.fd)
            allocation.fd = -1


def _let_go_of(allocation: Allocation) -> None:
    """An imported allocation's description goes with its last handle and mapping here."""
    if not allocation.created_here and not _referred_to(allocation):
        os.close(allocation.fd)
        allocation.fd = -1


def _handle(allocation: Allocation) -> CUmemGenericAllocationHandle:
    number = next(state.numbers)
    state.handles[number] = allocation
    return CUmemGenericAllocationHandle(number)


def _room(address: int, size_bytes: int, access: int) -> bool:
    """Whether a range lies in one mapping that allows this."""
    for start, mapping in state.mappings.items():
        if start <= address and address + size_bytes <= start + mapping.size_bytes:
            return mapping.access & access == access
    return False


_BAD = CUresult.CUDA_ERROR_INVALID_VALUE


# --- the driver's calls, as the bindings have them --------------------------------------------------------------------


def cuInit(Flags: int) -> tuple[CUresult]:
    code = _answer("cuInit")
    state.initialised = code == CUresult.CUDA_SUCCESS
    return (code,)


def cuDeviceGetCount() -> tuple[CUresult, int]:
    return _answer("cuDeviceGetCount"), len(state.devices)


def cuDeviceGet(ordinal: int) -> tuple[CUresult, Any]:
    code = _answer("cuDeviceGet")
    if not 0 <= ordinal < len(state.devices):
        return CUresult.CUDA_ERROR_INVALID_DEVICE, None
    return code, CUdevice(ordinal)


def cuDeviceGetUuid(dev: Any) -> tuple[CUresult, Any]:
    code = _answer("cuDeviceGetUuid")
    found = CUuuid()
    ctypes.memmove(found.getPtr(), uuid.UUID(state.devices[int(dev)]).bytes, 16)
    return code, found


def cuDeviceGetAttribute(attrib: Any, dev: Any) -> tuple[CUresult, int]:
    code = _answer("cuDeviceGetAttribute")
    if attrib == CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MPS_ENABLED:
        return code, int(state.mps)
    return code, int(state.shares_memory)


def cuDevicePrimaryCtxRetain(dev: Any) -> tuple[CUresult, Any]:
    return _answer("cuDevicePrimaryCtxRetain"), CUcontext(7)


def cuCtxSetCurrent(ctx: Any) -> tuple[CUresult]:
    code = _answer("cuCtxSetCurrent")
    if code == CUresult.CUDA_SUCCESS:
        state.current.context = int(ctx)
    return (code,)


def cuCtxGetStreamPriorityRange() -> tuple[CUresult, int, int]:
    return _with_context("cuCtxGetStreamPriorityRange"), 0, -5


def cuMemGetAllocationGranularity(prop: Any, option: Any) -> tuple[CUresult, int]:
    return _answer("cuMemGetAllocationGranularity"), GRANULARITY


def cuMemCreate(size: int, prop: Any, flags: int) -> tuple[CUresult, Any]:
    code = _answer("cuMemCreate")
    if code != CUresult.CUDA_SUCCESS:
        return code, None
    if size <= 0 or size % GRANULARITY or flags:
        return _BAD, None
    if used_bytes() + size > state.total_bytes:
        return CUresult.CUDA_ERROR_OUT_OF_MEMORY, None
    shareable = prop.requestedHandleTypes == CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
    fd = memfd.create(f"fake-cuda {size}")
    os.ftruncate(fd, size)
    allocation = Allocation(fd, size, shareable, created_here=True)
    state.created.append(allocation)
    return code, _handle(allocation)


def cuMemRelease(handle: Any) -> tuple[CUresult]:
    code = _answer("cuMemRelease")
    allocation = state.handles.pop(int(handle), None)
    if allocation is None:
        return (_BAD,)
    allocation.references -= 1
    _let_go_of(allocation)
    return (code,)


def cuMemExportToShareableHandle(handle: Any, handleType: Any, flags: int) -> tuple[CUresult, Any]:
    code = _answer("cuMemExportToShareableHandle")
    allocation = state.handles.get(int(handle))
    if code != CUresult.CUDA_SUCCESS:
        return code, None
    if allocation is None or not allocation.shareable or flags:
        return _BAD, None
    return code, memfd.reopen(allocation.fd, os.O_RDWR)


def cuMemImportFromShareableHandle(osHandle: Any, shHandleType: Any) -> tuple[CUresult, Any]:
    code = _answer("cuMemImportFromShareableHandle")
    if code != CUresult.CUDA_SUCCESS:
        return code, None
    try:
        link = os.readlink(f"/proc/self/fd/{osHandle}")  # noqa: PTH115
    except OSError:
        return _BAD, None
    if not link.startswith(f"/{_NAME}"):
        return _BAD, None
    size = os.fstat(osHandle).st_size
    fd = memfd.reopen(osHandle, os.O_RDWR)
    return code, _handle(Allocation(fd, size, shareable=True, created_here=False))


def cuMemAddressReserve(size: int, alignment: int, addr: Any, flags: int) -> tuple[CUresult, Any]:
    code = _answer("cuMemAddressReserve")
    if code != CUresult.CUDA_SUCCESS:
        return code, None
    if size <= 0 or size % GRANULARITY:
        return _BAD, None
    flags_ = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    address = _libc.mmap(None, size, 0, flags_, -1, 0)
    state.reservations[address] = size
    return code, CUdeviceptr(address)


def cuMemAddressFree(ptr: Any, size: int) -> tuple[CUresult]:
    code = _answer("cuMemAddressFree")
    if int(ptr) in state.mappings or state.reservations.pop(int(ptr), None) != size:
        return (_BAD,)
    _libc.munmap(int(ptr), size)
    return (code,)


def cuMemMap(ptr: Any, size: int, offset: int, handle: Any, flags: int) -> tuple[CUresult]:
    code = _answer("cuMemMap")
    if code != CUresult.CUDA_SUCCESS:
        return (code,)
    allocation, address = state.handles.get(int(handle)), int(ptr)
    wrong = offset or flags or size % GRANULARITY or address in state.mappings
    if allocation is None or wrong or state.reservations.get(address) != size or size > allocation.size_bytes:
        return (_BAD,)
    own = memfd.reopen(allocation.fd, os.O_RDWR)
    _libc.mmap(address, size, 0, mmap.MAP_SHARED | _MAP_FIXED, own, 0)
    os.close(own)
    state.mappings[address] = Mapping(size, allocation)
    return (code,)


def cuMemSetAccess(ptr: Any, size: int, desc: Any, count: int) -> tuple[CUresult]:
    code = _answer("cuMemSetAccess")
    mapping = state.mappings.get(int(ptr))
    if code != CUresult.CUDA_SUCCESS:
        return (code,)
    if mapping is None or mapping.size_bytes != size or count != len(desc) or count != 1:
        return (_BAD,)
    writable = desc[0].flags == CUmemAccess_flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE
    mapping.access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    _libc.mprotect(int(ptr), size, mapping.access)
    return (code,)


def cuMemUnmap(ptr: Any, size: int) -> tuple[CUresult]:
    code, address = _answer("cuMemUnmap"), int(ptr)
    mapping = state.mappings.get(address)
    if code != CUresult.CUDA_SUCCESS:
        return (code,)
    if mapping is None or mapping.size_bytes != size:
        return (_BAD,)
    for number, stream in state.streams.items():
        for start, length, _ in stream.waiting:
            if length and start < address + size and address < start + length:
                state.violations.append(f"{size} bytes at {address:#x} were unmapped under stream {number}")
    del state.mappings[address]
    _libc.mmap(address, size, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE | _MAP_FIXED, -1, 0)
    _let_go_of(mapping.allocation)
    return (code,)


def cuMemcpyHtoDAsync(dstDevice: Any, srcHost: Any, ByteCount: int, hStream: Any) -> tuple[CUresult]:
    code, address = _with_context("cuMemcpyHtoDAsync"), int(dstDevice)
    if code != CUresult.CUDA_SUCCESS:
        return (code,)
    if not _room(address, ByteCount, mmap.PROT_READ | mmap.PROT_WRITE):
        return (_BAD,)
    stream = state.streams[int(hStream)]
    stream.give(lambda: _move(address, srcHost, ByteCount), address=address, size_bytes=ByteCount)
    return (code,)


def _move(target: int, source: int, count: int) -> None:
    ctypes.memmove(target, source, count)


def cuMemcpyDtoH(dstHost: Any, srcDevice: Any, ByteCount: int) -> tuple[CUresult]:
    code = _with_context("cuMemcpyDtoH")
    if code != CUresult.CUDA_SUCCESS:
        return (code,)
    if not _room(int(srcDevice), ByteCount, mmap.PROT_READ):
        return (_BAD,)
    ctypes.memmove(dstHost, int(srcDevice), ByteCount)
    return (code,)


def cuStreamCreateWithPriority(flags: int, priority: int) -> tuple[CUresult, Any]:
    code, number = _with_context("cuStreamCreateWithPriority"), next(state.numbers)
    state.streams[number] = Stream()
    return code, CUstream(number)


def cuEventCreate(Flags: int) -> tuple[CUresult, Any]:
    code, number = _with_context("cuEventCreate"), next(state.numbers)
    state.events[number] = (LEGACY, 0)
    return code, CUevent(number)


def cuEventRecord(hEvent: Any, hStream: Any) -> tuple[CUresult]:
    code, stream = _with_context("cuEventRecord"), int(hStream)
    if int(hEvent) not in state.events or stream not in state.streams:
        return (CUresult.CUDA_ERROR_INVALID_HANDLE,)
    state.events[int(hEvent)] = (stream, state.streams[stream].given)
    return (code,)


def cuEventQuery(hEvent: Any) -> tuple[CUresult]:
    code = _answer("cuEventQuery")
    if code != CUresult.CUDA_SUCCESS:
        return (code,)
    if int(hEvent) not in state.events:
        return (CUresult.CUDA_ERROR_INVALID_HANDLE,)
    stream, given = state.events[int(hEvent)]
    return (code if state.streams[stream].done >= given else CUresult.CUDA_ERROR_NOT_READY,)


def cuEventDestroy(hEvent: Any) -> tuple[CUresult]:
    code = _answer("cuEventDestroy")
    with contextlib.suppress(KeyError):
        del state.events[int(hEvent)]
    return (code,)
