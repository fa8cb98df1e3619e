"""In what types the T2S network's matrices lie in the arena.

Separate from the network because `prepare` packs with numpy, in another process than the one that computes. Only the
four large matrices of each layer are packed: they are nine tenths of the bytes that a step reads. Everything else is
float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from segue_engines.gpt_sovits.formats import ServingDtype, cast

SCALES: Final = ".scales"
"""Ends the name of the column of scales that belongs to an int8 matrix."""
_MATRICES: Final = ("self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight")
_LARGEST: Final = 127


class T2SDtype(StrEnum):
    """How the large matrices are stored.

    `fp32` computes what the original computes. `bf16` takes half the memory, and half the time where the processor
    multiplies bfloat16 itself (AVX-512 BF16, AMX), `int8` a quarter of the memory, with one scale for each output.
    """

    FP32 = "fp32"
    BF16 = "bf16"
    INT8 = "int8"


def packed(tensors: Mapping[str, NDArray[Any]], *, dtype: T2SDtype, file: str = "weights") -> dict[str, NDArray[Any]]:
    """Pack the tensors of a `.ckpt`; bfloat16 comes as int16 with its bits (see `formats.casting`).
    Errors name `file`."""
    result: dict[str, NDArray[Any]] = {}
    for name in tensors:
        array = tensors[name]
        large = name.endswith(_MATRICES)
        if large and dtype is T2SDtype.INT8:
            result[name], result[name + SCALES] = _quantised(array)
        else:
            stored = ServingDtype.BF16 if large and dtype is T2SDtype.BF16 else ServingDtype.FP32
            result.update(cast([(name, array)], stored, file=file))
    return result


def _quantised(array: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Whole numbers and one scale a row, symmetric around zero; a row of zeros keeps the scale 1."""
    wide = array.astype(np.float32)
    scales = np.abs(wide).max(axis=1) / _LARGEST
    scales[scales == 0] = 1.0
    return np.rint(wide / scales[:, None]).astype(np.int8), scales.astype(np.float32)
