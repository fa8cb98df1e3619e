"""Arrays of an arena as tensors, without a copy: of host memory, or of a device's.

Separate because the rule is easy to break: `torch.frombuffer(mmap)` lets the mapping be closed under living tensors,
and the next read is a crash. A memoryview of the array keeps the export alive until the last tensor is gone.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from segue.memory.device.array import DeviceArray

BFLOAT16: Final = "bfloat16"
"""numpy has no such dtype: a bfloat16 tensor lies in an arena as int16 and is named in `meta["bfloat16"]`."""


def borrow(array: NDArray[Any] | DeviceArray) -> Tensor:
    """See an array as a tensor of the same shape and dtype; the memory stays the array's, and may be read-only.

    One on a device lends its memory by DLPack: it cannot be unmapped before the tensor is gone.
    """
    if isinstance(array, DeviceArray):
        return from_dlpack(array)
    if array.size == 0:
        return torch.from_numpy(array.copy())
    if not array.flags.c_contiguous:
        raise ValueError(f"an array of shape {array.shape} is not C-contiguous; lay it out so before it is borrowed")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        flat = torch.frombuffer(array.data.cast("B"), dtype=_dtype(array.dtype))
    return flat.reshape(array.shape)


def borrow_all(arrays: Mapping[str, NDArray[Any] | DeviceArray]) -> dict[str, Tensor]:
    """See every array of a part as a tensor."""
    return {name: borrow(array) for name, array in arrays.items()}


def _dtype(dtype: np.dtype[Any]) -> torch.dtype:
    found: Any = getattr(torch, "bool" if dtype == np.bool_ else dtype.name)
    assert isinstance(found, torch.dtype)
    return found
