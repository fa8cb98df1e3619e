"""What is being said? A small phone recogniser in numpy, and the text match that it is for.

A voice can sound exactly like its reference and speak gibberish: similarity does not hear words. This network hears
English phones and nothing else; it was trained on espeak-ng voices (`training/train_recogniser.py`) and ships as 1.6 MB
of float16. Phones that are not ARPAbet are outside what it knows, and `covers` says so.

Source: connectionist temporal classification, A. Graves et al. (2006); greedy decoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from segue_engines.probes.phone_features import PHONES, log_mel, phone_ids
from segue_engines.probes.spectrum import Audio, at_rate

_DATA: Final = Path(__file__).parent / "data" / "recogniser.npz"
_BLANK: Final = 0
_MAX_UNKNOWN: Final = 0.05


def covers(phones: Sequence[str]) -> bool:
    """Say whether a text's phones are ones that the recogniser knows, so that a text match means something."""
    known, unknown = phone_ids(phones)
    return bool(known) and unknown <= _MAX_UNKNOWN * len(known)


def recognise(audio: Audio, sample_rate: int) -> list[str]:
    """Hear the phones of an utterance.

    Parameters
    ----------
    audio
        `(samples,) float32`, mono, finite.
    sample_rate
        Hz.

    Returns
    -------
    list
        ARPAbet phones without stress, pauses left out.
    """
    return [PHONES[label - 1] for label in _labels(audio, sample_rate)]


def phone_error_rate(audio: Audio, sample_rate: int, phones: Sequence[str]) -> float:
    """Measure how far what is heard is from what should have been said.

    Parameters
    ----------
    audio
        `(samples,) float32`, mono, finite.
    sample_rate
        Hz.
    phones
        ARPAbet, stress and pauses ignored; at least one that `covers` accepts.

    Returns
    -------
    float
        Insertions, deletions and substitutions per phone of the text: 0 is perfect, another text gives about 0.9, and
        it may exceed 1.
    """
    wanted, _ = phone_ids(phones)
    return edit_distance(_labels(audio, sample_rate), wanted) / max(len(wanted), 1)


def edit_distance(first: Sequence[int], second: Sequence[int]) -> int:
    """Levenshtein distance of two sequences of labels."""
    target = np.asarray(second, dtype=np.int64)
    steps = np.arange(target.size + 1)
    row = steps.copy()
    for count, label in enumerate(first, 1):
        best = np.empty_like(row)
        best[0] = count
        np.minimum(row[1:] + 1, row[:-1] + (target != label), out=best[1:])
        row = np.minimum.accumulate(best - steps) + steps
    return int(row[-1])


def _labels(audio: Audio, sample_rate: int) -> list[int]:
    logits = _forward(log_mel(at_rate(audio, sample_rate)))
    best = logits.argmax(axis=1)
    changes = np.flatnonzero(np.diff(best, prepend=-1))
    return [int(label) for label in best[changes] if label != _BLANK]


@cache
def _weights() -> dict[str, NDArray[np.float32]]:
    """Weights with convolutions turned into matrices `(taps * inputs, outputs)`."""
    with np.load(_DATA, allow_pickle=False) as stored:
        arrays = {name: stored[name].astype(np.float32) for name in stored.files}
    return {
        name: np.ascontiguousarray(value.transpose(2, 1, 0).reshape(-1, value.shape[0])) if value.ndim == 3 else value
        for name, value in arrays.items()
    }


def _forward(bands: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log mel bands `(frames, 64)` at 100 Hz to logits `(ceil(frames / 2), 40)` at 50 Hz."""
    weights = _weights()
    count = (len(bands) + 1) // 2
    padded = np.pad(bands, ((2, 3), (0, 0)))
    taps = [padded[tap : tap + 2 * count : 2] for tap in range(5)]
    x = _linear(np.concatenate(taps, axis=1), weights, "stem")
    np.maximum(x, 0.0, out=x)
    for index, dilation in enumerate(weights["dilations"].astype(int).tolist()):
        x += _block(x, weights, f"blocks.{index}", dilation)
    return _linear(np.maximum(x, 0.0), weights, "head")


def _block(x: NDArray[np.float32], weights: dict[str, NDArray[np.float32]], name: str, dilation: int) -> Audio:
    padded = np.pad(x, ((dilation, dilation), (0, 0)))
    taps = [padded[tap * dilation : tap * dilation + len(x)] for tap in range(3)]
    hidden = _linear(np.concatenate(taps, axis=1), weights, f"{name}.wide")
    hidden -= hidden.mean(axis=1, keepdims=True)
    hidden /= np.sqrt(np.mean(hidden * hidden, axis=1, keepdims=True) + np.float32(1e-5))
    hidden = hidden * weights[f"{name}.norm.weight"] + weights[f"{name}.norm.bias"]
    return _linear(np.maximum(hidden, 0.0), weights, f"{name}.mix")


def _linear(x: NDArray[np.float32], weights: dict[str, NDArray[np.float32]], name: str) -> NDArray[np.float32]:
    return np.asarray(x @ weights[f"{name}.weight"] + weights[f"{name}.bias"], dtype=np.float32)
