"""English to ARPAbet: what stands in the CMU dictionary, else what the letters say.

The normaliser, the dictionary and the letter-to-sound rules are the demo engine's. Unlike there, words keep the stress
of the dictionary (`and` is AH0 N D, `to` T UW1), because that is what GPT-SoVITS voices were trained on.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Final

from segue_engines.demo.text.letters import letters_to_phones
from segue_engines.demo.text.lexicon import LETTER_NAMES, dictionary_entry, plural_ending
from segue_engines.demo.text.normalise import spoken
from segue_engines.gpt_sovits.text.greek import greek_letter
from segue_engines.gpt_sovits.text.pieces import Reading
from segue_engines.gpt_sovits.text.symbols import known

_SHORT: Final = 4
_TOKENS: Final = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*|[,.?!]+")
_MAX_LETTERS: Final = 40
_MAX_SPELLED: Final = 5
_MIN_PART: Final = 4
_SPELLED: Final = frozenset({"ai", "id", "it", "os", "pc", "pm", "am", "tv", "uk", "us", "eu", "ar", "vr", "ui", "ip"})

_NAMES: Final = {
    "a": "AH0", "chatgpt": "CH AE1 T JH IY1 P IY1 T IY1", "json": "JH EY1 S AH0 N", "wifi": "W AY1 F AY2",
    "github": "G IH1 T HH AH2 B", "kubernetes": "K UW2 B ER0 N EH1 T IY0 Z", "wechat": "W IY1 CH AE1 T",
    "o'clock": "AH0 K L AA1 K", "miz": "M IH1 Z", "python": "P AY1 TH AA0 N", "linux": "L IH1 N AH0 K S",
    "covid": "K OW1 V IH0 D", "nvidia": "EH0 N V IH1 D IY0 AH0", "tiktok": "T IH1 K T AA2 K", "lovin": "L AH1 V IH0 N",
}  # fmt: skip
"""Words that the dictionary lacks or has otherwise than people say them."""

_FOREIGN_LATIN: Final = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "Ae", "ø": "o", "Ø": "O", "œ": "oe", "Œ": "Oe", "ł": "l", "Ł": "L", "đ": "d", "ð": "th"}
    | {"þ": "th", "ı": "i"}
)


def read_english(text: str) -> Reading:
    """Read an English run. Fewer than four phones get a comma in front, as in training."""
    normalised = normalised_english(text)
    symbols = known(_phones(normalised))
    if len(symbols) < _SHORT:
        symbols = (",", *symbols)
    return Reading(normalised=normalised, symbols=symbols)


def normalised_english(text: str) -> str:
    """Write out numbers, dates, money, abbreviations and symbols: words, spaces and the marks `, . ? !` are left."""
    decomposed = unicodedata.normalize("NFD", text.translate(_FOREIGN_LATIN))
    plain = "".join(char for char in decomposed if not unicodedata.combining(char))
    return spoken("".join(map(_without_greek, plain)))


def _without_greek(char: str) -> str:
    letter = greek_letter(char)
    return f" {letter.english} " if letter else char


@dataclass(frozen=True, slots=True)
class _Heteronym:
    """A word with two readings, and the words that tell the other one when they stand before it."""

    usual: tuple[str, ...]
    other: tuple[str, ...]
    tellers: frozenset[str]


@cache
def _heteronyms() -> Mapping[str, _Heteronym]:
    lines = resources.files(__package__).joinpath("heteronyms.txt").read_text(encoding="utf-8").splitlines()
    found: dict[str, _Heteronym] = {}
    for line in lines:
        if not line.startswith("#"):
            word, _, rest = line.partition(":")
            usual, other, tellers = (tuple(part.split()) for part in rest.split("/"))
            found[word] = _Heteronym(usual, other, frozenset(tellers))
    return found


def _phones(said: str) -> Iterator[str]:
    shouting = said.isupper() and " " in said
    previous = ""
    for match in _TOKENS.finditer(said):
        token = match[0]
        if token[0] in ",.?!":
            yield token[0]
        else:
            yield from _word(token, previous=previous, shouting=shouting)
        previous = token.lower()


def _word(token: str, *, previous: str, shouting: bool) -> Sequence[str]:
    word = token.lower()
    if heteronym := _heteronyms().get(word):
        return heteronym.other if previous in heteronym.tellers else heteronym.usual
    if token == "A" and not previous:
        return ("AH0",)
    if word not in _NAMES and _is_spelled(token, shouting=shouting):
        return _letters(token)
    return tuple(
        phone
        for start in range(0, len(word), _MAX_LETTERS)
        for phone in _pronounced(word[start : start + _MAX_LETTERS])
    )


def _is_spelled(token: str, *, shouting: bool) -> bool:
    """Whether a token is said letter by letter: NASA and UNESCO are words, FBI and HTTP are not."""
    stem = token.removesuffix("'s").removesuffix("s")
    if len(token) == 1:
        return token not in "aI"
    if not re.search("[aeiouy]", token.lower()):
        return dictionary_entry(token.lower()) is None
    if stem[:2].isupper() and not stem.isupper() and not token.islower():
        return dictionary_entry(token.lower()) is None  # PCIe
    if not stem.isupper() or len(stem) < 2 or shouting:
        return False
    if not re.search("[AEIOUY]", stem) or stem.lower() in _SPELLED:
        return True
    return len(stem) <= _MAX_SPELLED and dictionary_entry(stem.lower()) is None


def _letters(token: str) -> Sequence[str]:
    plural = len(token) > 1 and token.endswith("s") and not token.islower()
    letters = (token.removesuffix("s") if plural else token).replace("'", "").lower()
    phones = [phone for letter in letters for phone in LETTER_NAMES[letter].split()]
    return (*phones, *plural_ending(phones[-1])) if plural else phones


@lru_cache(maxsize=4096)
def _pronounced(word: str) -> tuple[str, ...]:
    """Phones of a lower-case word: known, inflected, put together from known words, else from its letters."""
    if word in _NAMES:
        return tuple(_NAMES[word].split())
    return dictionary_entry(word) or _inflected(word) or _compound(word) or letters_to_phones(word)


def _inflected(word: str) -> tuple[str, ...] | None:
    for ending in ("'s", "s'", "s"):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) > 1 and (phones := dictionary_entry(stem)):
            return (*phones, *plural_ending(phones[-1]))
    return None


def _compound(word: str) -> tuple[str, ...] | None:
    """Two known words of four letters or more: `gameplay`. The longest first part wins."""
    for place in range(len(word) - _MIN_PART, _MIN_PART - 1, -1):
        first, second = dictionary_entry(word[:place]), dictionary_entry(word[place:])
        if first and second:
            return first + second
    return None
