"""How each hanzi of a sentence is read: the seam where a better model of polyphones can be put in.

The original asks G2PW, a BERT that has to be downloaded. Here the phrases of pypinyin decide, which needs nothing but
the package. What that loses: hanzi whose reading hangs on the sentence and not on the word (得 de or děi, 还 hái or
huán, 长 alone, 为 wéi or wèi, names like 曾 and 单) get their most frequent reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

from segue_engines.gpt_sovits.text.installed import library
from segue_engines.gpt_sovits.text.pieces import Tongue


@dataclass(frozen=True, slots=True)
class Word:
    """A word as jieba cuts it, with jieba's tag of its part of speech (`n`, `v`, `r`, `ul`, …)."""

    text: str
    tag: str


class Polyphones(Protocol):
    """Reads sentences. Must be deterministic, and safe to call from several threads."""

    def readings(self, words: Sequence[Word]) -> Sequence[Sequence[str | None]]:
        """Read the words of one sentence, which holds hanzi only.

        Returns
        -------
        sequences of str or None
            For each word the pinyin of each of its hanzi, tone 1 to 5 at the end and `v` for ü (`nv3`), before any
            sandhi; `None` where the model has no answer, which pypinyin then gives.
        """
        ...


_BY_TAG: Final = {
    ("地", "uv"): "de5", ("得", "ud"): "de5", ("着", "uz"): "zhe5", ("过", "ug"): "guo5", ("了", "ul"): "le5",
    ("的", "uj"): "de5",
}  # fmt: skip
_PREFERRED: Final = {
    "行": "xing2", "长": "chang2", "还": "hai2", "都": "dou1", "只": "zhi3", "重": "zhong4", "种": "zhong3",
    "得": "de5", "地": "di4", "为": "wei4", "干": "gan4", "谁": "shei2", "血": "xue4", "这": "zhe4", "那": "na4",
    "吗": "ma5", "吧": "ba5", "呢": "ne5", "啊": "a5", "哪": "na3", "诶": "ei5", "欸": "ei5", "喂": "wei2",
    "给": "gei3", "恩": "en1", "似": "si4", "尽": "jin4", "假": "jia3", "背": "bei4", "把": "ba3", "拉": "la1",
}  # fmt: skip
"""Hanzi that stand alone: the reading that is usual in running text."""


class PhrasePolyphones:
    """Readings from the phrases of pypinyin, word by word, with the particles told by their part of speech."""

    def readings(self, words: Sequence[Word]) -> Sequence[Sequence[str | None]]:
        """Read words; `None` for a hanzi that pypinyin does not have."""
        return [self._word(word) for word in words]

    def _word(self, word: Word) -> Sequence[str | None]:
        if reading := _BY_TAG.get((word.text, word.tag)) or _PREFERRED.get(word.text):
            return [reading]
        return _in_phrases(word.text)


@lru_cache(maxsize=16384)
def _in_phrases(text: str) -> tuple[str | None, ...]:
    """Readings of one word by pypinyin, kept because the same few thousand words make up most texts."""
    pypinyin = library("pypinyin", tongue=Tongue.ZH)
    found = pypinyin.lazy_pinyin(
        text, style=pypinyin.Style.TONE3, neutral_tone_with_five=True, errors=lambda unknown: [""] * len(unknown)
    )
    readings: list[str | None] = [reading or None for reading in found]
    place = text.find("得", 1)
    if place > 0 and text not in pypinyin.constants.PHRASES_DICT:
        readings[place] = (
            "de5"  # 跑得快, 玩得: after a verb it is the particle, but in words of its own (获得) it is not
        )
    return tuple(readings)
