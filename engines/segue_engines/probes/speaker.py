"""Who is speaking? A speaker encoder in numpy.

The network and its weights are those of the Resemblyzer package (Apache-2.0, see NOTICE): three LSTM layers over 40 mel
bands, windows of 1.6 s, trained on English speech. Similarity hears *who*, not *what*: reversed speech scores 0.95, so
it is never a gate alone. Sentence against sentence it is noisy; give it ten seconds and more.

Source: L. Wan et al., "Generalized end-to-end loss for speaker verification" (2018).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from segue_engines.probes.spectrum import HOP, SPEECH_RATE_HZ, Audio, at_rate, mel_filters, power_spectra

EMBEDDING: Final = 256
MIN_SPEECH_S: Final = 10.0
"""Shorter audio gives a figure that means nothing at a threshold of 0.9."""
_DATA: Final = Path(__file__).parent / "data" / "speaker.npz"
_BANDS: Final = 40
_WINDOW: Final = 160
"""Frames of one partial embedding: 1.6 s."""
_STEP: Final = 77
"""Frames between partial embeddings: 1.3 a second."""
_MIN_COVERAGE: Final = 0.75
_LEVEL_DBFS: Final = -22.0
"""All speech is brought to this level. The original raises quiet speech to -30 and leaves loud speech alone, so that
the same voice 30 dB louder scores 0.97; at one level it scores 1, and voices are told apart as well as before."""
_SILENT: Final = 1e-5
_GATE_FRAME: Final = 480
_GATE_DB: Final = 35.0
"""Frames (30 ms) this far below the loud ones are silence."""
_GATE_HANG: Final = 4
"""Silent frames kept on each side of speech, so that words keep their closures."""


def embed(audio: Audio, sample_rate: int) -> NDArray[np.float32]:
    """Embed a voice.

    Parameters
    ----------
    audio
        `(samples,) float32`, mono.
    sample_rate
        Hz.

    Returns
    -------
    array
        `(256,) float32` of length 1; all zero when there is no speech in the audio.
    """
    speech = _levelled(speech_only(at_rate(audio, sample_rate)))
    if not speech.size:
        return np.zeros(EMBEDDING, np.float32)
    partials = _forward(_windows(speech))
    mean = partials.mean(axis=0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-9), dtype=np.float32)


def similarity(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Cosine of two embeddings, 0 to 1."""
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / lengths if lengths else 0.0


def speech_only(audio: Audio) -> Audio:
    """Drop long silences: an energy gate against the audio's own loud frames.

    Parameters
    ----------
    audio
        At 16 kHz.
    """
    whole = audio[: audio.size - audio.size % _GATE_FRAME].reshape(-1, _GATE_FRAME)
    if not whole.size:
        return audio[:0]
    levels = 10 * np.log10(np.mean(whole.astype(np.float64) ** 2, axis=1) + 1e-12)
    loud = levels > max(float(np.percentile(levels, 95)) - _GATE_DB, -70.0)
    near = np.convolve(loud, np.ones(2 * _GATE_HANG + 1), mode="same") > 0.5
    return np.ascontiguousarray(whole[near]).reshape(-1)


def _levelled(speech: Audio) -> Audio:
    rms = float(np.sqrt(np.mean(speech.astype(np.float64) ** 2))) if speech.size else 0.0
    return speech * np.float32(10 ** (_LEVEL_DBFS / 20) / rms) if rms > _SILENT else speech[:0]


def _windows(speech: Audio) -> NDArray[np.float32]:
    """Mel bands in windows: `(windows, 160, 40)`."""
    span = _WINDOW * HOP
    count = max(1, 1 + int(np.ceil((speech.size - span) / (_STEP * HOP))))
    last = (count - 1) * _STEP * HOP
    if count > 1 and speech.size - last < _MIN_COVERAGE * span:
        count, last = count - 1, last - _STEP * HOP
    padded = np.pad(speech, (0, max(0, last + span - speech.size)))
    bands = power_spectra(padded) @ mel_filters(_BANDS, 0.0, SPEECH_RATE_HZ / 2)
    starts = np.arange(count)[:, None] * _STEP + np.arange(_WINDOW)
    return np.ascontiguousarray(bands[starts])


@cache
def _weights() -> dict[str, NDArray[np.float32]]:
    with np.load(_DATA, allow_pickle=False) as stored:
        return {name: stored[name].astype(np.float32) for name in stored.files}


def _forward(windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Embeddings of windows: `(windows, 160, 40)` to `(windows, 256)`."""
    weights = _weights()
    sequence = np.ascontiguousarray(windows.transpose(1, 0, 2))
    for layer in range(3):
        sequence = _lstm(sequence, weights, layer)
    raw = np.maximum(sequence[-1] @ weights["linear.weight"].T + weights["linear.bias"], 0.0)
    return np.asarray(raw / np.maximum(np.linalg.norm(raw, axis=1, keepdims=True), 1e-9), dtype=np.float32)


def _lstm(sequence: NDArray[np.float32], weights: dict[str, NDArray[np.float32]], layer: int) -> NDArray[np.float32]:
    """One layer, gates in torch's order (input, forget, cell, output): `(steps, rows, in)` to `(steps, rows, 256)`."""
    steps, rows, inputs = sequence.shape
    bias = weights[f"lstm.bias_ih_l{layer}"] + weights[f"lstm.bias_hh_l{layer}"]
    driven = sequence.reshape(-1, inputs) @ weights[f"lstm.weight_ih_l{layer}"].T + bias
    driven = driven.reshape(steps, rows, -1)
    recurrent = np.ascontiguousarray(weights[f"lstm.weight_hh_l{layer}"].T)
    size = recurrent.shape[0]
    hidden = np.zeros((rows, size), np.float32)
    cell = np.zeros((rows, size), np.float32)
    out = np.empty((steps, rows, size), np.float32)
    for step in range(steps):
        gates = driven[step] + hidden @ recurrent
        kept = _sigmoid(gates[:, : 2 * size])
        cell = kept[:, size:] * cell + kept[:, :size] * np.tanh(gates[:, 2 * size : 3 * size])
        hidden = _sigmoid(gates[:, 3 * size :]) * np.tanh(cell)
        out[step] = hidden
    return out


def _sigmoid(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(0.5 * np.tanh(0.5 * x) + 0.5, dtype=np.float32)
