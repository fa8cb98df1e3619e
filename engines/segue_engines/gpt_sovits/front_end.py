"""The text front end, as the engine wants it: pieces of text as phone ids with their text features.

Separate from the engine because tests give phones directly, and from the front end because that knows no networks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from segue_engines.gpt_sovits.spoken import Spoken
from segue_engines.gpt_sovits.text import Cut, Piece, TextFrontEnd, Tongue
from segue_engines.gpt_sovits.text.bert import CharacterFeatures, phone_features
from segue_engines.gpt_sovits.text.mandarin.g2pw import G2pw

_AUTO: Final = "auto"


def reader_with(*, g2pw: Path) -> PieceReader:
    """A reader that asks G2PW how hanzi are read.

    Raises
    ------
    SegueError
        A file of it is missing, or onnxruntime.
    """
    return PieceReader(texts=TextFrontEnd(polyphones=G2pw(g2pw)))


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
        """Cut and read a text.

        Raises
        ------
        TextRejected
            It cannot be read.
        """
        pieces = self._texts.read_target(text, language=language or _AUTO, cut=Cut(cut))
        return [self._spoken(piece) for piece in pieces]

    def read_reference(self, text: str, language: str) -> Spoken:
        """Read what is said in a reference recording.

        Raises
        ------
        TextRejected
            It cannot be read.
        """
        return self._spoken(self._texts.read_prompt(text, language=language or _AUTO))

    def _spoken(self, piece: Piece) -> Spoken:
        """Only Chinese runs have features; for all others zeros need not be made."""
        chinese = any(run.tongue is Tongue.ZH for run in piece.runs)
        bert = phone_features(piece, model=self._features) if chinese and self._features is not None else None
        return Spoken(phones=piece.symbols, ids=piece.phone_ids, bert=bert)
