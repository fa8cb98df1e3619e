"""The text front end, as the engine wants it: pieces of text as phone ids with their text features.

Separate from the engine because tests give phones directly, and from the front end because that knows no networks.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from segue.errors import SynthesisError
from segue_engines.gpt_sovits.spoken import Spoken, with_features
from segue_engines.gpt_sovits.text import Cut, Piece, TextFrontEnd, Tongue
from segue_engines.gpt_sovits.text.bert import CharacterFeatures, phone_features
from segue_engines.gpt_sovits.text.mandarin.g2pw import G2pw

_AUTO: Final = "auto"


def texts_with(*, g2pw: Path) -> TextFrontEnd:
    """A front end of `text` that asks G2PW how hanzi are read.

    Raises
    ------
    SegueError
        A file of it is missing, or onnxruntime.
    """
    return TextFrontEnd(polyphones=G2pw(g2pw))


class PieceReader:
    """Reads texts with `text.TextFrontEnd`.

    Parameters
    ----------
    texts
        The front end; its dictionaries are loaded when a language is first met.
    features
        RoBERTa, for the features of Chinese text; zeros where it is None.
    """

    def __init__(self, *, texts: TextFrontEnd | None = None, features: CharacterFeatures | None = None) -> None:
        self._texts = texts or TextFrontEnd()
        self._features = features

    def read(self, text: str, language: str, *, cut: str = Cut.MARKS) -> list[Spoken]:
        """Cut and read a text; features of Chinese pieces are left for later (`Spoken.later`).

        Raises
        ------
        TextRejected
            It cannot be read.
        """
        pieces = self._texts.read_target(text, language=language or _AUTO, cut=Cut(cut))
        return [
            Spoken(phones=piece.symbols, ids=piece.phone_ids, later=self._features_later(piece)) for piece in pieces
        ]

    def read_reference(self, text: str, language: str) -> Spoken:
        """Read what is said in a reference recording.

        Raises
        ------
        TextRejected
            It cannot be read.
        """
        piece = self._texts.read_prompt(text, language=language or _AUTO)
        return with_features(Spoken(phones=piece.symbols, ids=piece.phone_ids, later=self._features_later(piece)))

    def _features_later(self, piece: Piece) -> Callable[[], NDArray[np.float32]] | None:
        """Only Chinese runs have features; for all others zeros need not be made.

        Who makes them is held weakly: a row may outlive its voice, whose memory must not wait for it.
        """
        if self._features is None or not any(run.tongue is Tongue.ZH for run in piece.runs):
            return None
        known = weakref.ref(self._features)

        def make() -> NDArray[np.float32]:
            features = known()
            if features is None:
                raise SynthesisError("the voice was closed before all of its text was read")
            return phone_features(piece, model=features)

        return make
