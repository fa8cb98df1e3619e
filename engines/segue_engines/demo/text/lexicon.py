"""Pronunciations of known words: a trimmed CMU Pronouncing Dictionary.

Kept as one sorted block of bytes and searched by bisection: a dictionary of 118,000 Python strings would cost each
worker tens of megabytes and a newcomer's first command half a second.
"""

from __future__ import annotations

import gzip
from functools import cache
from importlib import resources
from typing import Final

from segue_engines.demo.text.letters import letters_to_phones

_VOICELESS: Final = frozenset({"P", "T", "K", "F", "TH"})
_SIBILANTS: Final = frozenset({"S", "Z", "SH", "ZH", "CH", "JH"})

_OVERRIDES: Final = {
    "a": "AH0", "an": "AE0 N", "and": "AE0 N D", "the": "DH AH0", "of": "AH0 V", "to": "T UH0", "for": "F AO0 R",
    "in": "IH0 N", "on": "AA0 N", "at": "AE0 T", "as": "AE0 Z", "by": "B AY0", "is": "IH0 Z", "are": "AA0 R",
    "was": "W AH0 Z", "were": "W ER0", "be": "B IY0", "been": "B IH0 N", "am": "AE0 M", "it": "IH0 T", "its": "IH0 T S",
    "i": "AY0", "you": "Y UW0", "your": "Y AO0 R", "he": "HH IY0", "him": "HH IH0 M", "his": "HH IH0 Z",
    "she": "SH IY0", "her": "HH ER0", "we": "W IY0", "us": "AH0 S", "our": "AW0 ER0", "they": "DH EY0",
    "them": "DH EH0 M", "their": "DH EH0 R", "my": "M AY0", "me": "M IY0", "that": "DH AE0 T", "this": "DH IH0 S",
    "with": "W IH0 DH", "from": "F R AH0 M", "or": "AO0 R", "but": "B AH0 T", "if": "IH0 F", "than": "DH AE0 N",
    "can": "K AE0 N", "could": "K UH0 D", "would": "W UH0 D", "should": "SH UH0 D", "will": "W IH0 L",
    "has": "HH AE0 Z", "have": "HH AE0 V", "had": "HH AE0 D", "do": "D UW0", "does": "D AH0 Z", "so": "S OW0",
    "into": "IH0 N T UH0", "segue": "S EH1 G W EY2", "segues": "S EH1 G W EY2 Z",
    "kubernetes": "K UW2 B ER0 N EH1 T IY0 Z",
    "numpy": "N AH1 M P AY2", "github": "G IH1 T HH AH2 B", "wifi": "W AY1 F AY2", "email": "IY1 M EY2 L",
    "o'clock": "AH0 K L AA1 K", "miz": "M IH1 Z", "ok": "OW2 K EY1", "gpu": "JH IY2 P IY2 Y UW1",
}  # fmt: skip
"""Function words without stress, and names of our field that the dictionary lacks."""

LETTER_NAMES: Final = {
    "a": "EY1", "b": "B IY1", "c": "S IY1", "d": "D IY1", "e": "IY1", "f": "EH1 F", "g": "JH IY1", "h": "EY1 CH",
    "i": "AY1", "j": "JH EY1", "k": "K EY1", "l": "EH1 L", "m": "EH1 M", "n": "EH1 N", "o": "OW1", "p": "P IY1",
    "q": "K Y UW1", "r": "AA1 R", "s": "EH1 S", "t": "T IY1", "u": "Y UW1", "v": "V IY1",
    "w": "D AH1 B AH0 L Y UW0", "x": "EH1 K S", "y": "W AY1", "z": "Z IY1",
}  # fmt: skip


def pronounce(word: str) -> tuple[str, ...]:
    """Phones of one lower-case word: from the lexicon, by its ending, else from its letters."""
    return look_up(word) or _inflected(word) or letters_to_phones(word)


def look_up(word: str) -> tuple[str, ...] | None:
    """Phones of a word that the lexicon holds, else `None`."""
    if word in _OVERRIDES:
        return tuple(_OVERRIDES[word].split())
    return dictionary_entry(word)


def dictionary_entry(word: str) -> tuple[str, ...] | None:
    """Phones of a word as the CMU dictionary has them, with full stress; `None` for what it lacks."""
    block = _block()
    key = word.encode() + b" "
    low, high = 0, len(block)
    while low < high:  # over byte offsets: every probe is moved back to the start of its line
        start = block.rfind(b"\n", 0, (low + high) // 2) + 1
        end = block.find(b"\n", start)
        line = block[start:end]
        if line.startswith(key):
            return tuple(line[len(key) :].decode().split(" "))
        if line < key:
            low = end + 1
        else:
            high = start
    return None


def _inflected(word: str) -> tuple[str, ...] | None:
    """Possessives, plurals and compounds with `n't`-less apostrophes of words that are known."""
    for ending in ("'s", "s'", "s"):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) > 1 and (phones := look_up(stem)):
            return phones + plural_ending(phones[-1])
    if word.endswith(("'ll", "'d", "'ve", "'re")):
        stem, _, ending = word.rpartition("'")
        suffix = {"ll": ("AH0", "L"), "d": ("D",), "ve": ("AH0", "V"), "re": ("ER0",)}[ending]
        return (look_up(stem) or letters_to_phones(stem)) + suffix if stem else None
    return None


def plural_ending(last: str) -> tuple[str, ...]:
    """How `s` sounds after a phone: cats, dogs, horses."""
    if last in _SIBILANTS:
        return ("AH0", "Z")
    return ("S",) if last in _VOICELESS else ("Z",)


@cache
def _block() -> bytes:
    packed = resources.files(__package__).joinpath("lexicon.txt.gz").read_bytes()
    return gzip.decompress(packed)
