"""Written Korean to hangul, spaces and marks: numbers, dates, money, units and symbols.

Korean counts in two ways: with Chinese numerals (일 이 삼), and with its own (하나 둘 셋) before counters of things and
for hours.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from segue_engines.gpt_sovits.text.greek import greek_letter

Rewrite = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]

_DIGITS: Final = "영일이삼사오육칠팔구"
_PLACES: Final = ("", "십", "백", "천")
_GROUPS: Final = ("", "만", "억", "조")
_ONES: Final = ("", "한", "두", "세", "네", "다섯", "여섯", "일곱", "여덟", "아홉")
_TENS: Final = ("", "열", "스물", "서른", "마흔", "쉰", "예순", "일흔", "여든", "아흔")
_MAX_CARDINAL: Final = 16
_NUMBER: Final = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"
_COUNTERS: Final = (
    "개(?!월|년)|명|살|시간|시|마리|권|장|잔|병|대(?!학)|송이|켤레|사람|가지|달|군데|곳|쌍|채|척|판|그루|벌|줄|배|"
    "번째|번|그릇|조각|통|봉지|자루|상자|포기|모금|걸음|칸"
)
_UNITS: Final = {
    "km/h": "킬로미터 퍼 아워", "km": "킬로미터", "cm": "센티미터", "mm": "밀리미터", "m": "미터", "kg": "킬로그램",
    "mg": "밀리그램", "g": "그램", "ml": "밀리리터", "mL": "밀리리터", "L": "리터", "t": "톤", "GB": "기가바이트",
    "MB": "메가바이트", "KB": "킬로바이트", "TB": "테라바이트", "Hz": "헤르츠", "kHz": "킬로헤르츠",
    "MHz": "메가헤르츠", "GHz": "기가헤르츠", "W": "와트", "kW": "킬로와트", "V": "볼트", "°C": "도",
    "°": "도", "%": "퍼센트",
}  # fmt: skip
_UNIT: Final = "|".join(sorted(map(re.escape, _UNITS), key=len, reverse=True))
_CURRENCIES: Final = {"₩": "원", "$": "달러", "€": "유로", "£": "파운드", "¥": "엔"}
_SYMBOLS: Final = {
    "&": " 앤드 ", "+": " 더하기 ", "=": " 는 ", "×": " 곱하기 ", "÷": " 나누기 ", "%": " 퍼센트 ", "°": "도 ",
    "@": " 골뱅이 ", "~": ",",
}  # fmt: skip


def digits(number: str) -> str:
    """Read each digit by itself, as telephone numbers are: 010 is 공일공."""
    return "".join("공" if digit == "0" else _DIGITS[int(digit)] for digit in number)


def cardinal(number: str) -> str:
    """Read a whole number with Chinese numerals: 12000 is 만 이천. Beyond sixteen digits it is read digit by digit."""
    number = number.lstrip("0") or "0"
    if len(number) > _MAX_CARDINAL:
        return digits(number)
    if number == "0":
        return "영"
    said: list[str] = []
    for place in range((len(number) - 1) // 4, -1, -1):
        end = len(number) - 4 * place
        group = number[max(end - 4, 0) : end]
        if int(group):
            only_one = int(group) == 1 and place == 1
            said.append(("" if only_one else _group(group)) + _GROUPS[place])
    return " ".join(said)


def _group(group: str) -> str:
    said = ""
    for place, digit in zip(range(len(group) - 1, -1, -1), group, strict=True):
        if digit != "0":
            said += ("" if digit == "1" and place else _DIGITS[int(digit)]) + _PLACES[place]
    return said


def native(value: int) -> str:
    """Read 1 to 99 with Korean numerals, as before a counter: 21 is 스물한, 20 스무."""
    if value == 20:
        return "스무"
    return _TENS[value // 10] + _ONES[value % 10]


def number(text: str) -> str:
    """Read a number as it is written: 3.14 is 삼 점 일사, with Chinese numerals."""
    whole, _, fraction = text.replace(",", "").partition(".")
    if len(whole) > 1 and whole.startswith("0") and not fraction:
        return digits(whole)
    said = cardinal(whole or "0")
    fraction_said = "".join(_DIGITS[int(digit)] for digit in fraction)
    return f"{said} 점 {fraction_said}" if fraction else said


def normalised_korean(text: str) -> str:
    """Write out numbers and symbols. Marks, spaces and everything else stay."""
    for pattern, rewrite in _REWRITES:
        text = pattern.sub(rewrite, text)
    for symbol, said in _SYMBOLS.items():
        text = text.replace(symbol, said)
    text = "".join(letter.korean if (letter := greek_letter(char)) else char for char in text)
    return re.sub(r" +", " ", text)


def _month(match: re.Match[str]) -> str:
    return {"6": "유", "10": "시"}.get(match[1].lstrip("0"), cardinal(match[1])) + "월"


def _counted(match: re.Match[str]) -> str:
    value, counter = int(match["value"]), match["counter"]
    if value == 1 and counter == "번째":
        return "첫 번째"
    if not 1 <= value <= 99 or (counter == "시" and value > 12):
        return f"{cardinal(match['value'])} {counter}"
    return f"{native(value)} {counter}"


def _clock(match: re.Match[str]) -> str:
    hour, minute = int(match["hour"]), match["minute"]
    said = f"{native(hour) if 1 <= hour <= 12 else cardinal(match['hour'])} 시"
    return said + (f" {cardinal(minute)} 분" if int(minute) else "")


def _rewrite(pattern: str, rewrite: Callable[[re.Match[str]], str]) -> Rewrite:
    return re.compile(pattern, re.ASCII), rewrite


_REWRITES: Final[tuple[Rewrite, ...]] = (
    _rewrite(
        r"(?<!\d)(\d{4})[-/.](0?[1-9]|1[0-2])[-/.]([12]\d|3[01]|0?[1-9])(?![\d.])",
        lambda m: f"{cardinal(m[1])}년 {m[2]}월 {cardinal(m[3])}일",
    ),
    _rewrite(r"(?<!\d)(0?[1-9]|1[0-2])월", _month),
    _rewrite(r"(?<![\d:])(?P<hour>[01]?\d|2[0-4]):(?P<minute>[0-5]\d)(?![\d:])", _clock),
    _rewrite(r"(?<![\d-])\d{2,4}(?:-\d{3,4}){1,2}(?![\d-])", lambda m: " ".join(map(digits, m[0].split("-")))),
    _rewrite(rf"([{''.join(_CURRENCIES)}])\s?({_NUMBER})", lambda m: f"{number(m[2])} {_CURRENCIES[m[1]]}"),
    _rewrite(rf"(?<![\w)])-(?={_NUMBER})", lambda _: "마이너스 "),
    _rewrite(rf"({_NUMBER})\s?({_UNIT})(?![A-Za-z])", lambda m: f"{number(m[1])} {_UNITS[m[2]]}"),
    _rewrite(rf"(?<=\d)\s?[-~]\s?(?={_NUMBER})", lambda _: "에서 "),
    _rewrite(r"(?<![\d/.])(\d+)/(\d+)(?![\d/.])", lambda m: f"{cardinal(m[2])}분의 {cardinal(m[1])}"),
    _rewrite(rf"(?<![\d.,])(?P<value>\d{{1,2}})\s?(?P<counter>{_COUNTERS})", _counted),
    _rewrite(_NUMBER, lambda m: number(m[0])),
)
