"""Text features for T2S: one vector a phone, from whatever reads characters.

Only the seam is here. The model (RoBERTa, third-last hidden state) is a shared part of its own; without it every vector
is zero, as it is for all languages but Mandarin anyway.
"""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from segue_engines.gpt_sovits.text.pieces import Piece, Run, Tongue

FEATURES: Final = 1024
"""Length of a vector."""


class CharacterFeatures(Protocol):
    """A model that reads Chinese text and has a vector for each character."""

    def of(self, text: str) -> NDArray[np.float32]:
        """Features of a normalised text of at most 510 characters: `(len(text), 1024) float32`, without the vectors of
        the first and last token."""
        ...


def phone_features(piece: Piece, *, model: CharacterFeatures | None) -> NDArray[np.float32]:
    """Spread character features over the phones of a piece.

    Parameters
    ----------
    piece
        As the front end made it.
    model
        What reads characters; zeros everywhere where it is `None`.

    Returns
    -------
    NDArray
        `(1024, phones) float32`, owned by the caller: each character's vector as often as it has phones in a Mandarin
        run, zeros in all others.

    Raises
    ------
    ValueError
        The model gave features of another shape.
    """
    return np.concatenate([_run_features(run, model=model) for run in piece.runs], axis=1)


def _run_features(run: Run, *, model: CharacterFeatures | None) -> NDArray[np.float32]:
    reading = run.reading
    if model is None or run.tongue is not Tongue.ZH or reading.word2ph is None:
        return np.zeros((FEATURES, len(reading.symbols)), np.float32)
    features = model.of(reading.normalised)
    if features.shape != (len(reading.normalised), FEATURES):
        raise ValueError(
            f"text features of {len(reading.normalised)} characters have the shape {features.shape}; "
            f"expected {(len(reading.normalised), FEATURES)}"
        )
    return np.repeat(features, reading.word2ph, axis=0).T.astype(np.float32)
