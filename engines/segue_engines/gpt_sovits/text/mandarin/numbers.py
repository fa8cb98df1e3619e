"""Numbers as Chinese words. Strings of ASCII digits in, so that a number of any length is read."""

from __future__ import annotations

from typing import Final

_DIGITS: Final = "零一二三四五六七八九"
_PLACES: Final = ("", "十", "百", "千")
_GROUPS: Final = ("", "万", "亿", "万亿", "亿亿")
_MAX_CARDINAL: Final = 16


def digits(number: str) -> str:
    """Read each digit by itself: 2024 is 二零二四."""
    return "".join(_DIGITS[int(digit)] for digit in number)


def telephone(number: str) -> str:
    """Read each digit by itself, one as 幺: 110 is 幺幺零."""
    return digits(number).replace("一", "幺")


def cardinal(number: str) -> str:
    """Read a whole number: 10050 is 一万零五十. Beyond sixteen digits it is read digit by digit."""
    number = number.lstrip("0") or "0"
    if len(number) > _MAX_CARDINAL:
        return digits(number)
    if number == "0":
        return "零"
    said = ""
    for place in range((len(number) - 1) // 4, -1, -1):
        end = len(number) - 4 * place
        group = number[max(end - 4, 0) : end]
        if int(group):
            gap = "零" if said and (group[0] == "0" or said.endswith("零")) else ""
            said = said.removesuffix("零") + gap + _group(group) + _GROUPS[place]
        elif said and not said.endswith("零"):
            said += "零"
    said = said.removesuffix("零")
    return said[1:] if said.startswith("一十") else said


def _group(group: str) -> str:
    """Read one to four digits, without the zeros in front."""
    said = ""
    for place, digit in zip(range(len(group) - 1, -1, -1), group, strict=True):
        if digit != "0":
            said += _DIGITS[int(digit)] + _PLACES[place]
        elif said and not said.endswith("零"):
            said += "零"
    return said.removesuffix("零")


def number(text: str) -> str:
    """Read a number as it is written, with commas, a point and a leading zero: 3.14 is 三点一四, 007 is 零零七."""
    whole, point, fraction = text.replace(",", "").partition(".")
    if len(whole) > 1 and whole.startswith("0") and not point:
        return digits(whole)
    said = cardinal(whole or "0")
    return f"{said}点{digits(fraction)}" if fraction else said


def amount(text: str) -> str:
    """Read a number that counts something: as `number`, but a 2 in front is 两 (两个, 两千, 两万)."""
    said = number(text)
    if said == "二" or said.startswith(("二千", "二万", "二亿", "二点")):
        return "两" + said[1:]
    return said
