"""The acoustic model in numpy: phones to pitch, durations and spectra.

Works on *ragged* batches: the sequences of all rows lie end to end in one array with gaps of zeros between them, wide
enough that no convolution reaches from one row into the next. So rows of any length share one matrix product, nothing
is padded to the longest, and a NaN in one row cannot leak into another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
_NORM_EPSILON: Final = 1e-5


@dataclass(frozen=True, slots=True)
class Stack:
    """Blocks of one width, one after another.

    Attributes
    ----------
    layers
        Parameters of each block: `depthwise (kernel, width)`, `depthwise_bias (width,)`, `expand (width, hidden)`,
        `expand_bias (hidden,)`, `project (hidden, width)`, `project_bias (width,)`.
    dilations
        One per block.
    """

    layers: tuple[Mapping[str, Array], ...]
    dilations: tuple[int, ...]

    @property
    def gap(self) -> int:
        """Frames that the widest convolution of the stack reaches to either side."""
        return self._half_kernel * max(self.dilations)

    @property
    def halo(self) -> int:
        """Frames to either side on which an output frame depends, over all blocks."""
        return self._half_kernel * sum(self.dilations)

    @property
    def _half_kernel(self) -> int:
        return (len(self.layers[0]["depthwise"]) - 1) // 2

    def run(self, sequences: Sequence[Array]) -> list[Array]:
        """Run all blocks over sequences of shape `(frames_i, width) float32`; the results have the same shapes."""
        gap = self.gap
        bounds: list[tuple[int, int]] = []
        pieces: list[Array] = []
        blank = np.zeros((gap, sequences[0].shape[1]), np.float32)
        place = gap
        for sequence in sequences:
            bounds.append((place, place + len(sequence)))
            pieces += (blank, sequence)
            place += len(sequence) + gap
        x = np.concatenate((*pieces, blank))
        for layer, dilation in zip(self.layers, self.dilations, strict=True):
            _block(x, layer, dilation=dilation, gap=gap)
            for _, end in bounds:
                x[end : end + gap] = 0.0
        return [x[start:end] for start, end in bounds]


def _block(x: Array, layer: Mapping[str, Array], *, dilation: int, gap: int) -> None:
    """Add one block's output to `x` in place, everywhere but in the outermost gaps."""
    kernel = layer["depthwise"]
    rows = len(x) - 2 * gap
    first = gap - (len(kernel) - 1) // 2 * dilation
    mixed = x[first : first + rows] * kernel[0]
    product = np.empty_like(mixed)
    for tap in range(1, len(kernel)):
        start = first + tap * dilation
        np.multiply(x[start : start + rows], kernel[tap], out=product)
        mixed += product
    mixed += layer["depthwise_bias"]
    mixed -= mixed.mean(axis=1, keepdims=True)
    variance = np.einsum("ij,ij->i", mixed, mixed)[:, None] / np.float32(mixed.shape[1])
    mixed /= np.sqrt(variance + np.float32(_NORM_EPSILON))
    wide = mixed @ layer["expand"]
    wide += layer["expand_bias"]
    np.maximum(wide, 0.0, out=wide)
    np.matmul(wide, layer["project"], out=product)
    product += layer["project_bias"]
    x[gap : gap + rows] += product


def joined(sequences: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Lay sequences end to end, to multiply them by one matrix."""
    return sequences[0] if len(sequences) == 1 else np.concatenate(sequences)


def parted(joint: NDArray[Any], lengths: Sequence[int]) -> list[Array]:
    """Undo `joined`."""
    return np.split(joint, np.cumsum(lengths)[:-1])


@dataclass(frozen=True, slots=True)
class Prosody:
    """The half that knows what is said when and how high: text encoder, durations, pitch, voicing."""

    weights: Mapping[str, Array]
    encoder: Stack
    pitch: Stack

    def encode(self, ids: NDArray[np.int64], positions: Array) -> tuple[Array, Array]:
        """Hidden states `(tokens, 160)` and durations in 5 ms frames `(tokens,)`, not yet rounded, of one row."""
        w = self.weights
        (hidden,) = self.encoder.run([w["embedding"][ids] + positions @ w["position"] + w["speaker"]])
        return hidden, np.exp(hidden @ w["duration"][:, 0] + w["duration_bias"])

    def contour(self, hidden: Array, places: Array) -> Array:
        """From hidden states and places per 10 ms frame, normalised log pitch and voicing logit `(frames, 2)`."""
        w = self.weights
        (frames,) = self.pitch.run([hidden @ w["frame_hidden"] + places @ w["frame_place"] + w["frame_bias"]])
        return np.asarray(frames @ w["pitch_head"] + w["pitch_head_bias"], np.float32)


@dataclass(frozen=True, slots=True)
class Timbre:
    """The half that knows how the speaker sounds: frames to spectra."""

    weights: Mapping[str, Array]
    decoder: Stack

    def spectra(
        self, hidden: Sequence[Array], places: Sequence[Array], pitch: Sequence[Array]
    ) -> list[tuple[Array, Array]]:
        """For each row, log power in 80 bands and aperiodicity in 80 bands per 5 ms frame; `(frames, 80)` each."""
        w = self.weights
        x = joined(hidden) @ w["frame_hidden"] + joined(places) @ w["frame_place"]
        x += joined(pitch)[:, None] * w["frame_pitch"][0] + (w["speaker"] + w["frame_bias"])
        rows = self.decoder.run(parted(x, [len(row) for row in hidden]))
        bands = len(w["band_mean"])
        out: list[tuple[Array, Array]] = []
        for row in rows:
            y = row @ w["head"] + w["head_bias"]
            out.append((y[:, :bands] * w["band_std"] + w["band_mean"], y[:, bands:].clip(0.0, 1.0)))
        return out


def stack(weights: Mapping[str, Array], name: str, dilations: Sequence[int]) -> Stack:
    """Gather the blocks `name.0.…`, `name.1.…` from flat names."""
    layers = []
    for index in range(len(dilations)):
        prefix = f"{name}.{index}."
        layers.append({key.removeprefix(prefix): array for key, array in weights.items() if key.startswith(prefix)})
    return Stack(tuple(layers), tuple(dilations))
