"""Matrix products with the weights as they lie in the arena.

Separate because the step of the T2S network is bound by reading its matrices: how they are stored decides the speed,
and nothing else in the network should know.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Linear(Protocol):
    """`x @ weight.T + bias` for `x (rows, in)`."""

    def __call__(self, x: Tensor) -> Tensor:
        """`(rows, out)`, in the dtype of `x`."""
        ...

    def parameters(self) -> list[Tensor]:
        """The tensors it reads, to check where they lie."""
        ...


class PlainLinear:
    """Weights in the dtype that is computed in."""

    __slots__ = ("_bias", "_weight")

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight = weight
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        return torch.nn.functional.linear(x, self._weight, self._bias)

    def parameters(self) -> list[Tensor]:
        return [self._weight] if self._bias is None else [self._weight, self._bias]
