"""Text and language to pieces with phones: the one door to this folder.

`read_target` for what is to be spoken, `read_prompt` for what a reference says: they differ in what is done to marks
and length, and nothing else.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from typing import Final

from segue.errors import TextRejected
from segue_engines.gpt_sovits.text.cutting import Cut, closed, cut_target, halves
from segue_engines.gpt_sovits.text.languages import Language, language_named
from segue_engines.gpt_sovits.text.mandarin.polyphones import Polyphones
from segue_engines.gpt_sovits.text.pieces import Piece, Reading, Run, Tongue, Unreadable
from segue_engines.gpt_sovits.text.runs import Stretch, runs_of
from segue_engines.gpt_sovits.text.scripts import first_foreign, washed
from segue_engines.gpt_sovits.text.symbols import MARKS, UNKNOWN

MAX_CHARACTERS: Final = 50_000
"""Longest text that is read; about two hours of speech."""
MAX_PIECE: Final = 510
"""Longest piece in characters, for Chinese also after normalisation: RoBERTa takes 512 tokens, two of them its own."""
MIN_PHONES: Final = 6
"""A piece with fewer is read once more with a full stop in front."""

Reader = Callable[[str], Reading]
_SILENT: Final = frozenset({*MARKS, UNKNOWN, "_", "[", "]", "空", "停"})


class TextFrontEnd:
    """Reads texts. Safe to call from several threads; loads a language when it is first met.

    Parameters
    ----------
    polyphones
        Who tells the reading of each hanzi of Mandarin; pypinyin where it is `None`.
    """

    def __init__(self, *, polyphones: Polyphones | None = None) -> None:
        self._polyphones = polyphones
        self._readers: dict[Tongue, Reader] = {}
        self._lock = threading.Lock()

    def read_target(self, text: str, *, language: str, cut: Cut = Cut.MARKS) -> tuple[Piece, ...]:
        """Read what is to be spoken.

        Parameters
        ----------
        text
            Up to `MAX_CHARACTERS` characters.
        language
            One of `Language`, or a BCP-47 tag of one (`zh-CN`).
        cut
            Where a long text is cut.

        Returns
        -------
        tuple of Piece
            At least one, in the order of the text. No piece has more than `MAX_PIECE` characters, and no Chinese run
            more than that many normalised ones.

        Raises
        ------
        TextRejected
            An unknown language, a letter that it cannot read, too long a text, or nothing to say. The span is in
            characters of `text`.
        SynthesisError
            The library behind a language is not installed.
        """
        spoken_in = _language(text, name=language)
        pieces = cut_target(_checked(text), cut=cut, full_stop=spoken_in.full_stop)
        return self._read(pieces, text=text, language=spoken_in)

    def read_prompt(self, text: str, *, language: str) -> Piece:
        """Read what is said in a reference recording: one piece, closed by a mark, otherwise as it is.

        Raises
        ------
        TextRejected
            As `read_target`; also for a text of more than `MAX_PIECE` characters, which no reference of ten seconds
            holds.
        SynthesisError
            The library behind a language is not installed.
        """
        spoken_in = _language(text, name=language)
        clean = _checked(text).strip()
        pieces = [closed(clean, full_stop=spoken_in.full_stop)] if re.search(r"\w", clean) else []
        read = self._read(pieces, text=text, language=spoken_in)
        if len(read) > 1:
            raise TextRejected(
                f"the text of a reference has {len(text)} characters: at most {MAX_PIECE} can be said in ten seconds",
                span=(MAX_PIECE, len(text)),
            )
        return read[0]

    def warm_up(self, language: str) -> None:
        """Load what a language needs, so that its first text is read as fast as all others.

        English always, because it may stand in any text; with `auto` and `auto_yue` nothing else, because which
        languages will come is not known.

        Raises
        ------
        TextRejected
            An unknown language.
        SynthesisError
            A library is not installed; the message says what to install.
        """
        named = _language("", name=language).named
        for tongue in {Tongue.EN, *([named] if named else [])}:
            self._reader(tongue)(_SAMPLES[tongue])

    def _read(self, pieces: Iterable[str], *, text: str, language: Language) -> tuple[Piece, ...]:
        try:
            read = [
                part
                for piece in pieces
                for half in halves(piece, limit=MAX_PIECE)
                for part in self._bounded(half, language=language)
            ]
        except Unreadable as error:
            raise _rejection(error, text=text) from error
        spoken = tuple(piece for piece in read if _says_something(piece))
        if not spoken:
            raise TextRejected(
                f"nothing to speak in {text[:40]!r}: send at least one word or number", span=(0, len(text))
            )
        return spoken

    def _bounded(self, text: str, *, language: Language) -> list[Piece]:
        """Read a piece; halve it as long as writing its numbers out makes it too long for RoBERTa."""
        piece = self._piece(text, language=language)
        if len(text) < 2 or all(len(run.reading.word2ph or ()) <= MAX_PIECE for run in piece.runs):
            return [piece]
        return [
            part for half in halves(text, limit=(len(text) + 1) // 2) for part in self._bounded(half, language=language)
        ]

    def _piece(self, text: str, *, language: Language) -> Piece:
        """Read a piece, and once more with a full stop in front if it has too few phones."""
        piece = self._runs(text, said=text, language=language)
        if len(piece.symbols) >= MIN_PHONES:
            return piece
        return self._runs("." + text, said=text, language=language)

    def _runs(self, text: str, *, said: str, language: Language) -> Piece:
        runs = tuple(map(self._run, runs_of(re.sub(" {2,}", " ", text), language=language)))
        return Piece(text=said, runs=tuple(run for run in runs if run.reading.symbols))

    def _run(self, stretch: Stretch) -> Run:
        reading = self._reader(stretch.tongue)(stretch.text)
        return Run(tongue=stretch.tongue, text=stretch.text, reading=reading)

    def _reader(self, tongue: Tongue) -> Reader:
        with self._lock:
            if tongue not in self._readers:
                self._readers[tongue] = self._loaded(tongue)
            return self._readers[tongue]

    def _loaded(self, tongue: Tongue) -> Reader:
        match tongue:
            case Tongue.EN:
                from segue_engines.gpt_sovits.text.english import read_english

                return read_english
            case Tongue.ZH:
                from segue_engines.gpt_sovits.text.mandarin.reading import MandarinReader

                return MandarinReader(self._polyphones).read
            case Tongue.YUE:
                from segue_engines.gpt_sovits.text.cantonese import read_cantonese

                return read_cantonese
            case Tongue.JA:
                from segue_engines.gpt_sovits.text.japanese import read_japanese

                return read_japanese
            case Tongue.KO:
                from segue_engines.gpt_sovits.text.korean.reading import read_korean

                return read_korean


_SAMPLES: Final = {
    Tongue.EN: "Hello.",
    Tongue.ZH: "银行行长。",
    Tongue.YUE: "你好。",
    Tongue.JA: "こんにちは。",
    Tongue.KO: "안녕하세요.",
}


def _language(text: str, *, name: str) -> Language:
    language = language_named(name)
    if language is None:
        raise TextRejected(
            f"a GPT-SoVITS voice cannot read the language {name!r}: it must be one of "
            f"{', '.join(language.value for language in Language)}",
            span=(0, len(text)),
        )
    return language


def _checked(text: str) -> str:
    """Wash a text that is neither too long nor in a script that nothing here reads."""
    if len(text) > MAX_CHARACTERS:
        raise TextRejected(
            f"the text has {len(text)} characters: at most {MAX_CHARACTERS} are read at once, split it",
            span=(MAX_CHARACTERS, len(text)),
        )
    if foreign := first_foreign(text):
        start, end = foreign
        raise TextRejected(
            f"cannot read {text[start:end][:40]!r} at characters {start} to {end}: a GPT-SoVITS voice reads Chinese, "
            "Cantonese, English, Japanese and Korean",
            span=foreign,
        )
    return washed(text)


def _rejection(error: Unreadable, *, text: str) -> TextRejected:
    """Find in the input what a run could not read: these very characters, else the first of them, else all of it."""
    for what in (error.what, error.what[:1]):
        start = text.find(what)
        if start >= 0:
            end = start + len(what)
            return TextRejected(
                f"cannot read {what[:40]!r} at characters {start} to {end}: {error.why}", span=(start, end)
            )
    return TextRejected(f"cannot read {error.what[:40]!r}: {error.why}", span=(0, len(text)))


def _says_something(piece: Piece) -> bool:
    return not _SILENT.issuperset(piece.symbols)
