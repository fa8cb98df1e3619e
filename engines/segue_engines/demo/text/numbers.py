"""Numbers as English words: cardinals, ordinals, decimals, years, digit strings."""

from __future__ import annotations

from typing import Final

_ONES: Final = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS: Final = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SCALES: Final = ("", "thousand", "million", "billion", "trillion", "quadrillion")
_IRREGULAR_ORDINALS: Final = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_MAX_CARDINAL_DIGITS: Final = 18


def cardinal(value: int) -> str:
    """Read a whole number: 1,042 is "one thousand forty two". Beyond 18 digits it is read digit by digit."""
    if value < 0:
        return "minus " + cardinal(-value)
    if len(str(value)) > _MAX_CARDINAL_DIGITS:
        return digits(str(value))
    if value < 1000:
        return _below_thousand(value)
    groups: list[str] = []
    for scale in _SCALES:
        value, group = divmod(value, 1000)
        if group:
            groups.append(f"{_below_thousand(group)} {scale}".strip())
    return " ".join(reversed(groups))


def _below_thousand(value: int) -> str:
    if value < 20:
        return _ONES[value]
    if value < 100:
        tens, rest = divmod(value, 10)
        return _TENS[tens] + (" " + _ONES[rest] if rest else "")
    hundreds, rest = divmod(value, 100)
    return f"{_ONES[hundreds]} hundred" + (" " + _below_thousand(rest) if rest else "")


def ordinal(value: int) -> str:
    """Read a rank: 21 is "twenty first"."""
    head, _, last = cardinal(value).rpartition(" ")
    if last in _IRREGULAR_ORDINALS:
        last = _IRREGULAR_ORDINALS[last]
    elif last.endswith("y"):
        last = last[:-1] + "ieth"
    else:
        last += "th"
    return f"{head} {last}".strip()


def digits(text: str) -> str:
    """Read each digit by itself: "007" is "zero zero seven"."""
    return " ".join(_ONES[int(digit)] for digit in text)


def decimal(text: str) -> str:
    """Read "3.14" as "three point one four"; a whole number as a cardinal; a leading zero digit by digit."""
    whole, point, fraction = text.partition(".")
    if len(whole) > 1 and whole.startswith("0") and not point:
        return digits(whole)
    spoken = cardinal(int(whole)) if whole else "zero"
    return f"{spoken} point {digits(fraction)}" if fraction else spoken


def year(value: int) -> str:
    """Read a year: 1987 is "nineteen eighty seven", 2005 "two thousand five", 1900 "nineteen hundred"."""
    century, rest = divmod(value, 100)
    if value < 1000 or 2000 <= value < 2010 or (rest == 0 and century % 10 == 0):
        return cardinal(value)
    if rest == 0:
        return f"{cardinal(century)} hundred"
    if rest < 10:
        return f"{cardinal(century)} oh {_ONES[rest]}"
    return f"{cardinal(century)} {cardinal(rest)}"


def plural(words: str) -> str:
    """Put the last word in the plural: "nineteen eighty" gives "nineteen eighties"."""
    if words.endswith("y"):
        return words[:-1] + "ies"
    return words + ("es" if words.endswith("x") else "s")
