"""Chinese text to words, by jieba's dictionary (in Rust: rjieba), put together where a rule of tones needs it."""

from __future__ import annotations

from collections.abc import Iterable

from segue_engines.gpt_sovits.text.installed import library
from segue_engines.gpt_sovits.text.mandarin.polyphones import Word
from segue_engines.gpt_sovits.text.pieces import Tongue


def words_of(clause: str) -> list[Word]:
    """Cut a clause of hanzi into words; put together they are the clause."""
    tagged = library("rjieba", tongue=Tongue.ZH).tag(clause)
    return _together(Word(text, tag or "x") for text, tag in tagged)


def _together(words: Iterable[Word]) -> list[Word]:
    """Join 儿 to the word before it, a verb said twice (看 看), and 不 or 一 between two that are the same (好不好)."""
    joined: list[Word] = []
    for word in words:
        last = joined[-1] if joined else None
        if last is not None and (word.text == "儿" or _is_said_twice(last, word)):
            joined[-1] = Word(last.text + word.text, last.tag)
        elif len(joined) > 1 and joined[-1].text in ("不", "一") and _is_said_twice(joined[-2], word):
            joined[-2:] = [Word(joined[-2].text + joined[-1].text + word.text, word.tag)]
        else:
            joined.append(word)
    return joined


def _is_said_twice(first: Word, second: Word) -> bool:
    return len(first.text) == 1 and first.text == second.text and first.tag[0] in "va"
