"""Cantonese: jyutping to initials and finals."""

from __future__ import annotations

import pytest
from tests.unit.engine_gpt_sovits_text.reading import phones

from segue_engines.gpt_sovits.text.cantonese import read_cantonese, syllable_to_phones


@pytest.mark.parametrize(
    ("jyutping", "expected"),
    [
        ("nei5", "Yn Yei5"),
        ("gwong2", "Ygw Yong2"),
        ("kwan4", "Ykw Yan4"),
        ("ngo5", "Yng Yo5"),
        ("jyut6", "Yj Yyut6"),
        ("hoeng1", "Yh Yoeng1"),
        ("ng5", "Yng Yg5"),
        ("m4", "Ym Ym4"),
        ("aa3", "Yaa Ya3"),
        ("aau2", "Yaa Yu2"),
        ("oi3", "Yoi Yi3"),
        ("uk1", "Yuk Yk1"),
        ("am3", "Ya Ym3"),
    ],
)
def test_syllables_are_cut_after_their_consonant_and_double_without_one(jyutping: str, expected: str) -> None:
    assert syllable_to_phones(jyutping[:-1], tone=jyutping[-1]) == tuple(expected.split())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("佢個鋤頭太短啦。", "Yk Yeoi5 Yg Yo3 Yc Yo4 Yt Yau2 Yt Yaai3 Yd Yyun2 Yl Yaa1"),
        ("香港人", "Yh Yoeng1 Yg Yong2 Yj Yan4"),
        ("我有3個", "Yng Yo5 Yj Yau5 Ys Yaam1 Yg Yo3"),
    ],
)
def test_sentences(text: str, expected: str) -> None:
    assert phones(text, "yue") == expected


def test_characters_have_counts_and_stay_traditional() -> None:
    reading = read_cantonese("你好，香港。")
    assert reading.normalised == "你好,香港."
    assert reading.word2ph == (2, 2, 1, 2, 2, 1)
