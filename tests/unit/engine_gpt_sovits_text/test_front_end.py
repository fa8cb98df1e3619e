"""Texts of all languages through the one door: pieces, refusals, bounds, and what is loaded when."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType

import pytest
from tests.unit.engine_gpt_sovits_text.reading import FRONT_END, languages, phones, pieces

from segue.errors import SynthesisError, TextRejected
from segue_engines.gpt_sovits.text import Cut, TextFrontEnd, Tongue
from segue_engines.gpt_sovits.text.frontend import MAX_CHARACTERS, MAX_PIECE, MIN_PHONES
from segue_engines.gpt_sovits.text.installed import LIBRARIES, library, missing_libraries


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("我喜欢music。", "auto", "w o2 x i3 h uan5 M Y UW1 Z IH0 K"),
        ("今日はmeetingです。", "ja", "ky o ] o w a M IY1 T IH0 NG d e ] s u"),
        ("오늘은 meeting 있다.", "ko", "ㅇ ㅗ ㄴ ㅡ ㄹ ㅡ ㄴ 空 M IY1 T IH0 NG ㅇ ㅣ ㄷ ㄸ ㅏ"),
        ("你也喜欢まいご吗？", "auto", "n i3 y E2 x i3 h uan5 m a ] i g o m a5 ?"),
        ("佢食burger。", "yue", "Yk Yeoi5 Ys Yik6 B ER1 G ER0"),
        ("佢食飯未呀", "auto_yue", "Yk Yeoi5 Ys Yik6 Yf Yaan6 Ym Yei6 Yaa Ya3"),
    ],
)
def test_sentences_of_several_languages(text: str, language: str, expected: str) -> None:
    assert phones(text, language) == expected


def test_word_counts_are_there_for_chinese_and_cantonese_only() -> None:
    mixed = pieces("我喜欢music和アニメ", "auto")
    counted = {run.tongue: run.reading.word2ph is not None for piece in mixed for run in piece.runs}
    assert counted == {Tongue.ZH: True, Tongue.EN: False, Tongue.JA: False}
    assert pieces("佢食飯未呀", "yue")[0].runs[0].reading.word2ph == (2, 2, 2, 2, 2, 1)


def test_a_piece_with_few_phones_gets_a_full_stop_in_front_and_is_read_again() -> None:
    (piece,) = pieces("嗯。", "zh")
    assert piece.symbols == (".", "EE", "en1", ".")
    assert piece.normalised == ".恩."
    assert pieces("a", "en")[0].symbols == (",", ".", "AH0", ".")
    assert pieces("今天很好。", "zh")[0].symbols[0] != "."


def test_a_prompt_gets_a_final_mark_and_nothing_else() -> None:
    prompt = FRONT_END.read_prompt("好，真的吗？！太好了，走", language="zh")
    assert prompt.text == "好，真的吗？！太好了，走。"
    assert prompt.normalised == "好,真的吗?太好了,走."
    assert FRONT_END.read_prompt("That is it", language="en").text == "That is it."


def test_a_language_may_be_named_as_http_clients_do() -> None:
    assert pieces("你好世界。", "zh-CN") == pieces("你好世界。", "zh")


def test_the_cut_method_decides_the_pieces() -> None:
    text = "今天天气很好，我们去公园。明天也去。"
    assert len(FRONT_END.read_target(text, language="zh", cut=Cut.NONE)) == 1
    assert len(FRONT_END.read_target(text, language="zh", cut=Cut.MARKS)) == 3


@pytest.mark.parametrize(
    ("text", "language", "span"),
    [
        ("你好 привет", "auto", "привет"),
        ("Hello สวัสดี", "en", "สวัสดี"),
        ("我喜欢まいご。", "zh", "まいご"),
        ("これは한국です", "ja", "한국"),
        ("這是㐂字", "auto", "㐂"),
        ("Say 世界 now", "en", "世界"),
        ("好 ㄅㄆㄇ", "zh", "ㄅㄆㄇ"),
        ("I 😀 мир", "en", "мир"),
        ("好，々", "zh", "々"),
        ("ϡ", "auto", "ϡ"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place_in_the_input(text: str, language: str, span: str) -> None:
    with pytest.raises(TextRejected, match="cannot read") as refused:
        FRONT_END.read_target(text, language=language)
    assert text[slice(*refused.value.span)] == span
    assert repr(span) in str(refused.value)


@pytest.mark.parametrize("text", ["", "   ", "。。！？", "…", "😀😀", "\n\n", "「」", "\u200b"])
@pytest.mark.parametrize("language", ["auto", "zh", "en", "ja", "ko", "yue"])
def test_nothing_to_say_is_refused(text: str, language: str) -> None:
    with pytest.raises(TextRejected, match="nothing to speak") as refused:
        FRONT_END.read_target(text, language=language)
    assert refused.value.span == (0, len(text))
    with pytest.raises(TextRejected, match="nothing to speak"):
        FRONT_END.read_prompt(text, language=language)


def test_long_vowel_signs_alone_are_nothing_to_say_either() -> None:
    with pytest.raises(TextRejected, match="nothing to speak"):
        FRONT_END.read_target("ーー", language="ja")


def test_an_unknown_language_is_refused_with_those_there_are() -> None:
    with pytest.raises(TextRejected, match=r"'fr'.*auto, auto_yue, en, zh, yue, ja, ko"):
        FRONT_END.read_target("Bonjour", language="fr")


def test_too_long_a_text_is_refused_from_where_it_is_too_long() -> None:
    with pytest.raises(TextRejected, match="at most 50000") as refused:
        FRONT_END.read_target("好" * (MAX_CHARACTERS + 1), language="zh")
    assert refused.value.span == (MAX_CHARACTERS, MAX_CHARACTERS + 1)


def test_too_long_a_prompt_is_refused() -> None:
    with pytest.raises(TextRejected, match="the text of a reference has 600 characters"):
        FRONT_END.read_prompt("好" * 600, language="zh")


def test_no_chinese_run_is_longer_than_the_text_model_takes() -> None:
    numbers = FRONT_END.read_target("1,234,567元" * 200, language="zh", cut=Cut.NONE)
    hanzi = FRONT_END.read_target("好" * 2000, language="zh", cut=Cut.NONE)
    for piece in (*numbers, *hanzi):
        assert all(len(run.reading.normalised) <= MAX_PIECE for run in piece.runs)
    assert sum(len(piece.normalised.strip(".")) for piece in hanzi) == 2000


def test_wide_and_narrow_letters_are_read_as_plain_ones() -> None:
    assert phones("Ｈｅｌｌｏ ｗｏｒｌｄ", "en") == phones("Hello world", "en")
    assert phones("ｶﾞｯｺｳに行く", "ja") == phones("ガッコウに行く", "ja")


def test_emoji_are_not_spoken() -> None:
    assert phones("今天很好😀👍🏽", "zh") == phones("今天很好", "zh")


def test_a_text_is_read_alike_from_several_threads_while_languages_load() -> None:
    texts = [
        ("我喜欢music和アニメ，你呢？", "auto"),
        ("今日は天気です", "ja"),
        ("안녕 hello", "auto"),
        ("佢食飯", "yue"),
    ]
    alone = [pieces(text, language) for text, language in texts]
    fresh = TextFrontEnd()
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda pair: fresh.read_target(pair[0], language=pair[1]), texts * 25))
    assert together == alone * 25


def test_warming_up_loads_the_named_language_and_english() -> None:
    front_end = TextFrontEnd()
    for language in ("zh", "en", "ja", "ko", "yue", "all_zh", "auto"):
        front_end.warm_up(language)
    with pytest.raises(TextRejected):
        front_end.warm_up("fr")


def test_missing_libraries_are_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(missing_libraries(tongue) == () for tongue in Tongue)
    absent = MappingProxyType({**LIBRARIES, Tongue.JA: {"no_such_openjtalk": "pyopenjtalk-plus"}})
    monkeypatch.setattr("segue_engines.gpt_sovits.text.installed.LIBRARIES", absent)
    assert missing_libraries(Tongue.JA) == ("pyopenjtalk-plus",)
    with pytest.raises(SynthesisError, match=r"'ja' text: pyopenjtalk-plus .* pip install 'segue\[gpt-sovits\]'"):
        library("no_such_openjtalk", tongue=Tongue.JA)


@pytest.mark.parametrize(
    ("language", "text", "loaded"),
    [
        ("en", "Hello there, 3 apples.", []),
        ("ko", "안녕하세요 여러분", []),
        ("zh", "你好世界和平", ["opencc", "pypinyin", "rjieba"]),
        ("ja", "こんにちは、皆さん", ["pyopenjtalk", "sudachipy"]),
        ("yue", "佢食飯未呀", ["ToJyutping"]),
    ],
)
def test_only_the_libraries_of_the_language_are_loaded(language: str, text: str, loaded: list[str]) -> None:
    program = (
        "import sys\n"
        "from segue_engines.gpt_sovits.text import TextFrontEnd\n"
        "libraries = {'opencc', 'pypinyin', 'rjieba', 'pyopenjtalk', 'ToJyutping', 'sudachipy', 'torch'}\n"
        "assert not libraries & set(sys.modules)\n"
        f"TextFrontEnd().read_target({text!r}, language={language!r})\n"
        "print(*sorted(libraries & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == loaded


def test_the_languages_of_the_runs_are_told() -> None:
    assert languages("我用iPhone打电话。") == [("zh", "我用"), ("en", "iPhone"), ("zh", "打电话。")]
    assert MIN_PHONES == 6
