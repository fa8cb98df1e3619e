"""A Korean run to its reading: the steps of this folder in order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from segue_engines.gpt_sovits.text.korean.normalise import normalised_korean
from segue_engines.gpt_sovits.text.korean.respelled import respelled
from segue_engines.gpt_sovits.text.korean.sounds import spoken
from segue_engines.gpt_sovits.text.korean.syllables import is_syllable, taken_apart
from segue_engines.gpt_sovits.text.pieces import Reading
from segue_engines.gpt_sovits.text.symbols import SYMBOL_IDS

_SPACE: Final = "空"
_STOP: Final = "停"
_VOWEL_PARTS: Final = {
    "ㅘ": "ㅗㅏ", "ㅙ": "ㅗㅐ", "ㅚ": "ㅗㅣ", "ㅝ": "ㅜㅓ", "ㅞ": "ㅜㅔ", "ㅟ": "ㅜㅣ", "ㅢ": "ㅡㅣ",
    "ㅑ": "ㅣㅏ", "ㅒ": "ㅣㅐ", "ㅕ": "ㅣㅓ", "ㅖ": "ㅣㅔ", "ㅛ": "ㅣㅗ", "ㅠ": "ㅣㅜ",
}  # fmt: skip
_MARKS: Final = {
    "：": ",", "；": ",", "，": ",", "、": ",", "·": ",", "。": ".", "！": "!", "？": "?", "\n": ".", " ": _SPACE,
}  # fmt: skip


def read_korean(text: str) -> Reading:
    """Read a Korean run: jamo, `空` for a space, `停` for a sign that no network knows, a full stop at the end."""
    normalised = normalised_korean(text)
    symbols = [symbol for char in spoken(respelled(normalised)) for symbol in _symbols(char)]
    if symbols and "ㄱ" <= symbols[-1] <= "ㅣ":
        symbols.append(".")
    return Reading(normalised=normalised, symbols=tuple(symbols))


def _symbols(char: str) -> Iterator[str]:
    if is_syllable(char):
        syllable = taken_apart(char)
        jamo = syllable.onset + _VOWEL_PARTS.get(syllable.vowel, syllable.vowel) + syllable.coda
    else:
        jamo = _VOWEL_PARTS.get(char) or _MARKS.get(char, char)
    for symbol in jamo:
        yield symbol if symbol in SYMBOL_IDS else _STOP
