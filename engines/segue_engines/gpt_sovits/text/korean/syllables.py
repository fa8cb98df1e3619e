"""Hangul syllables as onset, vowel and coda. Unicode lays them out by arithmetic (standard, section 3.12)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ONSETS: Final = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
VOWELS: Final = "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"
CODAS: Final = ("", *"ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ")
_FIRST: Final = 0xAC00
_LAST: Final = 0xD7A3


@dataclass(slots=True)
class Syllable:
    """One syllable; `coda` is empty where it is open."""

    onset: str
    vowel: str
    coda: str


def is_syllable(char: str) -> bool:
    """Whether a character is a whole hangul syllable."""
    return _FIRST <= ord(char) <= _LAST


def taken_apart(char: str) -> Syllable:
    """Take a syllable apart."""
    code = ord(char) - _FIRST
    return Syllable(ONSETS[code // 588], VOWELS[code % 588 // 28], CODAS[code % 28])


def put_together(syllable: Syllable) -> str:
    """Write a syllable."""
    place = ONSETS.index(syllable.onset) * 588 + VOWELS.index(syllable.vowel) * 28 + CODAS.index(syllable.coda)
    return chr(_FIRST + place)
