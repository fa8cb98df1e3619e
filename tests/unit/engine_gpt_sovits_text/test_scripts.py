"""What is washed away, what is made plain, and which letters nobody here can read."""

from __future__ import annotations

import pytest

from segue_engines.gpt_sovits.text.scripts import Script, first_foreign, script_of, washed


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("ＡＢＣ１２３", "ABC123"),
        ("５％", "5%"),
        ("ｶﾞｷﾞ", "ガギ"),
        ("㎏ ℃ №", "kg °C No"),
        ("①②", "12"),
        ("½", "1/2"),
        ("Ⅳ", "IV"),
        ("ﬁne", "fine"),
        ("٣٤", "34"),
        ("𝐀𝐛", "Ab"),
        ("m²", "m²"),
        ("か\u3099", "が"),
        ("cafe\u0301", "café"),
        ("10～20", "10~20"),
        ("ㅋㅋㅋ", "ㅋㅋㅋ"),
    ],
)
def test_what_is_written_in_two_ways_is_made_one(written: str, plain: str) -> None:
    assert washed(written) == plain


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("good😀day", "good day"),
        ("👨‍👩‍👧 family", " family"),
        ("1️⃣", "1"),
        ("❤️", " "),
        ("🇯🇵", " "),
        ("👍🏽ok", " ok"),
        ("co\u00adop\u200b\ufefferate", "cooperate"),
        ("a\x00b\x1bc", "abc"),
        ("a\ud800b", "ab"),
        ("好\u0301", "好"),
        ("a\u3000b\u00a0\tc", "a b c"),
        ("a\r\nb\u2028c", "a\n\nb\nc"),
    ],
)
def test_pictures_and_invisible_characters_are_dropped(written: str, kept: str) -> None:
    assert washed(written) == kept


def test_marks_of_each_language_stay() -> None:
    marks = "，。？！、；：…—「」『』《》“”,.?!~:-'"
    assert washed(marks) == marks


@pytest.mark.parametrize(
    ("char", "script"),
    [
        ("é", Script.LATIN),
        ("中", Script.HAN),
        ("々", Script.HAN),
        ("𠮷", Script.HAN),
        ("の", Script.KANA),
        ("ー", Script.KANA),
        ("한", Script.HANGUL),
        ("ㅋ", Script.HANGUL),
        ("7", Script.DIGIT),
        ("α", Script.GREEK),
        ("Ω", Script.GREEK),
        ("Ａ", Script.LATIN),
        ("𝐀", Script.LATIN),
        ("Å", Script.LATIN),
        ("K", Script.LATIN),
        ("ｶ", Script.KANA),
        ("ﾟ", Script.KANA),
        ("я", Script.FOREIGN),
        ("ب", Script.FOREIGN),
        ("ㄅ", Script.FOREIGN),
        ("。", Script.OTHER),
    ],
)
def test_scripts_are_told_apart(char: str, script: Script) -> None:
    assert script_of(char) is script


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("你好 мир!", "мир"),
        ("say привет, мир now", "привет, мир"),
        ("สวัสดี ok", "สวัสดี"),
        ("नमस्ते", "नमस्ते"),
        ("שלום", "שלום"),
        ("hello", None),
        ("naïve Ωmega", None),
        ("ＡＢＣ１２３ ｶﾞｷﾞ ㎏ ℃", None),
    ],
)
def test_the_first_foreign_stretch_is_found(text: str, found: str | None) -> None:
    span = first_foreign(text)
    assert (text[slice(*span)] if span else None) == found
