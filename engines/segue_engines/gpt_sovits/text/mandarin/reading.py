"""A Chinese run to its reading: the steps of this folder in order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from segue_engines.gpt_sovits.text.installed import library
from segue_engines.gpt_sovits.text.mandarin.normalise import normalised_chinese
from segue_engines.gpt_sovits.text.mandarin.polyphones import PhrasePolyphones, Polyphones, Word
from segue_engines.gpt_sovits.text.mandarin.sandhi import with_sandhi
from segue_engines.gpt_sovits.text.mandarin.syllables import syllable_to_phones
from segue_engines.gpt_sovits.text.mandarin.words import words_of
from segue_engines.gpt_sovits.text.pieces import Reading, Tongue, Unreadable
from segue_engines.gpt_sovits.text.symbols import MARKS, known

_CLAUSES: Final = re.compile(r"[!?…,.-]|[^!?…,.-]+")


class MandarinReader:
    """Reads Chinese runs. Safe to call from several threads if its polyphones are.

    Parameters
    ----------
    polyphones
        Who tells the reading of each hanzi. What it leaves open, and all of it without one, pypinyin tells.
    """

    def __init__(self, polyphones: Polyphones | None = None) -> None:
        self._fallback = PhrasePolyphones()
        self._polyphones = polyphones or self._fallback

    def read(self, text: str) -> Reading:
        """Read a run: two phones a hanzi, one a mark.

        Raises
        ------
        Unreadable
            A hanzi has no reading.
        """
        normalised = normalised_chinese(simplified(text))
        symbols: list[str] = []
        word2ph: list[int] = []
        for clause in _CLAUSES.findall(normalised):
            for sounds in [(clause,)] if clause in MARKS else self._clause(clause):
                symbols.extend(sounds)
                word2ph.append(len(sounds))
        return Reading(normalised=normalised, symbols=known(symbols), word2ph=tuple(word2ph))

    def warm_up(self) -> None:
        """Load dictionaries."""
        self.read("银行行长")

    def _clause(self, clause: str) -> list[tuple[str, ...]]:
        words = words_of(clause)
        spoken = with_sandhi(words, self._readings(words))
        return [_phones(char, pinyin) for char, pinyin in zip(clause, spoken, strict=True)]

    def _readings(self, words: Sequence[Word]) -> list[list[str]]:
        told = self._polyphones.readings(words)
        if all(reading is not None for readings in told for reading in readings):
            return [[reading or "" for reading in readings] for readings in told]
        return [
            [_certain(char, first or second) for char, first, second in zip(word.text, mine, others, strict=True)]
            for word, mine, others in zip(words, told, self._fallback.readings(words), strict=True)
        ]


def _certain(char: str, pinyin: str | None) -> str:
    if pinyin is None or syllable_to_phones(pinyin) is None:
        raise Unreadable(char, why="this hanzi has no reading in pypinyin")
    return pinyin


def _phones(char: str, pinyin: str) -> tuple[str, str]:
    phones = syllable_to_phones(pinyin)
    if phones is None:
        raise Unreadable(char, why=f"its reading {pinyin!r} is no syllable of Mandarin")
    return phones


def simplified(text: str) -> str:
    """Write traditional characters as simplified ones: the dictionaries and RoBERTa know those best."""
    return str(_converter().convert(text))


@cache
def _converter() -> Any:
    return library("opencc", tongue=Tongue.ZH).OpenCC("t2s")
