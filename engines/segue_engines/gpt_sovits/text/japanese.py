"""Japanese to phones with pitch marks, by OpenJTalk.

OpenJTalk finds words, readings and accents; here its labels become phones with `[` where the pitch rises, `]` where it
falls, `#` between accent phrases and `_` for a pause, after Kurihara et al., "Prosodic features control by symbols as
input of sequence-to-sequence acoustic modeling for neural TTS" (2021, doi:10.1587/transinf.2020EDP7104). `#` is no
symbol of the networks and becomes UNK, as it did in training.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from segue_engines.gpt_sovits.text.greek import greek_letter
from segue_engines.gpt_sovits.text.installed import library
from segue_engines.gpt_sovits.text.pieces import Reading, Tongue, Unreadable
from segue_engines.gpt_sovits.text.symbols import known

_SPOKEN: Final = re.compile(r"[A-Za-z\d\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\U00020000-\U000323af]+")
_MAX_STRETCH: Final = 200
"""Characters that OpenJTalk is given at once: its time grows with the square."""
_MARKS: Final = {
    "：": ",", "；": ",", "，": ",", "、": ",", "·": ",", ":": ",", ";": ",",
    "。": ".", "！": "!", "？": "?", "\n": ".",
}  # fmt: skip
_WORDS: Final = {"%": "パーセント", "&": "アンド", "+": "プラス", "=": "イコール", "°C": "度", "°": "度"}
_REPEATED: Final = re.compile(r"([!?…,.-])[!?…,.-]+")
_LONE_CIRCLE: Final = re.compile("(?<![一二三四五六七八九〇十])〇(?![一二三四五六七八九〇十])")
_LABEL: Final = re.compile(
    r"-(?P<phone>[^+]*)\+.*?/A:(?P<nucleus>-?\w+)\+(?P<mora>\w+)\+(?P<left>\w+)/.*?/F:(?P<moras>\w+)_"
)
_ENDS: Final = frozenset({"a", "e", "i", "o", "u", "N", "cl"})


def read_japanese(text: str) -> Reading:
    """Read a Japanese run; stretches between marks are read each by itself.

    Raises
    ------
    Unreadable
        OpenJTalk finds nothing to say in a stretch of letters.
    """
    normalised = _REPEATED.sub(r"\1", _worded(text))
    symbols: list[str] = []
    place = 0
    for match in _SPOKEN.finditer(normalised):
        symbols.extend(_marks(normalised[place : match.start()]))
        for start in range(0, len(match[0]), _MAX_STRETCH):
            symbols.extend(_stretch(match[0][start : start + _MAX_STRETCH]))
        place = match.end()
    symbols.extend(_marks(normalised[place:]))
    return Reading(normalised=normalised, symbols=known(symbols))


def warm_up() -> None:
    """Load OpenJTalk and its dictionary."""
    read_japanese("あ")


def _worded(text: str) -> str:
    for symbol, word in _WORDS.items():
        text = text.replace(symbol, word)
    text = "".join(letter.japanese if (letter := greek_letter(char)) else char for char in text)
    text = _LONE_CIRCLE.sub("まる", text)
    return re.sub(r"(?<=\d),(?=\d{3})", "", text).lower()


def _marks(between: str) -> Iterator[str]:
    for mark in between:
        if not mark.isspace() or mark == "\n":
            yield _MARKS.get(mark, mark)


def _stretch(text: str) -> list[str]:
    sound = text.lstrip("ー")
    if not sound:
        return []
    openjtalk = library("pyopenjtalk", tongue=Tongue.JA)
    features = openjtalk.run_frontend(sound, use_sudachi_kanji_yomi=False, predict_nani=False)
    phones = list(_prosody(openjtalk.make_label(features)))
    if not phones and any(char.isalnum() for char in sound):
        raise Unreadable(sound, why="OpenJTalk has no reading for it")
    return phones


def _prosody(labels: Sequence[str]) -> Iterator[str]:
    """Phones and pitch marks of full-context labels, without the silences at both ends.

    In a label A1 is the distance to the accent nucleus, A2 and A3 the place of the mora from either end of its accent
    phrase, F1 the moras of that phrase; the mora of the *next* label tells whether the phrase goes on.
    """
    parsed = [_LABEL.search(label) for label in labels]
    for place, label in enumerate(parsed):
        if label is None or label["phone"] == "sil":
            continue
        if label["phone"] == "pau":
            yield "_"
            continue
        phone = label["phone"].lower() if label["phone"] in ("A", "E", "I", "O", "U") else label["phone"]
        yield phone
        after = parsed[place + 1] if place + 1 < len(parsed) else None
        yield from _pitch(label, _number(after, "mora"), phone=phone)


def _pitch(label: re.Match[str], next_mora: int | None, *, phone: str) -> Iterator[str]:
    mora = _number(label, "mora")
    if _number(label, "left") == 1 and next_mora == 1 and phone in _ENDS:
        yield "#"
    elif mora is None or next_mora != mora + 1:
        return
    elif _number(label, "nucleus") == 0 and mora != _number(label, "moras"):
        yield "]"
    elif mora == 1:
        yield "["


def _number(label: re.Match[str] | None, name: str) -> int | None:
    if label is None or not re.fullmatch(r"-?\d+", label[name]):
        return None
    return int(label[name])
