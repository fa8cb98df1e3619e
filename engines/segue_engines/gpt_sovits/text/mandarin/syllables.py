"""Pinyin syllables to the two phones that the networks know them by.

The phones are those of the Opencpop corpus: an initial and a final, where a syllable without an initial gets one of
its vowel (`AA`, `EE`, `OO`) or the glide that pinyin writes (`y`, `w`). Made from the rules of pinyin spelling rather
than kept as a table, so that each line can be checked against them.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_SYLLABLE: Final = re.compile(r"(?P<sound>[a-zê]+)(?P<tone>[1-5])")
_INITIAL: Final = re.compile(r"[zcs]h|[bpmfdtnlgkhjqxrzcsyw]")
_VOWEL_INITIALS: Final = {"a": "AA", "e": "EE", "o": "OO"}
_INTERJECTIONS: Final = {"ê": "ei", "m": "mu", "n": "en", "ng": "en", "hm": "heng", "hng": "heng"}
_BUZZING: Final = {"zh": "ir", "ch": "ir", "sh": "ir", "r": "ir", "z": "i0", "c": "i0", "s": "i0"}
_AFTER_Y: Final = {"e": "E", "an": "En"}


@lru_cache(maxsize=4096)
def syllable_to_phones(pinyin: str) -> tuple[str, str] | None:
    """Split `zhong1` into `zh`, `ong1`; `None` for what is no syllable.

    The pinyin is as pypinyin writes `Style.TONE3`: tone 1 to 5 at the end, `v` for ü after n and l.
    """
    match = _SYLLABLE.fullmatch(pinyin)
    if match is None:
        return None
    sound = _INTERJECTIONS.get(match["sound"], match["sound"])
    initial = _INITIAL.match(sound)
    if initial is None:
        return _VOWEL_INITIALS[sound[0]], sound + match["tone"]
    final = _final(initial[0], sound[initial.end() :])
    return (initial[0], final + match["tone"]) if final else None


def _final(initial: str, final: str) -> str:
    """The final as it sounds after its initial, where spelling says it otherwise."""
    if final == "i" and initial in _BUZZING:
        return _BUZZING[initial]
    if initial in ("j", "q", "x", "y") and final.startswith("u"):
        return "v" + final[1:]  # ü loses its dots where u cannot follow
    if initial == "y":
        return _AFTER_Y.get(final, final)
    return final
