"""Cantonese to initials and finals with tones, by ToJyutping.

The text is normalised as Mandarin is (numbers, dates, marks), but keeps its traditional characters, which say more
about their reading than simplified ones.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from segue_engines.gpt_sovits.text.installed import library
from segue_engines.gpt_sovits.text.mandarin.normalise import normalised_chinese
from segue_engines.gpt_sovits.text.pieces import Reading, Tongue, Unreadable
from segue_engines.gpt_sovits.text.symbols import MARKS, known

_SYLLABLE: Final = re.compile(r"(?P<sound>[a-z]+)(?P<tone>[1-6])")
_INITIALS: Final = (
    *("gw", "kw", "ng"),
    *("b", "p", "m", "f", "d", "t", "n", "l", "g", "k", "h", "w", "z", "c", "s", "j"),
)
_WHOLE: Final = frozenset({"ai", "au", "ap", "at", "ak", "on", "ong", "ou", "oi", "ok", "uk", "ung"})


def read_cantonese(text: str) -> Reading:
    """Read a Cantonese run.

    Raises
    ------
    Unreadable
        A character has no reading in ToJyutping.
    """
    normalised = normalised_chinese(text)
    symbols: list[str] = []
    word2ph: list[int] = []
    for char, jyutping in library("ToJyutping", tongue=Tongue.YUE).get_jyutping_list(normalised):
        phones = (char,) if char in MARKS else _character(char, jyutping)
        symbols.extend(phones)
        word2ph.append(len(phones))
    return Reading(normalised=normalised, symbols=known(symbols), word2ph=tuple(word2ph))


def warm_up() -> None:
    """Load the dictionary of ToJyutping."""
    read_cantonese("一")


def _character(char: str, jyutping: str | None) -> tuple[str, ...]:
    syllables = _SYLLABLE.findall(jyutping or "")
    if not syllables:
        raise Unreadable(char, why="it has no reading in ToJyutping")
    return tuple(phone for sound, tone in syllables for phone in syllable_to_phones(sound, tone=tone))


@lru_cache(maxsize=1024)
def syllable_to_phones(sound: str, *, tone: str) -> tuple[str, str]:
    """Initial and final of a jyutping syllable, both with Y before them so that they are no Mandarin phones.

    A syllable without a consonant doubles: its vowel (or all of it, where it is short and closed) stands for the
    initial, what is left, or else its last letter, for the final. `m` and `ng` do the same.
    """
    initial = _initial(sound)
    final = sound[len(initial) :] or initial[-1]
    return f"Y{initial}", f"Y{final}{tone}"


def _initial(sound: str) -> str:
    if consonant := next((initial for initial in _INITIALS if sound.startswith(initial)), None):
        return consonant
    if sound.startswith("aa"):
        return "aa"
    return sound if sound in _WHOLE else sound[0]
