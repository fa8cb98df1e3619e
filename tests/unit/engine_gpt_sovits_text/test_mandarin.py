"""Mandarin: syllables, readings and tones."""

from __future__ import annotations

from collections.abc import Sequence

import pypinyin.constants
import pytest
from pypinyin.contrib.tone_convert import to_tone3

from segue.errors import SynthesisError
from segue_engines.gpt_sovits.text import SYMBOL_IDS, TextFrontEnd, Word
from segue_engines.gpt_sovits.text.mandarin.reading import MandarinReader
from segue_engines.gpt_sovits.text.mandarin.syllables import syllable_to_phones
from segue_engines.gpt_sovits.text.pieces import Reading, Unreadable

_READER = MandarinReader()


def read(text: str) -> str:
    return " ".join(_READER.read(text).symbols)


@pytest.mark.parametrize(
    ("pinyin", "phones"),
    [
        ("ba1", "b a1"),
        ("zhuang4", "zh uang4"),
        ("a1", "AA a1"),
        ("ang2", "AA ang2"),
        ("e4", "EE e4"),
        ("er2", "EE er2"),
        ("o1", "OO o1"),
        ("ou3", "OO ou3"),
        ("yi1", "y i1"),
        ("ya1", "y a1"),
        ("ye4", "y E4"),
        ("yan2", "y En2"),
        ("you3", "y ou3"),
        ("yong4", "y ong4"),
        ("yu2", "y v2"),
        ("yue4", "y ve4"),
        ("yuan2", "y van2"),
        ("yun2", "y vn2"),
        ("wu3", "w u3"),
        ("weng1", "w eng1"),
        ("zhi1", "zh ir1"),
        ("chi1", "ch ir1"),
        ("shi4", "sh ir4"),
        ("ri4", "r ir4"),
        ("zi3", "z i03"),
        ("ci2", "c i02"),
        ("si4", "s i04"),
        ("ji1", "j i1"),
        ("ju1", "j v1"),
        ("juan3", "j van3"),
        ("que4", "q ve4"),
        ("xun2", "x vn2"),
        ("nv3", "n v3"),
        ("lve4", "l ve4"),
        ("lu4", "l u4"),
        ("liu2", "l iu2"),
        ("gui4", "g ui4"),
        ("dun1", "d un1"),
        ("xiong2", "x iong2"),
        ("ê4", "EE ei4"),
        ("ng4", "EE en4"),
    ],
)
def test_pinyin_becomes_initial_and_final(pinyin: str, phones: str) -> None:
    assert syllable_to_phones(pinyin) == tuple(phones.split())


@pytest.mark.parametrize("pinyin", ["", "1", "a", "a6", "zh1", "你", "ba"])
def test_what_is_no_syllable_is_told(pinyin: str) -> None:
    assert syllable_to_phones(pinyin) is None


def test_every_syllable_of_pypinyin_has_phones_that_the_networks_know() -> None:
    syllables = {
        to_tone3(reading, v_to_u=False, neutral_tone_with_five=True)
        for readings in pypinyin.constants.PINYIN_DICT.values()
        for reading in readings.split(",")
    }
    assert len(syllables) > 1500
    for syllable in syllables:
        phones = syllable_to_phones(syllable)
        assert phones is not None, syllable
        assert set(phones) <= SYMBOL_IDS.keys(), syllable


def test_two_phones_a_hanzi_and_one_a_mark() -> None:
    reading = _READER.read("你好，世界。")
    assert reading.normalised == "你好,世界."
    assert reading.word2ph == (2, 2, 1, 2, 2, 1)
    assert " ".join(reading.symbols) == "n i2 h ao3 , sh ir4 j ie4 ."


@pytest.mark.parametrize(
    ("text", "phones"),
    [
        ("不是", "b u2 sh ir4"),
        ("不好", "b u4 h ao3"),
        ("不", "b u4"),
        ("看不懂", "k an4 b u5 d ong3"),
        ("好不好", "h ao3 b u5 h ao3"),
        ("说一不二", "sh uo1 y i2 b u2 EE er4"),
    ],
)
def test_bu_rises_before_a_fourth_tone_and_is_light_inside(text: str, phones: str) -> None:
    assert read(text) == phones


@pytest.mark.parametrize(
    ("text", "phones"),
    [
        ("一个", "y i2 g e5"),
        ("一样", "y i2 y ang4"),
        ("一天", "y i4 t ian1"),
        ("一年", "y i4 n ian2"),
        ("一起", "y i4 q i3"),
        ("第一", "d i4 y i1"),
        ("统一", "t ong3 y i1"),
        ("看一看", "k an4 y i5 k an4"),
        ("二零一一年", "EE er4 l ing2 y i1 y i1 n ian2"),
        ("一月一号", "y i1 y ve4 y i1 h ao4"),
        ("一百一十一", "y i4 b ai3 y i1 sh ir2 y i1"),
        ("五点一刻", "w u2 d ian3 y i2 k e4"),
        ("一两天", "y i4 l iang3 t ian1"),
        ("一点五", "y i1 d ian2 w u3"),
    ],
)
def test_yi_changes_with_what_follows_but_not_in_numbers(text: str, phones: str) -> None:
    assert read(text) == phones


@pytest.mark.parametrize(
    ("text", "phones"),
    [
        ("你好", "n i2 h ao3"),
        ("我很好", "w o3 h en2 h ao3"),
        ("我想买", "w o3 x iang2 m ai3"),
        ("展览馆", "zh an2 l an2 g uan3"),
        ("纸老虎", "zh ir3 l ao2 h u3"),
        ("好人", "h ao3 r en2"),
    ],
)
def test_a_third_tone_rises_before_another(text: str, phones: str) -> None:
    assert read(text) == phones


@pytest.mark.parametrize(
    ("text", "phones"),
    [
        ("妈妈", "m a1 m a5"),
        ("看看", "k an4 k an5"),
        ("天天", "t ian1 t ian1"),
        ("想想", "x iang2 x iang5"),
        ("姐姐", "j ie3 j ie5"),
        ("小姐", "x iao2 j ie5"),
        ("我们", "w o3 m en5"),
        ("桌子", "zh uo1 z i05"),
        ("朋友", "p eng2 y ou5"),
        ("朋友们", "p eng2 y ou5 m en5"),
        ("喜欢", "x i3 h uan5"),
        ("桌上", "zh uo1 sh ang5"),
        ("进来", "j in4 l ai5"),
        ("这个", "zh e4 g e5"),
        ("好吧", "h ao3 b a5"),
        ("慢慢地走", "m an4 m an4 d e5 z ou3"),
        ("跑得快", "p ao3 d e5 k uai4"),
        ("玩得开心", "w an2 d e5 k ai1 x in1"),
        ("获得心得", "h uo4 d e2 x in1 d e2"),
        ("笑了起来", "x iao4 l e5 q i3 l ai5"),
        ("过去未来", "g uo4 q v4 w ei4 l ai2"),
        ("地上", "d i4 sh ang5"),
    ],
)
def test_light_syllables(text: str, phones: str) -> None:
    assert read(text) == phones


@pytest.mark.parametrize(
    ("text", "phones"),
    [
        ("花儿", "h ua1 EE er1"),
        ("一会儿", "y i2 h ui4 EE er4"),
        ("一点儿", "y i4 d ian3 EE er3"),
        ("女儿", "n v3 EE er2"),
        ("婴儿", "y ing1 EE er2"),
        ("儿子", "EE er2 z i05"),
    ],
)
def test_er_takes_the_tone_that_it_colours_unless_it_is_a_child(text: str, phones: str) -> None:
    assert read(text) == phones


@pytest.mark.parametrize(
    ("text", "phones"),
    [
        ("银行行长", "y in2 h ang2 h ang2 zh ang3"),
        ("重庆很重要", "ch ong2 q ing4 h en3 zh ong4 y ao4"),
        ("长大了长头发", "zh ang3 d a4 l e5 ch ang2 t ou2 f a5"),
        ("他还没还书", "t a1 h ai2 m ei2 h ai2 sh u1"),
        ("音乐快乐", "y in1 y ve4 k uai4 l e4"),
        ("着急睡着了", "zh ao2 j i2 sh ui4 zh ao2 l e5"),
        ("睡觉觉得", "sh ui4 j iao4 j ve2 d e5"),
        ("都是首都", "d ou1 sh ir4 sh ou3 d u1"),
        ("为人民服务", "w ei4 r en2 m in2 f u2 w u4"),
        ("要求重要", "y ao1 q iu2 zh ong4 y ao4"),
        ("效率率领", "x iao4 l v4 sh uai4 l ing3"),
    ],
)
def test_hanzi_with_several_readings_are_told_by_their_word(text: str, phones: str) -> None:
    assert read(text) == phones


def test_traditional_characters_are_read_as_simplified_ones() -> None:
    assert _READER.read("繁體中文銀行") == _READER.read("繁体中文银行")


def test_hummed_syllables_are_spelled_as_ones_that_the_networks_know() -> None:
    assert _READER.read("嗯呣").normalised == "恩母"


def test_a_hanzi_without_a_reading_is_named() -> None:
    with pytest.raises(Unreadable) as refused:
        _READER.read("这是㐂字")
    assert refused.value.what == "㐂"


class _Fixed:
    """Polyphones that know one hanzi."""

    def readings(self, words: Sequence[Word]) -> Sequence[Sequence[str | None]]:
        return [["zeng1" if char == "曾" else None for char in word.text] for word in words]


def test_polyphones_can_be_injected_and_pypinyin_fills_what_they_leave_open() -> None:
    assert read("姓曾") == "x ing4 c eng2"
    assert " ".join(MandarinReader(_Fixed()).read("姓曾").symbols) == "x ing4 z eng1"
    piece = TextFrontEnd(polyphones=_Fixed()).read_prompt("他姓曾吗", language="zh")
    assert "z eng1" in " ".join(piece.symbols)


def test_a_map_that_does_not_fit_its_text_cannot_be_made() -> None:
    with pytest.raises(SynthesisError, match="do not fit"):
        Reading(normalised="你好", symbols=("n", "i3"), word2ph=(2,))
