"""Letter-to-sound rules for words that no dictionary has: names, typos, inventions.

Ordered rewrite rules in the manner of Elovitz et al., "Letter-to-Sound Rules for Automatic Translation of English Text
to Phonetics" (NRL 7948, 1976), written anew: at each place the first rule whose letters and surroundings fit wins.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Final

from segue_engines.demo.text.inventory import VOWELS

Rule = tuple[re.Pattern[str], tuple[str, ...]]


@cache
def _rules() -> Mapping[str, Sequence[Rule]]:
    """The rules of each letter, from `letters.txt`."""
    rules: dict[str, list[Rule]] = {}
    letter = ""
    for line in resources.files(__package__).joinpath("letters.txt").read_text(encoding="utf-8").splitlines():
        if match := re.fullmatch(r"\[(.)\]", line):
            letter = match[1]
            rules[letter] = []
        elif line and not line.startswith("#"):
            pattern, *phones = line.split()
            rules[letter].append((re.compile(pattern.replace("[C]", _LENGTHENING)), tuple(phones)))
    return rules


_LENGTHENING: Final = "[bcdfgklmnpstvz]"
_REDUCED: Final = {"AE": "AH", "AA": "AH", "EH": "AH", "AH": "AH", "UH": "AH"}


def letters_to_phones(word: str) -> tuple[str, ...]:
    """Guess the phones of a lower-case word of letters and apostrophes; the guess is never empty for a word."""
    phones: list[str] = []
    place = 0
    while place < len(word):
        place += _apply_first(word, place, phones)
    if not phones:
        return ("AH0",)
    return _with_stress(phones)


def _apply_first(word: str, place: int, phones: list[str]) -> int:
    for pattern, sounds in _rules().get(word[place], ()):
        if match := pattern.match(word, place):
            phones.extend(sounds)
            return max(match.end() - place, 1)
    return 1


def _with_stress(phones: list[str]) -> tuple[str, ...]:
    """Stress the antepenult of long words and the first syllable of short ones; reduce lax vowels beside it."""
    nuclei = [place for place, phone in enumerate(phones) if phone in VOWELS]
    stressed = nuclei[max(len(nuclei) - 3, 0)] if nuclei else -1
    out = list(phones)
    for place in nuclei:
        if place == stressed:
            out[place] = phones[place] + "1"
        else:
            after = place == len(phones) - 1 or place > stressed
            out[place] = (_REDUCED.get(phones[place], phones[place]) if after else phones[place]) + "0"
    return tuple(out)
