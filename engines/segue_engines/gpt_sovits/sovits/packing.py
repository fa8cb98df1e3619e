"""How the generator's weights lie in the arena.

Separate from the network because `prepare` packs with numpy, in another process than the one that computes. The
generator is nine tenths of the decoder's work; its kernels are stored with the input channels innermost, which is what
the processor's convolutions want, so that none of them is laid out anew each time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segue_engines.gpt_sovits.formats import ServingDtype, cast


class DecoderDtype(StrEnum):
    """What the generator computes in: as the original, or in half the memory and, with AMX, a third of the time."""

    FP32 = "fp32"
    BF16 = "bf16"


def packed(
    tensors: Iterable[tuple[str, NDArray[Any]]], *, dtype: DecoderDtype, file: str = "weights"
) -> dict[str, NDArray[Any]]:
    """Pack the tensors of a `.pth` whose weight norm is folded; bfloat16 comes as int16 with its bits. Errors name
    `file`."""
    result: dict[str, NDArray[Any]] = {}
    for name, array in tensors:
        laid_out = np.ascontiguousarray(array.transpose(0, 2, 1)) if _is_kernel(name) else array
        half = dtype is DecoderDtype.BF16 and _is_generator(name)
        result.update(cast([(name, laid_out)], ServingDtype.BF16 if half else ServingDtype.FP32, file=file))
    return result


def unpacked(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """See packed tensors in the shapes of the file; nothing is copied."""
    return dict(_seen(tensors))


def _seen(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors.items():
        typed = tensor.view(torch.bfloat16) if tensor.dtype == torch.int16 else tensor
        yield name, typed.permute(0, 2, 1) if _is_kernel(name) else typed


def _is_generator(name: str) -> bool:
    return name.startswith("dec.") and not name.startswith("dec.cond.")


def _is_kernel(name: str) -> bool:
    return _is_generator(name) and name.endswith(".weight")
