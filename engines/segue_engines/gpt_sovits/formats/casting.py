"""From the types of files to the types that are served.

Separate from folding, which must come first and in float32. numpy has no bfloat16: its bit patterns travel as int16,
which arenas can hold and `torch.frombuffer(…, dtype=torch.int16).view(torch.bfloat16)` reads without a copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any, Final, assert_never

import numpy as np
from numpy.typing import NDArray

from segue.errors import WeightsError

_STEP: Final = 1 << 20
"""Numbers rounded at once: the largest tensor has 21 million, and its temporary copies would dwarf it."""


class ServingDtype(StrEnum):
    """What a voice is computed in."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"

    @property
    def item_bytes(self) -> int:
        """Bytes of one number."""
        return 4 if self is ServingDtype.FP32 else 2


def cast(
    tensors: Iterable[tuple[str, NDArray[Any]]], dtype: ServingDtype, *, file: str = "weights"
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Bring tensors to the serving type, one by one.

    Parameters
    ----------
    tensors
        (name, float16 or float32 array), finite.
    file
        Named in errors.

    Yields
    ------
    tuple
        (name, C-contiguous array): float32, float16, or int16 with the bits of bfloat16. Rounded to the nearest,
        ties to even. An array that has the type already is passed on, not copied.

    Raises
    ------
    WeightsError
        A value is too large for the type.
    """
    for name, array in tensors:
        yield name, _cast(f"{file}: tensor {name!r}", array, dtype)


def bfloat16_bits(array: NDArray[Any]) -> NDArray[np.int16]:
    """The bfloat16 nearest to each finite number, as bits; too large ones become infinity."""
    flat = np.ascontiguousarray(array).reshape(-1)
    halves = np.empty(flat.size, np.uint16)
    for begin in range(0, flat.size, _STEP):
        bits = flat[begin : begin + _STEP].astype(np.float32).view(np.uint32)
        bits += 0x7FFF + ((bits >> 16) & 1)  # ties to even
        halves[begin : begin + _STEP] = bits >> 16
    return halves.view(np.int16).reshape(array.shape)


def from_bfloat16_bits(bits: NDArray[np.int16]) -> NDArray[np.float32]:
    """The numbers behind `bfloat16_bits`, exactly."""
    wide = bits.view(np.uint16).astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)


def _cast(where: str, array: NDArray[Any], dtype: ServingDtype) -> NDArray[Any]:
    match dtype:
        case ServingDtype.FP32:
            return np.ascontiguousarray(array, np.float32)
        case ServingDtype.FP16:
            with np.errstate(over="ignore"):
                half = np.ascontiguousarray(array, np.float16)
            _refuse_overflow(where, np.isfinite(half), dtype)
            return half
        case ServingDtype.BF16:
            bits = bfloat16_bits(array)
            _refuse_overflow(where, (bits & 0x7F80) != 0x7F80, dtype)
            return bits
        case _:
            assert_never(dtype)


def _refuse_overflow(where: str, finite: NDArray[np.bool_], dtype: ServingDtype) -> None:
    if not finite.all():
        count = int(finite.size - np.count_nonzero(finite))
        raise WeightsError(f"{where} has {count} values too large for {dtype}; serve this voice in fp32")
