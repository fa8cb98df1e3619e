"""What the tests of the languages share: one front end, and the phones of a text as one string."""

from __future__ import annotations

from segue_engines.gpt_sovits.text import Piece, TextFrontEnd

FRONT_END = TextFrontEnd()


def pieces(text: str, language: str) -> tuple[Piece, ...]:
    return FRONT_END.read_target(text, language=language)


def phones(text: str, language: str) -> str:
    """The phones of all pieces, without the full stop that short texts get in front and all texts at the end."""
    symbols = [symbol for piece in pieces(text, language) for symbol in piece.symbols]
    return " ".join(symbols).removeprefix(". ").removesuffix(" .")


def languages(text: str, language: str = "auto") -> list[tuple[str, str]]:
    """Language and text of each run."""
    return [(run.tongue.value, run.text) for piece in pieces(text, language) for run in piece.runs]
