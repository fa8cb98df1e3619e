"""Which script a character is of, and the first wash of a text: what no language says is dropped, what is written in
two ways is made one.

Separate from the languages because it decides before any of them is known.
"""

from __future__ import annotations

import re
import unicodedata
from enum import Enum, auto
from functools import lru_cache
from typing import Final

from segue_engines.gpt_sovits.text.greek import greek_letter


class Script(Enum):
    """What a character can be to this front end."""

    LATIN = auto()
    HAN = auto()
    KANA = auto()
    HANGUL = auto()
    DIGIT = auto()
    GREEK = auto()
    OTHER = auto()
    FOREIGN = auto()


_HAN: Final = (
    *((0x3005, 0x3005), (0x3007, 0x3007), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF)),
    *((0x20000, 0x323AF),),
)
_KANA: Final = ((0x3041, 0x3096), (0x3099, 0x309F), (0x30A1, 0x30FA), (0x30FC, 0x30FF), (0x31F0, 0x31FF))
_HANGUL: Final = ((0x1100, 0x11FF), (0x3131, 0x318E), (0xA960, 0xA97C), (0xAC00, 0xD7A3), (0xD7B0, 0xD7FB))


@lru_cache(maxsize=8192)
def script_of(char: str) -> Script:
    """Tell the script of one character; a letter of none that can be read is `FOREIGN`."""
    code = ord(char)
    if code < 0x80:
        return _ascii_script(char)
    for ranges, script in ((_HAN, Script.HAN), (_KANA, Script.KANA), (_HANGUL, Script.HANGUL)):
        if any(first <= code <= last for first, last in ranges):
            return script
    if not char.isalpha():
        return Script.OTHER
    if greek_letter(char):
        return Script.GREEK
    plain = unicodedata.normalize("NFKC", char)[0]
    if plain != char:  # full-width, half-width and mathematical letters
        found = script_of(plain)
        return Script.FOREIGN if found is Script.OTHER else found
    return Script.LATIN if unicodedata.name(char, "").startswith("LATIN ") else Script.FOREIGN


def _ascii_script(char: str) -> Script:
    if char.isalpha():
        return Script.LATIN
    return Script.DIGIT if char.isdigit() else Script.OTHER


_SUPERSCRIPTS: Final = frozenset("²³")
_FULL_WIDTH: Final = str.maketrans("％＋－＝＆＠＃＄￥／＊＜＞（）～〜−", "%+-=&@#$¥/*<>()~~-")
_SQUARED: Final = re.compile("[\u3300-\u33ff℃℉№]")
_SPACES: Final = re.compile(r"[^\S\n]+")


def washed(text: str) -> str:
    """Make one of what is written in two ways, and drop what is never said.

    Full-width letters and digits, ligatures, `㎏`, `①`, `½` and digits of other scripts become plain ones; accents are
    composed; emoji and other pictures become a space, invisible characters nothing. Letters of every script stay.
    """
    text = "".join(map(_washed_char, text)).translate(_FULL_WIDTH).replace("\u2044", "/")
    return _SPACES.sub(" ", _without_loose_marks(unicodedata.normalize("NFC", text)))


@lru_cache(maxsize=8192)
def _washed_char(char: str) -> str:
    category = unicodedata.category(char)
    if char in "\n\r\v\f\x85\u2028\u2029":
        return "\n"
    if category[0] == "C":
        return " " if char == "\t" else ""
    if category[0] == "Z":
        return " "
    if category in ("Nd", "Nl", "No") or (category[0] == "L" and _is_compatible(char)):
        return _plain(char)
    if _SQUARED.match(char):
        return unicodedata.normalize("NFKC", char)
    if category == "So" or 0x1F3FB <= ord(char) <= 0x1F3FF:
        return char if char == "°" else " "
    return char


def _is_compatible(char: str) -> bool:
    """Whether a letter may be replaced by its compatible form: not the jamo `ㅋ`, which would be cut from its word."""
    return not 0x3131 <= ord(char) <= 0x318E


def _plain(char: str) -> str:
    if char in _SUPERSCRIPTS:
        return char
    if char.isdecimal():
        return str(unicodedata.decimal(char))
    return unicodedata.normalize("NFKC", char)


def _without_loose_marks(text: str) -> str:
    """Drop combining marks that NFC left, but those on Latin, which `english` strips, and those of foreign letters."""
    kept: list[str] = []
    base = " "
    for char in text:
        if unicodedata.category(char)[0] != "M":
            base = char
        elif script_of(base) not in (Script.LATIN, Script.FOREIGN):
            continue
        kept.append(char)
    return "".join(kept)


def first_foreign(text: str) -> tuple[int, int] | None:
    """Find the first stretch of letters that no language here can read, as (start, end)."""
    start = next((place for place, char in enumerate(text) if script_of(char) is Script.FOREIGN), None)
    if start is None:
        return None
    end = last = start
    while end < len(text) and script_of(text[end]) in (Script.FOREIGN, Script.OTHER) and text[end] != "\n":
        end += 1
        if script_of(text[end - 1]) is Script.FOREIGN or unicodedata.category(text[end - 1])[0] == "M":
            last = end
    return start, last
