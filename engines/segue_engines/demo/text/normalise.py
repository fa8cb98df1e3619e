"""Written English to words and pauses: what a reader would say aloud.

An ordered list of rewrites, from the most specific pattern to the most general one, because each takes its digits and
symbols away from those after it: "$3.50" must be money before "3.50" is a decimal, "3.50" before the full stop ends a
sentence.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Final

from segue_engines.demo.text import numbers

Rewrite = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]

_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_MONTH_PATTERN: Final = "|".join((*_MONTHS, *(f"{month[:3]}\\.?" for month in _MONTHS), "Sept\\.?"))
_WEEKDAYS: Final = {"Mon": "Monday", "Tue": "Tuesday", "Wed": "Wednesday", "Thu": "Thursday", "Fri": "Friday"}

_ABBREVIATIONS: Final = {
    "mr": "mister", "mrs": "missus", "ms": "miz", "dr": "doctor", "prof": "professor", "st": "saint", "jr": "junior",
    "sr": "senior", "vs": "versus", "etc": "et cetera", "approx": "approximately", "dept": "department",
    "gen": "general", "gov": "governor", "sen": "senator",
    "rep": "representative", "capt": "captain",
    "lt": "lieutenant", "sgt": "sergeant", "rev": "reverend",
    "mt": "mount", "ave": "avenue", "blvd": "boulevard", "rd": "road",
    "inc": "incorporated", "ltd": "limited", "corp": "corporation", "co": "company", "est": "established",
    "fig": "figure", "vol": "volume", "max": "maximum", "min": "minimum", "tel": "telephone",
}  # fmt: skip
_LETTERED: Final = frozenset(
    {"plan", "vitamin", "option", "part", "class", "type", "grade", "group", "team", "appendix"}
)
_DOTTED: Final = {"e.g.": "for example", "i.e.": "that is", "a.m.": "A M", "p.m.": "P M", "u.s.": "U S", "u.k.": "U K"}
_UNITS: Final = {
    "km/h": "kilometers per hour", "mph": "miles per hour",
    "km": "kilometers", "cm": "centimeters", "mm": "millimeters",
    "m": "meters", "kg": "kilograms", "mg": "milligrams", "g": "grams", "lb": "pounds", "lbs": "pounds", "oz": "ounces",
    "ft": "feet", "mi": "miles", "ml": "milliliters", "l": "liters", "kb": "kilobytes", "mb": "megabytes",
    "gb": "gigabytes", "tb": "terabytes", "khz": "kilohertz", "mhz": "megahertz", "ghz": "gigahertz", "hz": "hertz",
    "kw": "kilowatts", "w": "watts", "v": "volts", "ms": "milliseconds", "s": "seconds", "min": "minutes",
    "h": "hours", "hrs": "hours", "°c": "degrees Celsius", "°f": "degrees Fahrenheit", "°": "degrees",
}  # fmt: skip
_CURRENCIES: Final = {
    "$": ("dollar", "cent"), "£": ("pound", "penny"), "€": ("euro", "cent"), "¥": ("yen", ""), "₹": ("rupee", "paisa"),
}  # fmt: skip
_SYMBOLS: Final = {
    "&": " and ", "+": " plus ", "=": " equals ", "@": " at ", "%": " percent ", "#": " number ", "°": " degrees ",
    "~": " about ", "<": " less than ", ">": " greater than ", "×": " times ", "÷": " divided by ",
    "±": " plus or minus ",
    "/": " slash ", "\\": " backslash ", "$": " dollars ", "£": " pounds ", "€": " euros ", "π": " pi ",
    "§": " section ", "©": " copyright ", "™": " trademark ", "√": " square root of ", "^": " to the power of ",
}  # fmt: skip
_PUNCTUATION: Final = str.maketrans(
    {
        "‘": "'", "’": "'", "ʼ": "'", "`": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "…": ", ", "–": "-",
        "—": ", ", "―": ", ", "‐": "-", "‑": "-", "−": "-", ";": ",", ":": ",", "(": ", ", ")": ", ", "[": ", ",
        "]": ", ", "{": ", ", "}": ", ", "。": ".", "，": ",", "？": "?", "！": "!", "¿": " ", "¡": " ", "•": ", ",
        "|": ", ", "\u2044": "/", "\u00ad": "",
    }
)  # fmt: skip
_EARLY: Final = str.maketrans({k: v for k, v in ((chr(k), v) for k, v in _PUNCTUATION.items()) if k not in ":;()[]{}|"})


def spoken(text: str) -> str:
    """Rewrite a text so that it holds only words (letters and apostrophes), spaces and the pauses , . ? !

    Letters that are not English survive as they are: `frontend` rejects them with their place.
    """
    text = unicodedata.normalize("NFKC", text.replace("…", "—").replace("µ", " micro ")).translate(_EARLY)
    text = re.sub(r"[ \t]*\n\s*\n\s*", ". ", text)
    for pattern, rewrite in _REWRITES:
        text = pattern.sub(rewrite, text)
    text = text.translate(_PUNCTUATION)
    for symbol, words in _SYMBOLS.items():
        text = text.replace(symbol, words)
    return _tidy(text)


def _tidy(text: str) -> str:
    text = re.sub(r"(?<![^\W_])'|'(?![^\W_])", " ", text)
    text = re.sub(r'[-_*"]+', " ", text)
    text = re.sub(r"\s+", " ", text)
    return re.sub(r"\s+([,.?!])", r"\1", text).strip()


def _number(text: str) -> str:
    return numbers.decimal(text.replace(",", ""))


def _address(match: re.Match[str]) -> str:
    body = re.sub(r"^(https?|ftp)://(www\.)?", "", match[0]).rstrip("/")
    words = {".": "dot", "/": "slash", "@": "at", "-": "dash", "_": "underscore", ":": "colon", "?": "question mark"}
    words |= {"=": "equals", "&": "and", "#": "hash", "%": "percent", "+": "plus", "~": "tilde"}
    return " ".join(f" {words[part]} " if part in words else part for part in re.findall(r"[A-Za-z]+|\d|\S", body))


def _money(match: re.Match[str]) -> str:
    unit, small = _CURRENCIES[match["symbol"]]
    amount = match["amount"].replace(",", "")
    whole, _, fraction = amount.partition(".")
    if match["scale"]:
        scale = {"k": "thousand", "m": "million", "bn": "billion", "b": "billion"}
        word = match["scale"].strip().lower()
        return f"{_number(amount)} {scale.get(word, word)} {_counted(2, unit)} "
    if len(fraction) != 2 or not small:
        return f"{_number(amount)} {_counted(0 if fraction else int(whole), unit)}"
    parts = [f"{_number(whole)} {_counted(int(whole), unit)}"] if int(whole) or not int(fraction) else []
    if int(fraction):
        parts.append(f"{numbers.cardinal(int(fraction))} {_counted(int(fraction), small)}")
    return " and ".join(parts)


def _counted(count: int, unit: str) -> str:
    if count == 1 or unit in ("yen", "paisa"):
        return unit
    return "pence" if unit == "penny" else unit + "s"


def _clock(match: re.Match[str]) -> str:
    hour, minute = int(match["hour"]), int(match["minute"])
    half = (match["half"] or "").replace(".", "").upper()
    if minute == 0:
        said = numbers.cardinal(hour) + ("" if half else " o'clock" if 1 <= hour <= 12 else " hundred hours")
    else:
        said = f"{numbers.cardinal(hour)} {'oh ' if minute < 10 else ''}{numbers.cardinal(minute)}"
    if match["second"]:
        said += f" and {numbers.cardinal(int(match['second']))} seconds"
    return f"{said} {' '.join(half)}".strip()


def _date(year: str, month: str, day: str) -> str:
    return f"{_MONTHS[int(month) - 1]} {numbers.ordinal(int(day))}, {numbers.year(int(year))}"


def _month_day(match: re.Match[str]) -> str:
    year = f", {numbers.year(int(match['year']))}" if match["year"] else ""
    return f"{_full_month(match['month'])} {numbers.ordinal(int(match['day']))}{year}"


def _day_month(match: re.Match[str]) -> str:
    year = f", {numbers.year(int(match['year']))}" if match["year"] else ""
    return f"the {numbers.ordinal(int(match['day']))} of {_full_month(match['month'])}{year}"


def _full_month(name: str) -> str:
    return next(month for month in _MONTHS if month[:3] == name[:3])


def _unit(match: re.Match[str]) -> str:
    first, *rest = _UNITS[match["unit"].lower()].split()
    if match["amount"] == "1":
        first = "foot" if first == "feet" else first.removesuffix("s")
    return " ".join((_number(match["amount"]), first, *rest))


def _fraction(match: re.Match[str]) -> str:
    top, bottom = int(match["top"]), int(match["bottom"])
    if bottom == 2:
        name = "half" if top == 1 else "halves"
    elif bottom == 4:
        name = "quarter" if top == 1 else "quarters"
    elif 2 < bottom <= 20:
        name = numbers.ordinal(bottom) + ("" if top == 1 else "s")
    else:
        return f"{numbers.cardinal(top)} over {numbers.cardinal(bottom)}"
    return f"{numbers.cardinal(top)} {name}"


def _initial(match: re.Match[str]) -> str:
    """The full stop of "John F. Kennedy" ends no sentence, that of "It was plan B. Then" does."""
    if match["before"] is None or match["before"].lower() in _LETTERED:
        return match[0]
    return f"{match['before']} {match['letter']} "


def _roman(match: re.Match[str]) -> str:
    units = ("", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX")
    return numbers.cardinal(10 * len(match[1]) + units.index(match[2]))


def _decade(match: re.Match[str]) -> str:
    value = int(match["year"])
    return " " + numbers.plural(numbers.year(value) if value >= 100 else numbers.cardinal(value))


def _abbreviation(match: re.Match[str]) -> str:
    word = match["word"]
    full = _ABBREVIATIONS[word.lower()]
    return full.capitalize() if word[0].isupper() else full


def _dotted(match: re.Match[str]) -> str:
    return _DOTTED.get(match[0].lower()) or " ".join(match[0].replace(".", " ").split()) + " "


def _rewrite(pattern: str, rewrite: Callable[[re.Match[str]], str], flags: re.RegexFlag = re.NOFLAG) -> Rewrite:
    return re.compile(pattern, flags), rewrite


_DAY: Final = r"(?P<day>[12]\d|3[01]|0?[1-9])(?:st|nd|rd|th)?"
_YEAR_AFTER: Final = r"(?:,? (?P<year>[12]\d{3})\b)?"
_HALF_DAY: Final = r"(?:\s?(?P<half>[ap]\.?m\b\.?))?"
_AMOUNT: Final = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_UNIT_PATTERN: Final = "|".join(sorted((re.escape(unit) for unit in _UNITS), key=len, reverse=True))

_REWRITES: Final[tuple[Rewrite, ...]] = (
    _rewrite(r"(?<![\w.,/)])-(?=[$£€]?\d)", lambda _: "minus "),
    _rewrite(r"(?:https?|ftp)://[^\s<>\"']*[^\s<>\"'.,;:!?)\]]", _address, re.IGNORECASE),
    _rewrite(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+", _address),
    _rewrite(
        r"\b(?:www\.)?[a-z0-9-]+(?:\.[a-z0-9-]+)*\.(?:com|org|net|io|dev|edu|gov|co\.uk)(?:/[^\s,;!?]*[\w/])?\b",
        _address,
    ),
    _rewrite(r"\b(?:e\.g\.|i\.e\.|a\.m\.|p\.m\.|(?:[A-Za-z]\.){2,})", _dotted, re.IGNORECASE),
    _rewrite(
        rf"(?P<symbol>[$£€¥₹])\s?(?P<amount>{_AMOUNT})(?P<scale>\s?(?:thousand|million|billion|trillion|bn|[kKmMbB])\b)?",
        _money,
    ),
    _rewrite(
        r"\b(?P<hour>[01]?\d|2[0-3]):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d))?" + _HALF_DAY,
        _clock,
        re.IGNORECASE,
    ),
    _rewrite(
        r"\b(?P<hour>1[0-2]|[1-9])(?P<minute>)(?P<second>)\s?(?P<half>[ap]m)\b",
        lambda m: f"{_number(m['hour'])} {' '.join(m['half'].upper())}",
        re.IGNORECASE,
    ),
    _rewrite(r"\b(\d+):(\d+)\b", lambda m: f"{_number(m[1])} to {_number(m[2])}"),
    _rewrite(r"\b(\d{4})-(0?[1-9]|1[0-2])-([12]\d|3[01]|0?[1-9])\b", lambda m: _date(m[1], m[2], m[3])),
    _rewrite(r"\b(0?[1-9]|1[0-2])/([12]\d|3[01]|0?[1-9])/(\d{4})\b", lambda m: _date(m[3], m[1], m[2])),
    _rewrite(
        rf"\b(?P<month>{_MONTH_PATTERN}) {_DAY}\b{_YEAR_AFTER}",
        _month_day,
    ),
    _rewrite(
        rf"(?<![\w/])(?:the )?{_DAY}(?: of)? (?P<month>{_MONTH_PATTERN})\b{_YEAR_AFTER}",
        _day_month,
    ),
    _rewrite(r"\b(?P<day>Mon|Tue|Wed|Thu|Fri)\b\.?(?=,? )", lambda m: _WEEKDAYS[m["day"]]),
    _rewrite(r"(?:\b|')(?P<year>[1-9]\d{0,2}0)'?s\b", _decade),
    _rewrite(r"(?<=[a-z] )St\.(?!\s[A-Z])", lambda _: "Street"),
    _rewrite(rf"\b(?P<word>{'|'.join(_ABBREVIATIONS)})\.(?=\s|,|$)", _abbreviation, re.IGNORECASE),
    _rewrite(r"(?:^|(?<=\s)|\b(?P<before>[A-Z]\w*) )(?P<letter>[A-Z])\.(?=\s?[A-Z][\w.])", _initial),
    _rewrite(r"(?<=[a-z] )(?=[IVX]{2,7}\b)(X{0,3})(IX|IV|V?I{0,3})\b", _roman),
    _rewrite(r"\b([A-G])#", lambda m: f"{m[1]} sharp"),
    _rewrite(r"\b[Nn]o\.\s?(?=\d)", lambda _: "number "),
    _rewrite(rf"(?P<amount>{_AMOUNT})\s?%", lambda m: f"{_number(m['amount'])} percent"),
    _rewrite(
        r"\b(?P<rank>\d+(?:,\d{3})*)(?:st|nd|rd|th)\b", lambda m: numbers.ordinal(int(m["rank"].replace(",", "")))
    ),
    _rewrite(r"\b(?P<whole>\d+) (?P<top>\d+)/(?P<bottom>\d+)\b", lambda m: f"{_number(m['whole'])} and {_fraction(m)}"),
    _rewrite(r"\b(?P<top>\d+)/(?P<bottom>[1-9]\d*)\b(?!/)", _fraction),
    _rewrite(
        r"\(?\b(\d{3})(?:\) ?|[-.])(\d{3})[-.](\d{4})\b",
        lambda m: ", ".join(numbers.digits(part) for part in m.groups()),
    ),
    _rewrite(r"\b(\d{3})-(\d{4})\b", lambda m: f"{numbers.digits(m[1])}, {numbers.digits(m[2])}"),
    _rewrite(r"(?<=\d)\s?[-–]\s?(?=\d)", lambda _: " to "),
    _rewrite(rf"(?<![\w.])(?P<amount>{_AMOUNT})\s?(?P<unit>{_UNIT_PATTERN})(?![\w/])", _unit, re.IGNORECASE),
    _rewrite(r"\b[vV](?=\d)", lambda _: "version "),
    _rewrite(r"\d+(?:\.\d+){2,}", lambda m: " point ".join(_number(part) for part in m[0].split("."))),
    _rewrite(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", lambda m: f" {_number(m[0])} "),
    _rewrite(r"(?<![\d.])(?:1[1-9]|20)\d\d(?![\d.]\d|\d)", lambda m: f" {numbers.year(int(m[0]))} "),
    _rewrite(r"\d+(?:\.\d+)?|\.\d+", lambda m: f" {_number(m[0])} "),
    _rewrite(r"(?<=[a-z])(?=[A-Z])", lambda _: " "),
)
