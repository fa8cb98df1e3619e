"""What HuBERT's and RoBERTa's networks have in common: matrices as they lie in an arena, norms, and attention.

Separate because how a matrix is stored decides memory and speed and should be known in one place. float16 is what the
published files hold: kept so, a model takes half the memory and loses nothing, since each matrix is widened to float32,
into a buffer that all share, just before it is multiplied.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, linear, scaled_dot_product_attention

QKV: Final = "qkv"
"""What the three projections of an attention are called once they lie in one matrix."""


class Layers:
    """The tensors of a model, and the few operations that its layers are made of. One computation at a time.

    Parameters
    ----------
    tensors
        Views of a part: float32, float16, or int16 with the bits of bfloat16.
    eps
        Of all layer norms.
    heads
        Of all attentions.
    """

    def __init__(self, tensors: Mapping[str, Tensor], *, eps: float, heads: int) -> None:
        self.tensors = {
            name: tensor.view(torch.bfloat16) if tensor.dtype == torch.int16 else tensor
            for name, tensor in tensors.items()
        }
        self._eps = eps
        self._heads = heads
        self._buffer = torch.empty(0)
        self.lock: Final = threading.Lock()
        """Held during a computation: the buffer is shared, and a second one would only take the first one's cores."""

    def wide(self, name: str) -> Tensor:
        """A tensor in float32: itself, or in the buffer until the next is asked for."""
        stored = self.tensors[name]
        if stored.dtype == torch.float32:
            return stored
        if self._buffer.numel() < stored.numel():
            self._buffer = torch.empty(stored.numel())
        return self._buffer[: stored.numel()].view(stored.shape).copy_(stored)

    def linear(self, name: str, x: Tensor) -> Tensor:
        """`x @ weight.T + bias`; in bfloat16 where the weight is stored so."""
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        if weight.dtype == torch.bfloat16:
            return linear(x.bfloat16(), weight).float() + bias
        return linear(x, self.wide(f"{name}.weight"), bias)

    def norm(self, name: str, x: Tensor) -> Tensor:
        """Layer norm over the last axis."""
        return layer_norm(x, x.shape[-1:], self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"], self._eps)

    def attended(self, name: str, x: Tensor) -> Tensor:
        """Everything looks at everything; `(places, width)` to the same, before the projection out."""
        parts = self.linear(f"{name}.{QKV}", x).view(len(x), 3, self._heads, -1)
        query, key, value = parts.permute(1, 2, 0, 3)[:, None]
        return scaled_dot_product_attention(query, key, value)[0].transpose(0, 1).flatten(1)
