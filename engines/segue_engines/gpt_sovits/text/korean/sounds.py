"""How written Korean sounds: the rules of 표준 발음법 (standard pronunciation, 1988) that spelling alone decides.

What they need to know of words (compounds, stems, Chinese roots) is given by `respelled`; a morphological analyser
would tell more, but brings 108 MB of dictionary. What is lost without it: 신다 as 신따 and the like, where only the
part of speech says that a stem ends there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from segue_engines.gpt_sovits.text.korean.syllables import Syllable, is_syllable, put_together, taken_apart

_CLOSED: Final = {
    "ㄲ": "ㄱ", "ㅋ": "ㄱ", "ㄳ": "ㄱ", "ㄺ": "ㄱ", "ㅅ": "ㄷ", "ㅆ": "ㄷ", "ㅈ": "ㄷ", "ㅊ": "ㄷ", "ㅌ": "ㄷ",
    "ㅎ": "ㄷ", "ㅍ": "ㅂ", "ㅄ": "ㅂ", "ㄿ": "ㅂ", "ㄵ": "ㄴ", "ㄶ": "ㄴ", "ㄼ": "ㄹ", "ㄽ": "ㄹ", "ㄾ": "ㄹ",
    "ㅀ": "ㄹ", "ㄻ": "ㅁ",
}  # fmt: skip
_SPLIT: Final = {
    "ㄳ": ("ㄱ", "ㅅ"), "ㄵ": ("ㄴ", "ㅈ"), "ㄺ": ("ㄹ", "ㄱ"), "ㄻ": ("ㄹ", "ㅁ"), "ㄼ": ("ㄹ", "ㅂ"),
    "ㄽ": ("ㄹ", "ㅅ"), "ㄾ": ("ㄹ", "ㅌ"), "ㄿ": ("ㄹ", "ㅍ"), "ㅄ": ("ㅂ", "ㅅ"),
}  # fmt: skip
_TENSE: Final = {"ㄱ": "ㄲ", "ㄷ": "ㄸ", "ㅂ": "ㅃ", "ㅅ": "ㅆ", "ㅈ": "ㅉ"}
_ASPIRATED: Final = {"ㄱ": "ㅋ", "ㄷ": "ㅌ", "ㅂ": "ㅍ", "ㅈ": "ㅊ"}
_NASAL: Final = {"ㄱ": "ㅇ", "ㄷ": "ㄴ", "ㅂ": "ㅁ"}
_WITHOUT_H: Final = {"ㅎ": "", "ㄶ": "ㄴ", "ㅀ": "ㄹ"}
_BEFORE_H: Final = {
    "ㄱ": ("", "ㅋ"), "ㄲ": ("", "ㅋ"), "ㄺ": ("ㄹ", "ㅋ"), "ㄷ": ("", "ㅌ"), "ㅅ": ("", "ㅌ"), "ㅆ": ("", "ㅌ"),
    "ㅊ": ("", "ㅌ"), "ㅌ": ("", "ㅌ"), "ㅈ": ("", "ㅊ"), "ㄵ": ("ㄴ", "ㅊ"), "ㅂ": ("", "ㅍ"), "ㄼ": ("ㄹ", "ㅍ"),
    "ㅍ": ("", "ㅍ"), "ㅄ": ("", "ㅍ"),
}  # fmt: skip
_STEM_ENDS: Final = frozenset({"ㄵ", "ㄻ", "ㄼ", "ㄾ"})
_BOUND_NOUNS: Final = frozenset("것거게걸수데줄바적듯뿐지")
_PLAIN_VOWELS: Final = {"ㅑ": "ㅏ", "ㅕ": "ㅓ", "ㅛ": "ㅗ", "ㅠ": "ㅜ", "ㅖ": "ㅔ", "ㅒ": "ㅐ"}


def spoken(text: str) -> str:
    """Rewrite hangul as it is spoken: 국물 is 궁물, 같이 가치. Other characters stay where they are.

    Sounds change across a single space too, as in fluent speech, but a coda never moves over it.
    """
    parts: list[Syllable | str] = [taken_apart(char) if is_syllable(char) else char for char in text]
    for place, part in enumerate(parts):
        if isinstance(part, Syllable):
            after, apart = _next(parts, place)
            if after is not None:
                _meet(part, after, apart=apart)
            part.coda = _CLOSED.get(part.coda, part.coda)
            _settle_vowel(part)
    return "".join(put_together(part) if isinstance(part, Syllable) else part for part in parts)


def _next(parts: Sequence[Syllable | str], place: int) -> tuple[Syllable | None, bool]:
    """The syllable that follows, and whether a space lies between."""
    for offset, apart in ((1, False), (2, True)):
        after = parts[place + offset] if place + offset < len(parts) else None
        if isinstance(after, Syllable):
            return after, apart
        if after != " ":
            return None, False
    return None, False


def _meet(left: Syllable, right: Syllable, *, apart: bool) -> None:
    """Change a coda and the onset after it; the first rule that applies settles it."""
    if not left.coda:
        return
    rules: tuple[Callable[[Syllable, Syllable], bool], ...]
    if apart:
        rules = (_expect, _aspirate_right, _assimilate)
    else:
        rules = (_palatalise, _aspirate_left, _aspirate_right, _move, _assimilate)
    for rule in rules:
        if rule(left, right):
            return


def _expect(left: Syllable, right: Syllable) -> bool:
    """할 것 is 할 껏: after the ending -ㄹ a bound noun is tense."""
    if left.coda != "ㄹ" or right.onset not in _TENSE or put_together(right) not in _BOUND_NOUNS:
        return False
    right.onset = _TENSE[right.onset]
    return True


def _palatalise(left: Syllable, right: Syllable) -> bool:
    """굳이 is 구지, 같이 가치, 굳히다 구치다."""
    if right.vowel not in ("ㅣ", "ㅕ"):
        return False
    if right.onset == "ㅇ" and left.coda in ("ㄷ", "ㅌ", "ㄾ"):
        right.onset = "ㅈ" if left.coda == "ㄷ" else "ㅊ"
        left.coda = "ㄹ" if left.coda == "ㄾ" else ""
        return True
    if right.onset == "ㅎ" and left.coda == "ㄷ":
        left.coda, right.onset = "", "ㅊ"
        return True
    return False


def _aspirate_left(left: Syllable, right: Syllable) -> bool:
    """좋다 is 조타, 좋아 조아, 닿소 다쏘, 놓는 논는, 뚫는 뚤른."""
    if left.coda not in _WITHOUT_H:
        return False
    rest = _WITHOUT_H[left.coda]
    if right.onset in ("ㄱ", "ㄷ", "ㅈ"):
        left.coda, right.onset = rest, _ASPIRATED[right.onset]
    elif right.onset == "ㅅ":
        left.coda, right.onset = rest, "ㅆ"
    elif right.onset == "ㅇ":
        left.coda, right.onset = "", rest or "ㅇ"
    elif right.onset == "ㄴ" and rest == "ㄹ":
        left.coda, right.onset = "ㄹ", "ㄹ"
    elif right.onset == "ㄴ":
        left.coda = "ㄴ"
    else:
        return False
    return True


def _aspirate_right(left: Syllable, right: Syllable) -> bool:
    """입학 is 이팍, 앉히다 안치다, 못 해 모 태."""
    if right.onset != "ㅎ" or left.coda not in _BEFORE_H:
        return False
    left.coda, right.onset = _BEFORE_H[left.coda]
    return True


def _move(left: Syllable, right: Syllable) -> bool:
    """A coda moves to a syllable without onset: 옷이 is 오시, 값이 갑씨."""
    if right.onset != "ㅇ" or left.coda == "ㅇ":
        return False
    if left.coda in _SPLIT:
        left.coda, moved = _SPLIT[left.coda]
        right.onset = "ㅆ" if moved == "ㅅ" else moved
    else:
        left.coda, right.onset = "", left.coda
    return True


def _assimilate(left: Syllable, right: Syllable) -> bool:
    """Close the coda, then let both sounds fit: 국물 궁물, 먹고 먹꼬, 신라 실라, 협력 혐녁."""
    if left.coda == "ㄺ" and right.onset == "ㄱ":
        left.coda, right.onset = "ㄹ", "ㄲ"  # 맑게
        return True
    tense_after = left.coda in _STEM_ENDS
    left.coda = _CLOSED.get(left.coda, left.coda)
    if right.onset in _TENSE and (left.coda in _NASAL or (tense_after and right.onset != "ㅂ")):
        right.onset = _TENSE[right.onset]
    elif right.onset in ("ㄴ", "ㅁ") and left.coda in _NASAL:
        left.coda = _NASAL[left.coda]
    elif right.onset == "ㄹ":
        _meet_liquid(left, right)
    elif right.onset == "ㄴ" and left.coda == "ㄹ":
        right.onset = "ㄹ"
    return True


def _meet_liquid(left: Syllable, right: Syllable) -> None:
    if left.coda == "ㄴ":
        left.coda = "ㄹ"
    elif left.coda in _NASAL:
        left.coda, right.onset = _NASAL[left.coda], "ㄴ"
    elif left.coda in ("ㅁ", "ㅇ"):
        right.onset = "ㄴ"


def _settle_vowel(syllable: Syllable) -> None:
    """가져 is 가저, 희망 히망: what the onset does to its vowel."""
    if syllable.onset in ("ㅈ", "ㅉ", "ㅊ"):
        syllable.vowel = _PLAIN_VOWELS.get(syllable.vowel, syllable.vowel)
    if syllable.vowel == "ㅢ" and syllable.onset != "ㅇ":
        syllable.vowel = "ㅣ"
