"""What the compiled pieces of a step share: how they are compiled, and bfloat16, which numba does not know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import numpy as np
from numba import njit

from segue_engines.gpt_sovits.t2s.vectors import float_of_bits, half_of_float

_Function = TypeVar("_Function", bound=Callable[..., Any])
_FAST: Final = {"contract", "reassoc", "arcp", "nsz"}
_UPPER: Final = np.uint32(16)


def compiled(function: _Function) -> _Function:
    """Compile at the first call. Sums may be reordered; what is not a number stays so, and division by zero is none."""
    made: _Function = njit(error_model="numpy", fastmath=_FAST, nogil=True)(function)
    return made


@compiled
def widened(half: Any) -> Any:  # pragma: no cover - compiled
    """The float32 of a bfloat16 that comes as `uint16`."""
    return float_of_bits(np.uint32(half) << _UPPER)


@compiled
def rounded(number: Any) -> Any:  # pragma: no cover - compiled
    """The nearest bfloat16 of a float32, the even one of two, as `uint16`."""
    return half_of_float(number)
