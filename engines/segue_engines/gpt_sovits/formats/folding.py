"""Weight norm, folded into plain weights.

Separate from the cast because the order matters: files store float16, and folding in that changes what is heard. Done
once in the sidecar's child, so that no server ever divides by a norm.

Source: Salimans and Kingma, "Weight Normalization" (2016), equation 2: w = g * v / |v|. The norm is over all axes but
the first, which for a transposed convolution is the *input* channel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from segue.errors import ShapeMismatch, WeightsError

_LENGTH: Final = ".weight_g"
_DIRECTION: Final = ".weight_v"


def fold_weight_norm(
    tensors: Mapping[str, NDArray[Any]], *, file: str = "weights"
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield (name, array) with each pair `X.weight_g` and `X.weight_v` made one `X.weight`, in place of the first.

    Parameters
    ----------
    tensors
        Names as in the file. Looked up one by one and not kept.
    file
        Named in errors.

    Yields
    ------
    tuple
        Folded weights as float32, in the shape of `weight_v`; all others as they were.

    Raises
    ------
    ShapeMismatch
        One of a pair is missing, or the lengths do not fit the directions.
    WeightsError
        A direction is all zeros: it cannot be normed.
    """
    for name in tensors:
        base = _base(name)
        if base is None:
            yield name, tensors[name]
        elif name.endswith(_LENGTH):
            yield f"{base}.weight", _folded(base, tensors, file)
        elif base + _LENGTH not in tensors:
            raise ShapeMismatch(f"{file}: tensor {name!r} comes without {base + _LENGTH!r}")


def _base(name: str) -> str | None:
    for ending in (_LENGTH, _DIRECTION):
        if name.endswith(ending):
            return name.removesuffix(ending)
    return None


def _folded(base: str, tensors: Mapping[str, NDArray[Any]], file: str) -> NDArray[np.float32]:
    if base + _DIRECTION not in tensors:
        raise ShapeMismatch(f"{file}: tensor {base + _LENGTH!r} comes without {base + _DIRECTION!r}")
    length = tensors[base + _LENGTH].astype(np.float32)
    direction = tensors[base + _DIRECTION].astype(np.float32)
    rows = direction.reshape(len(direction), -1)
    if length.size != len(rows):
        raise ShapeMismatch(f"{file}: tensor {base + _LENGTH!r} has shape {length.shape}; expected {len(rows)} lengths")
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64)).astype(np.float32)
    if not norms.all():
        raise WeightsError(
            f"{file}: tensor {base + _DIRECTION!r}: row {int(np.argmin(norms))} is all zeros and has no direction"
        )
    rows *= (length.reshape(-1) / norms)[:, None]
    return direction
