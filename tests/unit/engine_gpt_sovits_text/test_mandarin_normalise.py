"""What is said in Chinese for what is written."""

from __future__ import annotations

import pytest

from segue_engines.gpt_sovits.text.mandarin.normalise import normalised_chinese
from segue_engines.gpt_sovits.text.mandarin.numbers import amount, cardinal, digits, number, telephone


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("0", "零"),
        ("10", "十"),
        ("11", "十一"),
        ("20", "二十"),
        ("100", "一百"),
        ("101", "一百零一"),
        ("110", "一百一十"),
        ("1000", "一千"),
        ("1001", "一千零一"),
        ("1010", "一千零一十"),
        ("10000", "一万"),
        ("10010", "一万零一十"),
        ("10500", "一万零五百"),
        ("100000", "十万"),
        ("1001001", "一百万一千零一"),
        ("100010000", "一亿零一万"),
        ("123456789", "一亿二千三百四十五万六千七百八十九"),
        ("1000000000000", "一万亿"),
        ("0012", "十二"),
        ("12345678901234567", "一二三四五六七八九零一二三四五六七"),
    ],
)
def test_whole_numbers(written: str, said: str) -> None:
    assert cardinal(written) == said


def test_other_ways_to_say_a_number() -> None:
    assert digits("2024") == "二零二四"
    assert telephone("110") == "幺幺零"
    assert number("3.14") == "三点一四"
    assert number("1,234.5") == "一千二百三十四点五"
    assert number("007") == "零零七"
    assert amount("2") == "两"
    assert amount("2000") == "两千"
    assert amount("12") == "十二"
    assert amount("2.5") == "两点五"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("2024年3月5日", "二零二四年三月五日"),
        ("2024-03-05", "二零二四年三月五日"),
        ("2024/3/5", "二零二四年三月五日"),
        ("3月15日", "三月十五日"),
        ("1990年代", "一九九零年代"),
        ("98年5月", "九八年五月"),
        ("20年", "二十年"),
        ("2年", "两年"),
        ("2月2号", "二月二号"),
        ("2008-2012年", "二零零八到二零一二年"),
        ("90后", "九零后"),
        ("12:30", "十二点三十分"),
        ("9:05", "九点零五分"),
        ("2:00", "两点"),
        ("12:30:45", "十二点三十分四十五秒"),
        ("8:00-10:30", "八点到十点三十分"),
        ("下午3点", "下午三点"),
    ],
)
def test_dates_and_times(written: str, said: str) -> None:
    assert normalised_chinese(written) == said


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("50%", "百分之五十"),
        ("0.5%", "百分之零点五"),
        ("-10%", "负百分之十"),
        ("10%-20%", "百分之十到百分之二十"),
        ("3‰", "千分之三"),
        ("3/4", "四分之三"),
        ("1/2杯", "二分之一杯"),
        ("3:2", "三比二"),
        ("比分21-19", "比分二十一比十九"),
        ("10~20", "十到二十"),
        ("-5", "负五"),
        ("3+5=8", "三加五等于八"),
        ("5-3=2", "五减三等于二"),
        ("2.0.1", "二点零点一"),
        ("1,234,567", "一百二十三万四千五百六十七"),
        ("第3名", "第三名"),
    ],
)
def test_shares_ratios_and_sums(written: str, said: str) -> None:
    assert normalised_chinese(written) == said


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("¥35.5", "三十五点五元"),
        ("$100", "一百美元"),
        ("$3.5亿", "三点五亿美元"),
        ("€2", "两欧元"),
        ("100,000元", "十万元"),
        ("5kg", "五千克"),
        ("2米", "两米"),
        ("100m²", "一百平方米"),
        ("80km/h", "八十公里每小时"),
        ("25°C", "二十五摄氏度"),
        ("-3°C", "零下三摄氏度"),
        ("36.5度", "三十六点五度"),
        ("2个人", "两个人"),
        ("12个", "十二个"),
        ("2万", "两万"),
        ("2楼", "二楼"),
    ],
)
def test_money_units_and_counted_things(written: str, said: str) -> None:
    assert normalised_chinese(written) == said


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("13812345678", "幺三八幺二三四五六七八"),
        ("+86 138-1234-5678", "幺三八幺二三四五六七八"),
        ("010-12345678", "零幺零,幺二三四五六七八"),
        ("400-800-1234", "四零零,八零零,幺二三四"),
        ("拨打110", "拨打幺幺零"),
        ("119火警", "幺幺九火警"),
        ("密码：8888", "密码,八八八八"),
        ("房间1203", "房间幺二零三"),
        ("007", "零零七"),
        ("2024奥运会", "二零二四奥运会"),
    ],
)
def test_numbers_that_name_something(written: str, said: str) -> None:
    assert normalised_chinese(written) == said


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("你好，世界。", "你好,世界."),
        ("真的吗？！", "真的吗?"),
        ("等等……好", "等等…好"),
        ("甲、乙；丙：丁", "甲,乙,丙,丁"),
        ("啊——好~", "啊-好…"),
        ("「引号」《书名》（括号）", "引号书名括号"),
        ("第一行\n第二行", "第一行.第二行"),
        ("男/女", "男,女"),
        ("NBA很好", "很好"),
        ("人々", "人人"),
        ("α粒子", "阿尔法粒子"),
        ("A&B", "和"),
        ("", ""),
    ],
)
def test_marks_become_ascii_and_everything_else_vanishes(written: str, said: str) -> None:
    assert normalised_chinese(written) == said
