"""Text to sentences of phones: what the acoustic model reads.

Sentences are the unit of synthesis, so that memory and latency do not grow with the text; a sentence of any length is
cut at a pause, else between words, so that no piece exceeds `MAX_PHONES`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from segue.errors import TextRejected
from segue_engines.demo.text.inventory import PAUSES, PHONE_IDS, SENTENCE_ENDS
from segue_engines.demo.text.lexicon import LETTER_NAMES, look_up, plural_ending, pronounce
from segue_engines.demo.text.normalise import spoken

MAX_PHONES: Final = 160
"""Longest piece that the model is given; about twelve seconds of speech."""

_SPELLED: Final = frozenset({"US", "IT", "UK", "EU", "AM", "PM", "AI", "ID", "TV", "PC", "OR", "IS", "AN", "ER"})
_PIECES: Final = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*|[,.?!]+")
_MAX_SPELLED_LETTERS: Final = 5
_MAX_WORD_LETTERS: Final = 40
_FOREIGN_LATIN: Final = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "Ae", "ø": "o", "Ø": "O", "œ": "oe", "Œ": "Oe", "ł": "l", "Ł": "L", "đ": "d", "ð": "th"}
    | {"þ": "th", "ı": "i"}
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """One piece of speech, closed by a pause.

    Attributes
    ----------
    phones
        Tokens of `inventory.PHONES`; the last is always a pause.
    word_starts
        For each token, whether a word begins there; pauses count as words.
    """

    phones: tuple[str, ...]
    word_starts: tuple[bool, ...]

    @property
    def ids(self) -> list[int]:
        """The tokens as rows of the embedding."""
        return [PHONE_IDS[phone] for phone in self.phones]


def read_text(text: str) -> list[Sentence]:
    """Turn English text of any length into sentences.

    Raises
    ------
    TextRejected
        Nothing in the text can be read, or a letter is of a script that this front end does not know; the span is in
        characters of `text`.
    """
    _reject_foreign_letters(text)
    words = list(_words(spoken(_without_accents(text))))
    if all(word[0] in PAUSES for word in words):
        raise TextRejected(f"nothing to speak in {text[:40]!r}: send at least one word or number", span=(0, len(text)))
    return [_sentence(part) for sentence in _sentences(words) for part in _bounded(sentence)]


def text_to_phones(text: str) -> list[str]:
    """All tokens of a text, sentence after sentence."""
    return [phone for sentence in read_text(text) for phone in sentence.phones]


def _without_accents(text: str) -> str:
    decomposed = unicodedata.normalize("NFD", text.translate(_FOREIGN_LATIN))
    kept = (char for char in decomposed if not unicodedata.combining(char))
    return unicodedata.normalize("NFC", "".join(kept))


def _reject_foreign_letters(text: str) -> None:
    start = next((place for place, char in enumerate(text) if _is_foreign(char)), None)
    if start is None:
        return
    end = start
    while end < len(text) and (_is_foreign(text[end]) or not text[end].isalnum()):
        end += 1
    while not _is_foreign(text[end - 1]):
        end -= 1
    run = text[start:end]
    raise TextRejected(
        f"cannot read {run[:40]!r} at characters {start} to {end}: this voice reads English text in Latin letters",
        span=(start, end),
    )


def _is_foreign(char: str) -> bool:
    if char.isascii() or char in "µπªº" or not char.isalpha():
        return False
    return not unicodedata.normalize("NFKD", char.translate(_FOREIGN_LATIN))[0].isascii()


def _words(said: str) -> Iterator[tuple[str, ...]]:
    """Each word as phones, each pause as a single token."""
    shouting = said.isupper()
    for match in _PIECES.finditer(said):
        piece = match[0]
        if piece[0] in PAUSES:
            yield (_strongest(piece),)
        else:
            yield from _word(piece, shouting=shouting)


def _strongest(pauses: str) -> str:
    return next((mark for mark in "?!." if mark in pauses), ",")


def _word(piece: str, *, shouting: bool) -> Iterator[tuple[str, ...]]:
    if _is_acronym(piece, shouting=shouting):
        yield from _spell(piece)
        return
    word = piece.lower()
    for start in range(0, len(word), _MAX_WORD_LETTERS):
        yield pronounce(word[start : start + _MAX_WORD_LETTERS])


def _is_acronym(piece: str, *, shouting: bool) -> bool:
    stem = piece.removesuffix("'s").removesuffix("s")
    if len(piece) == 1:
        return piece not in "aIi" and not (piece == "A" and shouting)
    if len(stem) < 2 or not stem.isupper():
        return not re.search("[aeiouy]", piece.lower()) and look_up(piece.lower()) is None
    if not re.search("[AEIOUY]", stem):
        return True
    if shouting:
        return False
    return stem in _SPELLED or (len(stem) <= _MAX_SPELLED_LETTERS and look_up(stem.lower()) is None)


def _spell(piece: str) -> Iterator[tuple[str, ...]]:
    plural = len(piece) > 1 and piece.endswith("s") and not piece.islower()
    letters = piece.removesuffix("s").replace("'", "") if plural else piece.replace("'", "")
    names = [tuple(LETTER_NAMES[letter].split()) for letter in letters.lower()]
    if plural:
        names[-1] += plural_ending(names[-1][-1])
    yield from names


def _sentences(words: Sequence[tuple[str, ...]]) -> Iterator[list[tuple[str, ...]]]:
    """Cut after sentence ends; drop leading and doubled pauses; close the last sentence."""
    current: list[tuple[str, ...]] = []
    for word in words:
        if word[0] not in PAUSES:
            current.append(word)
        elif current and word[0] in SENTENCE_ENDS:
            if current[-1][0] in PAUSES:
                current.pop()
            yield [*current, word]
            current = []
        elif current and current[-1][0] not in PAUSES:
            current.append(word)
    if current:
        yield [*current[:-1], (".",)] if current[-1][0] in PAUSES else [*current, (".",)]


def _bounded(sentence: list[tuple[str, ...]]) -> Iterator[list[tuple[str, ...]]]:
    """Cut a sentence into pieces of at most `MAX_PHONES`: at its pauses first, else between words."""
    while sum(map(len, sentence)) > MAX_PHONES:
        place = _cut_place(sentence)
        head, sentence = sentence[:place], sentence[place:]
        yield head if head[-1][0] in PAUSES else [*head, (",",)]
    yield sentence


def _cut_place(sentence: Sequence[tuple[str, ...]]) -> int:
    length = 0
    last_pause = 0
    for place, word in enumerate(sentence):
        length += len(word)
        if length >= MAX_PHONES:
            return last_pause or max(place, 1)
        if word[0] in PAUSES and length > MAX_PHONES // 4:
            last_pause = place + 1
    return len(sentence)


def _sentence(words: Sequence[tuple[str, ...]]) -> Sentence:
    phones = tuple(phone for word in words for phone in word)
    starts = tuple(place == 0 for word in words for place in range(len(word)))
    return Sentence(phones, starts)
