"""What the front end hands to the networks: pieces of text, each a few runs of one language.

Separate from the reading so that the networks depend on these few values and on no dictionary.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from segue.errors import SynthesisError
from segue_engines.gpt_sovits.text.symbols import SYMBOL_IDS


class Tongue(StrEnum):
    """The language of one run."""

    ZH = "zh"
    YUE = "yue"
    EN = "en"
    JA = "ja"
    KO = "ko"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How one run is read.

    Attributes
    ----------
    normalised
        The text after numbers, marks and the like were written out: what RoBERTa reads.
    symbols
        Phones by name.
    word2ph
        Phones of each character of `normalised`: two a hanzi, one a mark. `None` for languages without such a map.
    """

    normalised: str
    symbols: tuple[str, ...]
    word2ph: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.word2ph is None:
            return
        if len(self.word2ph) != len(self.normalised) or sum(self.word2ph) != len(self.symbols):
            raise SynthesisError(
                f"the phones of {self.normalised[:40]!r} do not fit its characters: {len(self.normalised)} characters, "
                f"{len(self.word2ph)} counts that add up to {sum(self.word2ph)}, {len(self.symbols)} phones. "
                "This is a mistake of the text front end: report it with the text"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A stretch of a piece in one language.

    Attributes
    ----------
    tongue
        Its language; `Tongue.ZH` alone has text features.
    text
        As it stands in the piece.
    reading
        Its phones; every symbol is one of `symbols.SYMBOLS`.
    """

    tongue: Tongue
    text: str
    reading: Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """The unit of synthesis: what T2S reads at once, at most `frontend.MAX_PIECE` characters.

    Attributes
    ----------
    text
        The piece as it was cut from the cleaned input, with the marks that were added.
    runs
        Its languages in order; their texts put together are `text`, or `"." + text` where the piece was too short.
    """

    text: str
    runs: tuple[Run, ...]

    @property
    def symbols(self) -> tuple[str, ...]:
        """Phones by name, of all runs."""
        return tuple(symbol for run in self.runs for symbol in run.reading.symbols)

    @property
    def phone_ids(self) -> tuple[int, ...]:
        """Phones as rows of the networks' embeddings, 0 to 731, of all runs."""
        return tuple(SYMBOL_IDS[symbol] for symbol in self.symbols)

    @property
    def normalised(self) -> str:
        """The normalised text of all runs."""
        return "".join(run.reading.normalised for run in self.runs)


class Unreadable(SynthesisError):
    """A run that cannot be read. The front end finds its place in the input and answers `TextRejected`.

    Attributes
    ----------
    what
        The characters that cannot be read, as they stand in the run.
    why
        The rest of the sentence "cannot read WHAT: WHY".
    """

    def __init__(self, what: str, *, why: str) -> None:
        self.what = what
        self.why = why
        super().__init__(f"cannot read {what!r}: {why}")
