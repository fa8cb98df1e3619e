"""Arrays in device memory as engines see them, handed over by DLPack.

Separate because of who owns what: a tensor that torch makes of a `DeviceArray` must keep the mapping alive, and must be
seen by whoever wants to unmap. `Lender` counts what was lent; it is told by the consumer, through DLPack's deleter,
when the last tensor is gone. The stream that the consumer works on is told with the exchange, so that the mapping can
wait for it.

Source: DLPack 0.8, `DLManagedTensor` and the Python protocol (`__dlpack__`, `__dlpack_device__`).
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import numpy as np

from segue.engine import PartView
from segue.memory.arena_header import Header, TensorEntry

CPU: Final = 1
CUDA: Final = 2
"""DLPack's numbers for kinds of device."""

_FRESH: Final = b"dltensor"
_CODES: Final = {"i": 0, "u": 1, "f": 2, "b": 6}


class _Device(ctypes.Structure):
    _fields_: ClassVar = [("kind", ctypes.c_int32), ("ordinal", ctypes.c_int32)]


class _DataType(ctypes.Structure):
    _fields_: ClassVar = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class _Tensor(ctypes.Structure):
    _fields_: ClassVar = [
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("dimensions", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _Managed(ctypes.Structure):
    _fields_: ClassVar = [("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_Destructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_python = ctypes.pythonapi
_new_capsule = _python.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_capsule_is = _python.PyCapsule_IsValid
_capsule_is.restype = ctypes.c_int
_capsule_is.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
_capsule_pointer = _python.PyCapsule_GetPointer
_capsule_pointer.restype = ctypes.c_void_p
_capsule_pointer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]

_out: dict[int, tuple[_Managed, ctypes.Array[ctypes.c_int64], Lender]] = {}
"""Everything lent, by the address of its structure: keeps structures, shapes and lenders alive."""


def _give_back(address: int) -> None:
    """The consumer's last tensor is gone. Called from any thread, at any time."""
    found = _out.pop(address, None)
    if found is not None:
        found[2].returned()


def _drop_unused(capsule: int) -> None:
    """A capsule that nobody took (a consumer renames those that it takes)."""
    if _capsule_is(capsule, _FRESH):
        _give_back(_capsule_pointer(capsule, _FRESH))


_on_give_back = _Deleter(_give_back)
_on_drop_unused = _Destructor(_drop_unused)


class Lender:
    """Counts what of one mapping is lent, and to which streams. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lent = 0
        self._streams: set[int] = set()
        self._closed = False

    @property
    def lent(self) -> int:
        """Arrays that a consumer still holds."""
        return self._lent

    @property
    def streams(self) -> frozenset[int]:
        """Streams that consumers said they work on."""
        return frozenset(self._streams)

    @property
    def closed(self) -> bool:
        """Whether nothing is lent any more."""
        return self._closed

    def lend(self, stream: int | None) -> None:
        """One more. Raises `BufferError` after `close`."""
        with self._lock:
            if self._closed:
                raise BufferError("this part was unmapped: nothing of it can be used any more")
            self._lent += 1
            if stream is not None:
                self._streams.add(stream)

    def returned(self) -> None:
        """One fewer."""
        with self._lock:
            self._lent -= 1

    def close(self) -> None:
        """Lend no more. Raises `BufferError` while something is lent; then nothing has changed."""
        with self._lock:
            if self._lent:
                raise BufferError(f"{self._lent} tensors of this part still live on the device")
            self._closed = True


class DeviceArray:
    """One tensor of a part in device memory: C order, read-only by agreement."""

    def __init__(self, entry: TensorEntry, *, address: int, device: tuple[int, int], lender: Lender) -> None:
        """`address` is that of the arena's first byte; `device` DLPack's kind and ordinal."""
        self.shape = entry.shape
        self.dtype = np.dtype(entry.dtype)
        self.address = address + entry.offset
        self._device = device
        self._lender = lender

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def __dlpack_device__(self) -> tuple[int, int]:
        """DLPack's kind of device, and which of them."""
        return self._device

    def __dlpack__(self, *, stream: int | None = None, **_: Any) -> Any:
        """Lend the tensor; `stream` is the one that the consumer works on. The weights were there before: no waiting.

        Raises
        ------
        BufferError
            The part was unmapped.
        """
        self._lender.lend(stream)
        shape = (ctypes.c_int64 * max(1, len(self.shape)))(*self.shape)
        managed = _Managed()
        managed.tensor.data = self.address
        managed.tensor.device = _Device(*self._device)
        managed.tensor.dimensions = len(self.shape)
        managed.tensor.dtype = _DataType(_CODES[self.dtype.kind], self.dtype.itemsize * 8, 1)
        managed.tensor.shape = ctypes.cast(shape, ctypes.POINTER(ctypes.c_int64))
        managed.deleter = ctypes.cast(_on_give_back, ctypes.c_void_p)
        address = ctypes.addressof(managed)
        _out[address] = (managed, shape, self._lender)
        return _new_capsule(address, _FRESH, ctypes.cast(_on_drop_unused, ctypes.c_void_p))


def device_view(header: Header, *, address: int, device: tuple[int, int], lender: Lender) -> PartView:
    """What `Engine.build` takes of a part whose arena begins at a device address."""
    arrays: Mapping[str, DeviceArray] = {
        entry.name: DeviceArray(entry, address=address, device=device, lender=lender) for entry in header.entries
    }
    return PartView(tensors=arrays, meta=header.meta, digest=header.digest)
