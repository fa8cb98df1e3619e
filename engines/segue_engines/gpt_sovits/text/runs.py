"""A piece to runs of one language.

By script, with one question that script cannot answer: is a run of hanzi Chinese or Japanese? The original asks a
language model of 130 MB that it downloads; here characters that only one of the two writes decide, then the kana beside
them, so that the same text is always cut the same way and nothing has to be fetched.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final

from segue_engines.gpt_sovits.text.cutting import MARKS
from segue_engines.gpt_sovits.text.languages import Language
from segue_engines.gpt_sovits.text.pieces import Tongue, Unreadable
from segue_engines.gpt_sovits.text.scripts import Script, script_of


@dataclass(frozen=True, slots=True)
class Stretch:
    """Text of one language; the stretches of a piece put together are the piece."""

    tongue: Tongue
    text: str


_TONGUE_OF: Final = {Script.LATIN: Tongue.EN, Script.KANA: Tongue.JA, Script.HANGUL: Tongue.KO}
_READS: Final = {
    Tongue.ZH: frozenset({Script.HAN}),
    Tongue.YUE: frozenset({Script.HAN}),
    Tongue.JA: frozenset({Script.HAN, Script.KANA}),
    Tongue.KO: frozenset({Script.HANGUL}),
    Tongue.EN: frozenset({Script.LATIN}),
}
_LETTERS: Final = frozenset({Script.LATIN, Script.HAN, Script.KANA, Script.HANGUL})
_MEASURED: Final = re.compile(
    r"\d\s?(km/h|km|cm|mm|kg|mg|ml|kHz|MHz|GHz|Hz|KB|MB|GB|TB|kW|°C|°F|m|g|t|L|W|V)(?![A-Za-z])"
)
_CHINESE_WORDS: Final = frozenset("我是很也她就吃喝")
_SENTENCE_ENDS: Final = re.compile(r"[。！？!?\n]")


def runs_of(text: str, *, language: Language) -> list[Stretch]:
    """Cut a piece into runs.

    Raises
    ------
    Unreadable
        A run holds letters that its language does not write, as kana where everything is said to be Chinese.
    """
    if language is Language.EN:
        stretches = [Stretch(Tongue.EN, text)]
    else:
        stretches = _merged(_with_gaps(_islands(text, language=language), text=text, language=language))
    for stretch in stretches:
        _check(stretch, language=language)
    return stretches


def _check(stretch: Stretch, *, language: Language) -> None:
    reads = _READS[stretch.tongue]
    foreign = _LETTERS - reads
    if stretch.tongue is not Tongue.EN:
        foreign -= {Script.LATIN}
    start = next((place for place, char in enumerate(stretch.text) if script_of(char) in foreign), None)
    if start is None:
        return
    end = start
    while end < len(stretch.text) and script_of(stretch.text[end]) in foreign:
        end += 1
    raise Unreadable(
        stretch.text[start:end],
        why=f"the text is said to be {language.value!r}, which is not written so; ask for the language 'auto'",
    )


@dataclass(slots=True)
class _Island:
    """Letters of one language; between islands lie digits, marks and spaces."""

    start: int
    end: int
    tongue: Tongue


def _islands(text: str, *, language: Language) -> list[_Island]:
    found: list[_Island] = []
    measures = {place for match in _MEASURED.finditer(text) for place in range(*match.span(1))}
    for sentence in _spans(text):
        found.extend(_sentence_islands(text, *sentence, language=language, measures=measures))
    return found


def _spans(text: str) -> list[tuple[int, int]]:
    ends = [match.end() for match in _SENTENCE_ENDS.finditer(text)]
    return [span for span in pairwise([0, *ends, len(text)]) if span[0] < span[1]]


def _sentence_islands(text: str, start: int, end: int, *, language: Language, measures: set[int]) -> list[_Island]:
    islands: list[_Island] = []
    previous = Script.OTHER
    for place in range(start, end):
        script = Script.OTHER if place in measures else script_of(text[place])
        if script not in _LETTERS:
            previous = script
            continue
        if islands and script is previous and islands[-1].end == place:
            islands[-1].end += 1
        else:
            tongue = _TONGUE_OF.get(script, Tongue.ZH)
            islands.append(_Island(place, place + 1, tongue))
        previous = script
    if language.named is None:
        _settle_hanzi(text, islands)
    else:
        for island in islands:
            island.tongue = island.tongue if island.tongue is Tongue.EN else language.named
    return islands


def _settle_hanzi(text: str, islands: Sequence[_Island]) -> None:
    """Decide for each run of hanzi in a sentence whether it is Chinese or Japanese."""
    hanzi = [place for place, island in enumerate(islands) if script_of(text[island.start]) is Script.HAN]
    clues = {place: _clue(text, islands[place]) for place in hanzi}
    chinese_around = Tongue.ZH in clues.values()
    kana_around = any(island.tongue is Tongue.JA for island in islands)
    for place in hanzi:
        clue = clues[place]
        if clue is not None:
            islands[place].tongue = clue
        elif kana_around and (not chinese_around or _leads_to_hiragana(text, islands[place])):
            islands[place].tongue = Tongue.JA


def _leads_to_hiragana(text: str, island: _Island) -> bool:
    """Whether hiragana follows at once, as in 君の: an ending or a particle of these very hanzi."""
    return island.end < len(text) and "\u3041" <= text[island.end] <= "\u3096"


def _clue(text: str, island: _Island) -> Tongue | None:
    """The language that alone writes some of these hanzi: the first such character decides, else a Chinese word that
    Japanese writes only inside longer ones with an ending in hiragana."""
    hanzi = text[island.start : island.end]
    if clue := next(filter(None, map(_sole_writer, hanzi)), None):
        return clue
    telling = not _CHINESE_WORDS.isdisjoint(hanzi) and "々" not in hanzi
    return Tongue.ZH if telling and not _leads_to_hiragana(text, island) else None


@lru_cache(maxsize=8192)
def _sole_writer(char: str) -> Tongue | None:
    """Chinese for a hanzi that JIS X 0208 lacks, Japanese for one that neither GB 2312 nor Big5 has."""
    in_japan = _encodable(char, "shift_jis")
    in_china = _encodable(char, "gb2312") or _encodable(char, "big5")
    if in_japan and not in_china:
        return Tongue.JA
    return Tongue.ZH if in_china and not in_japan else None


def _encodable(char: str, encoding: str) -> bool:
    try:
        char.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _with_gaps(islands: Sequence[_Island], *, text: str, language: Language) -> list[Stretch]:
    """Give what lies between the islands to one of its neighbours; digits may become a stretch of their own."""
    default = language.named or Tongue.ZH
    if not islands:
        return [Stretch(_renamed(default, language=language), text)] if text else []
    stretches: list[Stretch] = []
    place = 0
    for island in islands:
        before = stretches[-1].tongue if stretches else None
        stretches.extend(_gap(text[place : island.start], before=before, after=island.tongue, language=language))
        stretches.append(Stretch(island.tongue, text[island.start : island.end]))
        place = island.end
    stretches.extend(_gap(text[place:], before=islands[-1].tongue, after=None, language=language))
    return [Stretch(_renamed(stretch.tongue, language=language), stretch.text) for stretch in stretches]


def _gap(gap: str, *, before: Tongue | None, after: Tongue | None, language: Language) -> list[Stretch]:
    """Marks and spaces go with the text before them, digits as in `_digits_go_with`."""
    if not gap:
        return []
    digits = next((place for place, char in enumerate(gap) if script_of(char) is Script.DIGIT), len(gap))
    owner = before or after or Tongue.ZH
    if digits == len(gap):
        return [Stretch(owner, gap)]
    lead = gap[:digits]
    if language.owns_digits and language.named is not None:
        return [Stretch(owner, lead), Stretch(language.named, gap[digits:])]
    return [Stretch(owner, lead), Stretch(_digits_go_with(lead, before, after), gap[digits:])]


def _digits_go_with(lead: str, before: Tongue | None, after: Tongue | None) -> Tongue:
    """Digits after a mark or a space go with what follows them, those that touch a word with that word."""
    if before is None or after is None:
        return before or after or Tongue.ZH
    parted = bool(lead) and (lead[-1].isspace() or lead[-1] in MARKS or lead[-1] in "、；（(「“")
    return after if parted else before


def _renamed(tongue: Tongue, *, language: Language) -> Tongue:
    return Tongue.YUE if language is Language.AUTO_YUE and tongue is Tongue.ZH else tongue


def _merged(stretches: Sequence[Stretch]) -> list[Stretch]:
    merged: list[Stretch] = []
    for stretch in stretches:
        if merged and merged[-1].tongue is stretch.tongue:
            merged[-1] = Stretch(stretch.tongue, merged[-1].text + stretch.text)
        elif stretch.text:
            merged.append(stretch)
    return merged
