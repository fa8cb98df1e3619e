"""Which language each part of a sentence is taken to be."""

from __future__ import annotations

import pytest

from segue_engines.gpt_sovits.text.languages import Language, language_named
from segue_engines.gpt_sovits.text.pieces import Unreadable
from segue_engines.gpt_sovits.text.runs import runs_of


def runs(text: str, language: Language = Language.AUTO) -> list[tuple[str, str]]:
    return [(stretch.tongue.value, stretch.text) for stretch in runs_of(text, language=language)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("我用iPhone打电话。", [("zh", "我用"), ("en", "iPhone"), ("zh", "打电话。")]),
        ("今日はNew Yorkに行く。", [("ja", "今日は"), ("en", "New York"), ("ja", "に行く。")]),
        ("오늘은 meeting이 있다.", [("ko", "오늘은 "), ("en", "meeting"), ("ko", "이 있다.")]),
        ("你也喜欢まいご吗？", [("zh", "你也喜欢"), ("ja", "まいご"), ("zh", "吗？")]),
        ("我想看アニメ。", [("zh", "我想看"), ("ja", "アニメ。")]),
        ("君の瞳が輝く。", [("ja", "君の瞳が輝く。")]),
        ("日本語を勉強する。", [("ja", "日本語を勉強する。")]),
        ("我们喜欢「君の名は」。", [("zh", "我们喜欢「"), ("ja", "君の名は」。")]),
        ("駅前。", [("ja", "駅前。")]),
        ("大学。", [("zh", "大学。")]),
        ("안녕 世界", [("ko", "안녕 "), ("zh", "世界")]),
        ("Hello。안녕。", [("en", "Hello。"), ("ko", "안녕。")]),
        ("我慢する。", [("ja", "我慢する。")]),
        ("我々はアニメが好き。", [("ja", "我々はアニメが好き。")]),
    ],
)
def test_languages_are_found_by_script_and_by_what_stands_beside_hanzi(
    text: str, expected: list[tuple[str, str]]
) -> None:
    assert runs(text) == expected


def test_kana_in_one_sentence_do_not_make_the_next_one_japanese() -> None:
    assert runs("これは本です。大学很好。") == [("ja", "これは本です。"), ("zh", "大学很好。")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("我有3个apple", [("zh", "我有3个"), ("en", "apple")]),
        ("iPhone 15手机", [("en", "iPhone "), ("zh", "15手机")]),
        ("GPT4是模型", [("en", "GPT4"), ("zh", "是模型")]),
        ("3 apples和梨", [("en", "3 apples"), ("zh", "和梨")]),
        ("走了5km才到", [("zh", "走了5km才到")]),
        ("I ran 5km today", [("en", "I ran 5km today")]),
        ("123", [("zh", "123")]),
    ],
)
def test_digits_go_with_their_neighbours(text: str, expected: list[tuple[str, str]]) -> None:
    assert runs(text) == expected


def test_all_zh_owns_digits_between_english_words() -> None:
    assert runs("iPhone 15 Pro", Language.ALL_ZH) == [("en", "iPhone "), ("zh", "15 "), ("en", "Pro")]
    assert runs("iPhone 15 Pro", Language.ZH) == [("en", "iPhone 15 Pro")]


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        (Language.ZH, [("zh", "大学"), ("en", "campus"), ("zh", "很大")]),
        (Language.YUE, [("yue", "大学"), ("en", "campus"), ("yue", "很大")]),
        (Language.JA, [("ja", "大学"), ("en", "campus"), ("ja", "很大")]),
        (Language.ALL_YUE, [("yue", "大学"), ("en", "campus"), ("yue", "很大")]),
        (Language.AUTO_YUE, [("yue", "大学"), ("en", "campus"), ("yue", "很大")]),
    ],
)
def test_a_named_language_takes_all_that_is_not_english(language: Language, expected: list[tuple[str, str]]) -> None:
    assert runs("大学campus很大", language) == expected


@pytest.mark.parametrize(
    ("text", "language", "what"),
    [
        ("我喜欢まいご。", Language.ZH, "まいご"),
        ("東京에 가다", Language.KO, "東京"),
        ("これは한국", Language.JA, "한국"),
        ("Hello 世界", Language.EN, "世界"),
        ("안녕", Language.YUE, "안녕"),
    ],
)
def test_letters_that_a_named_language_does_not_write_are_refused(text: str, language: Language, what: str) -> None:
    with pytest.raises(Unreadable, match="ask for the language 'auto'") as refused:
        runs_of(text, language=language)
    assert refused.value.what == what


@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("zh", Language.ZH),
        ("zh-CN", Language.ZH),
        ("zh_TW", Language.ZH),
        ("ZH", Language.ZH),
        ("cmn-Hans", Language.ZH),
        ("en-US", Language.EN),
        ("ja-JP", Language.JA),
        ("ko-KR", Language.KO),
        ("yue-Hant-HK", Language.YUE),
        ("all_zh", Language.ALL_ZH),
        ("auto_yue", Language.AUTO_YUE),
        ("fr", None),
        ("", None),
    ],
)
def test_languages_go_by_upstreams_names_and_by_bcp_47(name: str, language: Language | None) -> None:
    assert language_named(name) is language
