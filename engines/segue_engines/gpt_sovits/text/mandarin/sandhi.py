"""How tones change in company: 一 and 不, third tones in a row, neutral tones, 儿.

Rules of standard Mandarin as textbooks give them, over the words of one clause. Neutral tones that only a dictionary
can know are in `neutral_words.txt`, words of which the last syllable is light.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import pairwise
from typing import Final

from segue_engines.gpt_sovits.text.mandarin.polyphones import Word

_NEUTRAL: Final = 5
_PARTICLES: Final = frozenset("吧呢啊嘛吗啦呀哇哟喽呗")
_NUMERALS: Final = frozenset("零一二三四五六七八九十百千万亿")
_SCALES: Final = frozenset("百千万亿")
_RANKED: Final = frozenset("月号楼班级等线期")
_NEVER_LIGHT: Final = frozenset({
    "人人", "天天", "年年", "家家", "处处", "事事", "时时", "日日", "夜夜", "样样", "种种",
    "件件", "步步", "声声", "字字", "句句", "常常",
})  # fmt: skip
_RISING: Final = frozenset({"小姐", "哪里", "打扫"})
"""Words whose first third tone rises before a second one that is light: elsewhere (姐姐, 椅子) it stays."""
_CHILD: Final = frozenset({
    "女儿", "男儿", "婴儿", "幼儿", "孤儿", "患儿", "少儿", "胎儿", "侄儿", "孙儿", "妻儿", "健儿", "宠儿",
    "弃儿", "混血儿", "婴幼儿",
    "新生儿", "早产儿", "育儿", "生儿", "小儿", "我儿", "吾儿", "产儿", "连体儿", "流浪儿", "畸形儿",
})  # fmt: skip
"""Words in which 儿 is a child and a syllable of its own."""


@dataclass(slots=True)
class _Hanzi:
    char: str
    sound: str
    base: int  # the tone it has alone
    tone: int


@dataclass(slots=True)
class _Group:
    word: Word
    hanzi: list[_Hanzi]


def with_sandhi(words: Sequence[Word], readings: Sequence[Sequence[str]]) -> list[str]:
    """Apply the rules to the words of one clause.

    Parameters
    ----------
    words, readings
        The words, and the pinyin of each of their hanzi with its tone at the end (`hao3`).

    Returns
    -------
    list of str
        Pinyin of all hanzi, as it is spoken.
    """
    groups = [_group(word, reading) for word, reading in zip(words, readings, strict=True)]
    for place, group in enumerate(groups):
        _lighten(group, before=groups[place - 1].word if place else None)
    row = [hanzi for group in groups for hanzi in group.hanzi]
    for group in groups:
        _change_bu_inside(group)
    _change_bu(row)
    _change_yi(groups, row)
    _change_third(groups)
    for group in groups:
        _round_er(group)
    return [f"{hanzi.sound}{hanzi.tone}" for hanzi in row]


def _group(word: Word, reading: Sequence[str]) -> _Group:
    return _Group(word, [_hanzi(char, pinyin) for char, pinyin in zip(word.text, reading, strict=True)])


def _hanzi(char: str, pinyin: str) -> _Hanzi:
    """Start from the tone in the dictionary; 一 and 不 from their own, which phrases give as already changed."""
    base = {"一": 1, "不": 4}.get(char, int(pinyin[-1]))
    return _Hanzi(char, pinyin[:-1], base, base)


@cache
def _neutral_words() -> frozenset[str]:
    return frozenset(resources.files(__package__).joinpath("neutral_words.txt").read_text(encoding="utf-8").split())


def _lighten(group: _Group, *, before: Word | None) -> None:
    """Make the last syllable of a word light where it is so by rule or by custom."""
    word, last = group.word, group.hanzi[-1]
    if _is_light(word, before=before):
        last.tone = _NEUTRAL
    if word.text in _RISING or (_is_repeated(word) and word.tag.startswith("v") and last.base == 3):
        group.hanzi[0].tone = 2


def _is_light(word: Word, *, before: Word | None) -> bool:
    text, tag = word.text, word.tag
    if text[-1] in _PARTICLES and tag[0] in "yeuxz":
        return True
    if text in _neutral_words() or (len(text) > 2 and text[-2:] in _neutral_words()):
        return True
    if _is_repeated(word):
        return tag[0] in "nv" and text not in _NEVER_LIGHT
    if text[-1] == "个":
        return tag[0] in "mr" if len(text) > 1 else before is not None and before.tag[0] in "mr"
    if text[-1] in "上里":
        return tag in ("s", "f") and (len(text) > 1 or (before is not None and before.tag[0] in "ns"))
    return len(text) > 1 and text[-1] in "来去" and text[-2] in "上下进出回过起" and tag[0] != "t"


def _is_repeated(word: Word) -> bool:
    return len(word.text) == 2 and word.text[0] == word.text[1]


def _change_bu_inside(group: _Group) -> None:
    """Make the 不 of 看不懂 and 好不好 light."""
    if len(group.hanzi) == 3 and group.hanzi[1].char == "不":
        group.hanzi[1].tone = _NEUTRAL


def _change_bu(row: Sequence[_Hanzi]) -> None:
    """Raise 不 before a fourth tone: 不是 bú shì."""
    for hanzi, after in pairwise(row):
        if hanzi.char == "不" and hanzi.tone == 4 and after.base == 4:
            hanzi.tone = 2


def _change_yi(groups: Sequence[_Group], row: Sequence[_Hanzi]) -> None:
    """Change 一 by what follows: 一个 yí, 一天 yì; it stays first in numbers, ranks and at the end of words."""
    closing = {id(group.hanzi[-1]) for group in groups if len(group.hanzi) > 1}
    for place, hanzi in enumerate(row[:-1]):
        if hanzi.char != "一" or id(hanzi) in closing:
            continue
        before = row[place - 1] if place else None
        after = row[place + 1]
        if before is not None and before.char == after.char and before.char not in _NUMERALS:
            hanzi.tone = _NEUTRAL  # 看一看
        elif not _is_counted_out(before, "".join(hanzi.char for hanzi in row[place + 1 : place + 3])):
            hanzi.tone = 2 if after.base == 4 else 4


def _is_counted_out(before: _Hanzi | None, following: str) -> bool:
    """Whether 一 is a digit or a rank rather than an amount, by what stands before it and the two hanzi after it."""
    after = following[0]
    if before is not None and before.char in "第初":
        return True
    if after in _SCALES or after == "刻":
        return False
    if after in _NUMERALS or (after == "点" and following[1:] in _NUMERALS):
        return True
    if before is None:
        return after in _RANKED
    return before.char in _NUMERALS or before.char in "点年月" or after in _RANKED


def _change_third(groups: Sequence[_Group]) -> None:
    """Raise a third tone before another: inside words first, then from right to left between short ones."""
    feet = [foot for group in groups for foot in _feet(group)]
    for foot in feet:
        for hanzi, after in pairwise(foot.hanzi):
            if hanzi.tone == 3 and after.tone == 3:
                hanzi.tone = 2
    for left, right in reversed(list(pairwise(feet))):
        near = left.word is right.word or len(left.word.text) + len(right.word.text) <= 3
        if near and left.hanzi[-1].tone == 3 and right.hanzi[0].tone == 3:
            left.hanzi[-1].tone = 2


def _feet(group: _Group) -> list[_Group]:
    """Cut a word of three or more hanzi as it is spoken: 展览|馆, 纸|老虎, two by two beyond that."""
    size = len(group.hanzi)
    if size < 3:
        return [group]
    first = 1 if size == 3 and _leads_alone(group.word) else 2
    starts = [0, *range(first, size, 2)]
    ends = [*starts[1:], size]
    return [_Group(group.word, group.hanzi[start:end]) for start, end in zip(starts, ends, strict=True)]


def _leads_alone(word: Word) -> bool:
    """Whether the last two of three hanzi belong together: they name a creature or thing after a small word."""
    return word.text[0] in "小老大纸好很我你有米冷水洗选"


def _round_er(group: _Group) -> None:
    """Give 儿 at the end of a word the tone of the syllable that it colours: 花儿, 一会儿."""
    text = group.word.text
    if len(text) < 2 or text[-1] != "儿" or text in _CHILD or text[-2:] in _CHILD:
        return
    if group.hanzi[-1].sound == "er":
        group.hanzi[-1].tone = group.hanzi[-2].tone
