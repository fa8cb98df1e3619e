"""Weights for GPT-SoVITS networks, drawn from names and a seed: no trained ones are to be had for tests.

The golden vectors were made with exactly these numbers, so the recipe may not change; `checksum` tells whether it did.
Each tensor has a stream of its own: the raw 64-bit output of Philox, which numpy keeps stable, keyed by seed and name.
All values are rounded to float16, so that a file may store them in any of its types and lose nothing.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

Shape = Sequence[int]


@dataclass(frozen=True, slots=True)
class Rule:
    """How tensors whose names match are drawn: uniformly around `center` with the standard deviation `spread`.

    Attributes
    ----------
    ranks
        Numbers of axes that it holds for; empty: any.
    relative
        `spread` is in units of one over the root of the inputs of an output.
    """

    name: re.Pattern[str]
    center: float
    spread: float
    ranks: tuple[int, ...] = ()
    relative: bool = False

    def holds(self, name: str, rank: int) -> bool:
        """Whether it is about this tensor."""
        return (not self.ranks or rank in self.ranks) and self.name.search(name) is not None


def _rule(pattern: str, center: float, spread: float, *ranks: int, relative: bool = False) -> Rule:
    return Rule(re.compile(pattern), center, spread, ranks, relative)


_UPSAMPLING_LENGTHS: Final = (2.0, 2.0, 1.4, 1.0, 1.0)

_RULES: Final = (
    _rule(r"_codebook\.inited$", 1.0, 0.0),
    _rule(r"_codebook\.cluster_size$", 10.0, 1.0),
    _rule(r"_codebook\.embed(_avg)?$", 0.0, 1.0),
    _rule(r"running_var$", 1.0, 0.2),
    _rule(r"running_mean$", 0.0, 0.1),
    *(_rule(rf"^dec\.ups\.{stage}\..*weight_g$", g, 0.1 * g) for stage, g in enumerate(_UPSAMPLING_LENGTHS)),
    _rule(r"^dec\.resblocks\..*weight_g$", 0.6, 0.1 * 0.6),
    _rule(r"weight_g$", 1.0, 0.1),
    _rule(r"prelu\.weight$", 0.25, 0.05),
    _rule(r"\.(gamma|alpha)$", 1.0, 0.1),
    _rule(r"\.weight$", 1.0, 0.1, 1),
    _rule(r"\.h\.layers\.", 0.0, 0.03, 1),
    _rule(r"", 0.0, 0.1, 0, 1),
    _rule(r"(word_embeddings|text_embedding)\.weight$", 0.0, 1.0),
    _rule(r"emb_rel_[kv]$", 0.0, 0.3),
    _rule(r"in_proj_weight$", 0.0, 0.9, relative=True),
    _rule(r"conv_[qk]\.weight$", 0.0, 1.5, relative=True),
    _rule(r"ar_predict_layer\.weight$", 0.0, 2.0, relative=True),
    _rule(r"linear1\.weight$", 0.0, 1.4, relative=True),
    _rule(r"(self_attn\.out_proj|linear2)\.weight$", 0.0, 0.3, relative=True),
    _rule(r"", 0.0, 0.6, 4, relative=True),
    _rule(r"^enc_p\.proj\.weight$", 0.0, 0.5, relative=True),
    _rule(r"^dec\.conv_post\.weight$", 0.0, 0.1, relative=True),
    _rule(r"", 0.0, 1.0, relative=True),
)
"""The first that holds decides."""


def drawn(name: str, shape: Shape, *, seed: int | str, eos_gain: float = 1.0) -> NDArray[Any]:
    """One tensor: float32 (int64 zeros for counters), each value one that float16 can hold.

    Parameters
    ----------
    name
        As in the file, T2S names with `model.`.
    eos_gain
        Factor on the last row of the T2S head, so that a random network comes to an end; 0: never.
    """
    if name.endswith("num_batches_tracked"):
        return np.zeros(tuple(shape), np.int64)
    rule = next(rule for rule in _RULES if rule.holds(name, len(shape)))
    inputs = math.prod(shape[1:]) if len(shape) > 1 else 1
    spread = rule.spread * (1.0 / math.sqrt(inputs)) if rule.relative else rule.spread
    values = (rule.center + spread * _uniform(f"{seed}:{name}", math.prod(shape))).reshape(tuple(shape))
    if name.endswith("ar_predict_layer.weight") and eos_gain != 1.0:
        values[-1] *= eos_gain
    return values.astype(np.float16).astype(np.float32)


def _uniform(key: str, count: int) -> NDArray[np.float64]:
    """Numbers of mean 0 and variance 1."""
    digest = hashlib.sha256(key.encode()).digest()
    raw = np.random.Philox(key=int.from_bytes(digest[:8], "little")).random_raw(count)
    values: NDArray[np.float64] = (raw >> np.uint64(11)).astype(np.float64)
    return (2.0 * (values * 2.0**-53) - 1.0) * math.sqrt(3.0)


class DrawnTensors(Mapping[str, NDArray[Any]]):
    """All tensors of a table, each drawn when it is looked at: a full voice never lies in memory as a whole."""

    def __init__(self, shapes: Mapping[str, Shape], *, seed: int, eos_gain: float = 1.0) -> None:
        self.shapes = shapes
        self._draw: Callable[[str], NDArray[Any]] = lambda name: drawn(name, shapes[name], seed=seed, eos_gain=eos_gain)

    @override
    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._draw(name)

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    @override
    def __len__(self) -> int:
        return len(self.shapes)


def checksum(tensors: Mapping[str, NDArray[Any]]) -> str:
    """First 16 hex digits of the sha256 over names and float32 bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensors[name], "<f4").tobytes())
    return digest.hexdigest()[:16]
