"""Long text to pieces, as upstream cuts it (`cut0` to `cut5`), so that a voice hears the lengths it was trained on.

Pure text in, pure text out; nothing here knows a language but for the mark that closes a sentence. Where upstream cuts
through a number or an address (`3.5`, `1,234`, `example.com`) this does not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import Final

MARKS: Final = frozenset("，。？！,.?!~:：—…")
"""Marks that may close a piece."""

_COLLAPSING: Final = re.compile(r"([!?…,.-])[!?…,.-]+")
_SILENT: Final = frozenset("!?…,.- ")
_COMMAS: Final = frozenset(",.;?!、，。？！；：…\n")
_TO_FIRST_MARK: Final = re.compile(f"[{''.join(sorted(MARKS))}]")
_HEAD_LETTERS: Final = 4
_SHORT: Final = 5
_GROUP: Final = 4
_LINE: Final = 50


class Cut(StrEnum):
    """Where a long text is cut: upstream's `text_split_method`.

    `cut0` not at all, `cut1` every four sentences, `cut2` about every 50 characters, `cut3` at 。, `cut4` at the
    English full stop, `cut5` at every mark. Line breaks cut always.
    """

    NONE = "cut0"
    SENTENCES = "cut1"
    LENGTH = "cut2"
    CHINESE_STOP = "cut3"
    ENGLISH_STOP = "cut4"
    MARKS = "cut5"


def cut_target(text: str, *, cut: Cut, full_stop: str) -> list[str]:
    """Cut a text that is to be spoken.

    Runs of `!?…,.-` become their first mark. A text whose first part has under four characters gets a full stop in
    front. Pieces under five characters join their neighbours, pieces without a word are dropped, and each piece ends
    with a mark.

    Returns
    -------
    list of str
        Pieces of any length, in order; empty when there is nothing to say.
    """
    text = _COLLAPSING.sub(r"\1", text).strip("\n")
    if not text.strip():
        return []
    if text[0] not in MARKS and len(_head(text)) < _HEAD_LETTERS:
        text = full_stop + text
    lines = [line for line in _METHODS[cut](text).split("\n") if line.strip()]
    merged = _merged(lines)
    return [closed(piece.strip(), full_stop=full_stop) for piece in merged if re.search(r"\w", piece)]


def closed(text: str, *, full_stop: str) -> str:
    """End a text with a mark. All that is done to the text of a reference."""
    return text if text[-1:] in MARKS else text + full_stop


def halves(text: str, *, limit: int) -> list[str]:
    """Cut a piece into parts of at most `limit` characters: after a mark, else after a space, else anywhere."""
    parts: list[str] = []
    while len(text) > limit:
        place = _last_break(text[:limit])
        parts.append(text[:place])
        text = text[place:]
    return [*parts, text]


def _last_break(text: str) -> int:
    """The place after the last mark, or the last space, of the second half of a text; its end if there is neither."""
    for breaks in (MARKS, frozenset(" ")):
        for place in range(len(text), len(text) // 2, -1):
            if text[place - 1] in breaks and not _is_inside(text, place - 1):
                return place
    return len(text)


def _head(text: str) -> str:
    return _TO_FIRST_MARK.split(text, maxsplit=1)[0].strip()


def _is_inside(text: str, place: int) -> bool:
    """Whether the mark at `place` stands inside a number or an address."""
    if text[place] not in ".,:" or not 0 < place < len(text) - 1:
        return False
    before, after = text[place - 1], text[place + 1]
    if text[place] == ".":
        return before.isascii() and before.isalnum() and after.isascii() and after.isalnum()
    return before.isdigit() and after.isdigit()


def _after_marks(text: str, marks: frozenset[str]) -> Iterator[str]:
    """Cut after each of the marks."""
    start = 0
    for place, char in enumerate(text):
        if char in marks and not _is_inside(text, place):
            yield text[start : place + 1]
            start = place + 1
    if start < len(text):
        yield text[start:]


def _sentences(text: str) -> list[str]:
    text = text.replace("……", "。").replace("——", "，")
    return list(_after_marks(closed(text, full_stop="。"), MARKS))


def _cut_nowhere(text: str) -> str:
    return text


def _cut_every_four(text: str) -> str:
    """Groups of four sentences; what is left over stays with the last group."""
    sentences = _sentences(text)
    starts = list(range(0, len(sentences), _GROUP))[:-1]
    if len(starts) < 1:
        return text
    ends = [*starts[1:], len(sentences)]
    return _lines("".join(sentences[start:end]) for start, end in zip(starts, ends, strict=True))


def _cut_by_length(text: str) -> str:
    sentences = _sentences(text)
    if len(sentences) < 2:
        return text
    lines = [""]
    for sentence in sentences:
        if len(lines[-1]) > _LINE:
            lines.append("")
        lines[-1] += sentence
    if len(lines) > 1 and len(lines[-1]) < _LINE:
        lines[-2:] = [lines[-2] + lines[-1]]
    return _lines(lines)


def _cut_at_chinese_stops(text: str) -> str:
    return _lines(_after_marks(text, frozenset("。")))


def _cut_at_english_stops(text: str) -> str:
    return _lines(_after_marks(text, frozenset(".")))


def _cut_at_marks(text: str) -> str:
    parts = _after_marks(text, _COMMAS)
    return "\n".join(part.strip("\n") for part in parts if not _COMMAS.issuperset(part))


def _lines(parts: Iterator[str] | Sequence[str]) -> str:
    return "\n".join(part for part in parts if not _SILENT.issuperset(part))


_METHODS: Final[dict[Cut, Callable[[str], str]]] = {
    Cut.NONE: _cut_nowhere,
    Cut.SENTENCES: _cut_every_four,
    Cut.LENGTH: _cut_by_length,
    Cut.CHINESE_STOP: _cut_at_chinese_stops,
    Cut.ENGLISH_STOP: _cut_at_english_stops,
    Cut.MARKS: _cut_at_marks,
}


def _merged(lines: Sequence[str]) -> list[str]:
    """Join each line under five characters with those after it; what is left at the end joins the last."""
    pieces: list[str] = []
    waiting = ""
    for line in lines:
        waiting += line
        if len(waiting) >= _SHORT:
            pieces.append(waiting)
            waiting = ""
    if waiting and pieces:
        pieces[-1] += waiting
    elif waiting:
        pieces.append(waiting)
    return pieces
