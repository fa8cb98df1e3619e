"""Written Chinese to hanzi and marks: what a reader would say aloud.

An ordered list of rewrites, from the most specific pattern to the most general one, because each takes its digits away
from those after it. wetext, the living library for this, was tried and not taken: see docs/decisions.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from segue_engines.gpt_sovits.text.greek import greek_letter
from segue_engines.gpt_sovits.text.mandarin.numbers import amount, cardinal, digits, number, telephone
from segue_engines.gpt_sovits.text.pieces import Unreadable
from segue_engines.gpt_sovits.text.scripts import Script, script_of
from segue_engines.gpt_sovits.text.symbols import MARKS

Rewrite = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]

_NUMBER: Final = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"
_CURRENCIES: Final = {"¥": "元", "$": "美元", "€": "欧元", "£": "英镑", "₩": "韩元", "₹": "卢比", "₽": "卢布"}
_UNITS: Final = {
    "km/h": "公里每小时", "m/s": "米每秒", "km²": "平方公里", "m²": "平方米", "cm²": "平方厘米", "m³": "立方米",
    "cm³": "立方厘米", "km": "公里", "cm": "厘米", "mm": "毫米", "m": "米", "kg": "千克", "mg": "毫克", "g": "克",
    "t": "吨", "ml": "毫升", "mL": "毫升", "L": "升", "kHz": "千赫兹", "MHz": "兆赫兹", "GHz": "吉赫兹", "Hz": "赫兹",
    "kW": "千瓦", "W": "瓦", "V": "伏", "KB": "千字节", "MB": "兆字节", "GB": "吉字节", "TB": "太字节",
}  # fmt: skip
_UNIT: Final = "|".join(sorted(map(re.escape, _UNITS), key=len, reverse=True))
_MEASURES: Final = (
    "个|只|条|张|位|次|杯|瓶|辆|座|栋|件|匹|双|对|倍|天|周(?!年)|星期|小时|分钟|秒|块|元|斤|公斤|米|公里|里|吨|升|岁|"
    "层|本|把|颗|朵|棵|首|场|种|名|口|头|群|家|台|支|枝|根|片|份|套|句|段|篇|页|遍|回|趟|顿|点|千|万|亿|年(?!级|代)|"
    "间|架|艘|部|封|幅|顶|扇|盏|滴|粒|串|束|堆|排|队|组|批|代|门|类|样|步|碗|盘|盒|箱|袋|包|桶"
)
_CALLED: Final = "电话|手机|热线|号码|拨打|编号|账号|卡号|密码|验证码|邮编|学号|工号|房间|航班|车牌"
_SYMBOLS: Final = {
    "&": "和", "+": "加", "=": "等于", "×": "乘", "÷": "除以", "<": "小于", ">": "大于", "≥": "大于等于",
    "≤": "小于等于", "≈": "约等于", "≠": "不等于", "±": "正负", "√": "根号", "∞": "无穷大", "°": "度", "%": "百分号",
    "²": "平方", "³": "立方", "¥": "元", "$": "美元", "€": "欧元", "£": "英镑", "〇": "零", "の": "的",
}  # fmt: skip
_MARKS: Final = {
    "：": ",", "；": ",", "，": ",", "、": ",", "·": ",", ":": ",", ";": ",", "/": ",",
    "。": ".", "\n": ".", "！": "!", "？": "?", "—": "-", "~": "…",
}  # fmt: skip
_HUMMED: Final = {"嗯": "恩", "呣": "母"}
_OPERATORS: Final = {"+": "加", "-": "减", "*": "乘", "×": "乘", "/": "除以", "÷": "除以", "=": "等于"}


def normalised_chinese(text: str) -> str:
    """Write out numbers, dates, times, money, units and symbols; map marks to `!?…,.-`; drop all but hanzi and marks.

    Runs of marks become their first one.

    Raises
    ------
    Unreadable
        A 々 has nothing before it to repeat.
    """
    for pattern, rewrite in _REWRITES:
        text = pattern.sub(rewrite, text)
    text = text.replace("...", "…")
    said = "".join(_said(char) for char in text)
    return re.sub(r"([!?…,.-])[!?…,.-]+", r"\1", _without_repeaters(said))


def _said(char: str) -> str:
    char = _HUMMED.get(char, char)
    if char in _MARKS or char in MARKS:
        return _MARKS.get(char, char)
    if char in _SYMBOLS:
        return _SYMBOLS[char]
    if letter := greek_letter(char):
        return letter.chinese
    return char if script_of(char) is Script.HAN else ""


def _without_repeaters(text: str) -> str:
    """Write 々 as the hanzi before it."""
    said = ""
    for char in text:
        if char == "々" and (not said or said[-1] in MARKS):
            raise Unreadable(char, why="it repeats the hanzi before it, and there is none")
        said += said[-1] if char == "々" else char
    return said


def _date(match: re.Match[str]) -> str:
    return f"{digits(match[1])}年{cardinal(match[2])}月{cardinal(match[3])}日"


def _year(match: re.Match[str]) -> str:
    return digits(match[1]) + "年"


def _clock(match: re.Match[str]) -> str:
    hour = cardinal(match["hour"])
    said = f"{'两' if hour == '二' else hour}点"
    minute, second = match["minute"], match["second"]
    if int(minute):
        said += ("零" if minute[0] == "0" else "") + f"{cardinal(minute)}分"
    elif second:
        said += "零分"
    return said + (f"{cardinal(second)}秒" if second else "")


def _money(match: re.Match[str]) -> str:
    return amount(match["number"]) + (match["scale"] or "") + _CURRENCIES[match["symbol"]]


def _temperature(match: re.Match[str]) -> str:
    below = "零下" if match["sign"] else ""
    unit = {"C": "摄氏度", "F": "华氏度"}.get(match["unit"].lstrip("°"), "度")
    return below + number(match["number"]) + unit


def _percent(match: re.Match[str]) -> str:
    kind = "百" if match["kind"] == "%" else "千"
    sign = "负" if match["sign"] else ""
    return f"{sign}{kind}分之{number(match['number'])}"


def _fraction(match: re.Match[str]) -> str:
    sign = "负" if match["sign"] else ""
    return f"{sign}{cardinal(match['bottom'])}分之{cardinal(match['top'])}"


def _sum(match: re.Match[str]) -> str:
    parts = re.findall(rf"{_NUMBER}|[+\-*×/÷=]", match[0])
    return "".join(_OPERATORS.get(part) or number(part) for part in parts)


def _plain(match: re.Match[str]) -> str:
    """A number without company: years and very long ones digit by digit, all others as an amount of nothing."""
    text = match[0]
    if re.fullmatch(r"(?:19|20)\d\d", text) or (text.isdigit() and len(text) > 12):
        return digits(text)
    return amount(text) if len(text) > 3 else number(text)


def _spelled_chain(match: re.Match[str]) -> str:
    return ",".join(map(telephone, match[0].split("-")))


def _called(match: re.Match[str]) -> str:
    return match["name"] + telephone(match["digits"])


def _rewrite(pattern: str, rewrite: Callable[[re.Match[str]], str]) -> Rewrite:
    return re.compile(pattern, re.ASCII), rewrite


_CLOCK: Final = r"(?P<hour>[01]?\d|2[0-4]):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d))?(?![\d:])"

_REWRITES: Final[tuple[Rewrite, ...]] = (
    _rewrite(r"(?<!\d)(\d{4})[-/.](0?[1-9]|1[0-2])[-/.]([12]\d|3[01]|0?[1-9])(?:日|号)?(?![\d.])", _date),
    _rewrite(r"(?<!\d)(\d{4})\s?[-~—–]\s?(?=\d{4}(?:年|学年|赛季))", lambda m: f"{digits(m[1])}到"),
    _rewrite(r"(?<!\d)([12]\d{3})年", _year),
    _rewrite(
        r"(?<!\d)(\d\d)年(?=\d{1,2}月|代|级|届|款)", lambda m: (cardinal if m[1][1] == "0" else digits)(m[1]) + "年"
    ),
    _rewrite(r"(?<!\d)(?:\d0|95|85)(?=后(?!来))", lambda m: digits(m[0])),
    _rewrite(r"(?<=比分)(\d+)[:-](\d+)", lambda m: f"{number(m[1])}比{number(m[2])}"),
    _rewrite(r"(?<=\d)\s?[-~—–]\s?(?=(?:[01]?\d|2[0-4]):[0-5]\d)", lambda _: "到"),
    _rewrite(rf"(?<![\d:.]){_CLOCK}", _clock),
    _rewrite(r"(?<![\d.])(\d+):(\d+)(?![\d:])", lambda m: f"{number(m[1])}比{number(m[2])}"),
    _rewrite(
        r"(?<!\d)(?:\+?86[- ]?)?(1[3-9]\d)[- ]?(\d{4})[- ]?(\d{4})(?!\d)", lambda m: telephone(m[1] + m[2] + m[3])
    ),
    _rewrite(r"(?<![\d-])0\d{2,3}-\d{7,8}(?![\d-])", _spelled_chain),
    _rewrite(r"(?<![\d-])\d+(?:-\d+){2,}(?![\d-])", _spelled_chain),
    _rewrite(rf"(?P<name>(?:{_CALLED})(?:号|是|为|：|:| ){{0,2}})(?P<digits>\d{{2,}})(?![\d.])", _called),
    _rewrite(
        r"(?<!\d)(?P<name>)(?P<digits>110|119|120|122|12306|12315|12345|10086|10010)(?=报警|火警|急救|热线|电话)",
        _called,
    ),
    _rewrite(rf"(?P<symbol>[{''.join(_CURRENCIES)}])\s?(?P<number>{_NUMBER})(?P<scale>[十百千万亿]*)", _money),
    _rewrite(rf"(?P<sign>(?<![\w)])-)?(?<!\d)(?P<number>{_NUMBER})\s?(?P<unit>°[CF]|°)", _temperature),
    _rewrite(rf"(?<=[%‰])\s?[-~—–]\s?(?={_NUMBER}[%‰])", lambda _: "到"),
    _rewrite(rf"(?P<sign>(?<![\w)])-)?(?<!\d)(?P<number>{_NUMBER})\s?(?P<kind>[%‰])", _percent),
    _rewrite(rf"(?<![\d.]){_NUMBER}(?:\s?[+\-*×/÷]\s?{_NUMBER})+\s?=\s?-?{_NUMBER}", _sum),
    _rewrite(r"(?P<sign>(?<![\w)])-)?(?<![\d./])(?P<top>\d+)/(?P<bottom>[1-9]\d*)(?![\d./])", _fraction),
    _rewrite(rf"(?<![\d.-])({_NUMBER})\s?[-~—–]\s?(?={_NUMBER}(?![\d-]))", lambda m: f"{m[1]}到"),
    _rewrite(
        rf"(?<!\d)(?P<number>{_NUMBER})\s?(?P<unit>{_UNIT})(?![A-Za-z])",
        lambda m: amount(m["number"]) + _UNITS[m["unit"]],
    ),
    _rewrite(r"(?<!\d)\d+(?:\.\d+){2,}", lambda m: "点".join(map(number, m[0].split(".")))),
    _rewrite(r"(?<![\w)])-(?=\d)", lambda _: "负"),
    _rewrite(r"(?<=第)\d+", lambda m: cardinal(m[0])),
    _rewrite(rf"(?<![\d.])({_NUMBER})(?=多?(?:{_MEASURES}))", lambda m: amount(m[1])),
    _rewrite(_NUMBER, _plain),
)
