"""Where a long text is cut."""

from __future__ import annotations

import pytest

from segue_engines.gpt_sovits.text.cutting import Cut, closed, cut_target, halves


def cut(text: str, method: Cut = Cut.MARKS, full_stop: str = "。") -> list[str]:
    return cut_target(text, cut=method, full_stop=full_stop)


def test_every_mark_cuts() -> None:
    assert cut("今天天气很好，我们去公园！你去不去？") == ["今天天气很好，", "我们去公园！", "你去不去？"]


def test_runs_of_marks_become_their_first_one() -> None:
    assert cut("What?!... It is true!!", full_stop=".") == ["What?", "It is true!"]


def test_a_short_beginning_gets_a_full_stop_in_front_which_cut5_cuts_off_again() -> None:
    assert cut("嗯，今天天气很好。", Cut.NONE) == ["。嗯，今天天气很好。"]
    assert cut("Oh, what a nice day.", Cut.NONE, ".") == [".Oh, what a nice day."]
    assert cut("嗯，今天天气很好。") == ["嗯，今天天气很好。"]


def test_a_beginning_with_a_mark_or_four_letters_gets_none() -> None:
    assert cut("…今天", Cut.NONE) == ["…今天。"]
    assert cut("今天下雨，带伞", Cut.NONE) == ["今天下雨，带伞。"]


def test_pieces_under_five_characters_join_those_after_them_and_the_last_joins_the_one_before() -> None:
    assert cut("你好，我很好，谢谢你的关心，再见") == ["你好，我很好，", "谢谢你的关心，再见。"]


def test_pieces_without_a_word_are_dropped() -> None:
    assert cut("今天天气很好\n—————\n明天也很好") == ["今天天气很好。", "明天也很好。"]


def test_marks_inside_numbers_and_addresses_do_not_cut() -> None:
    assert cut("It costs 1,234.50 at example.com today", full_stop=".") == ["It costs 1,234.50 at example.com today."]


def test_nothing_to_say_gives_no_piece() -> None:
    assert cut("") == cut("\n \n") == cut("。！？") == []


def test_lines_cut_whatever_the_method() -> None:
    for method in Cut:
        assert cut("第一行有很多字\n第二行也有很多", method) == ["第一行有很多字。", "第二行也有很多。"]


@pytest.mark.parametrize(
    ("method", "pieces"),
    [
        (Cut.NONE, ["一共有五句，这是二。这是第三，四！这是五。"]),
        (Cut.SENTENCES, ["一共有五句，这是二。这是第三，四！这是五。"]),
        (Cut.CHINESE_STOP, ["一共有五句，这是二。", "这是第三，四！这是五。"]),
        (Cut.ENGLISH_STOP, ["一共有五句，这是二。这是第三，四！这是五。"]),
        (Cut.LENGTH, ["一共有五句，这是二。这是第三，四！这是五。"]),
        (Cut.MARKS, ["一共有五句，", "这是二。这是第三，", "四！这是五。"]),
    ],
)
def test_each_method_cuts_in_its_own_places(method: Cut, pieces: list[str]) -> None:
    assert cut("一共有五句，这是二。这是第三，四！这是五。", method) == pieces


def test_cut1_makes_groups_of_four_and_keeps_what_is_left_with_the_last() -> None:
    text = "".join(f"第{number}句话。" for number in "一二三四五六七八九")
    assert [piece.count("。") for piece in cut(text, Cut.SENTENCES)] == [4, 5]


def test_cut2_closes_a_piece_after_fifty_characters_and_joins_a_short_end() -> None:
    text = "这一句话一共有十五个字没有多。" * 9
    assert [len(piece) for piece in cut(text, Cut.LENGTH)] == [60, 75]


def test_cut4_cuts_at_full_stops_but_not_in_decimals() -> None:
    text = "Pi is 3.14 or so. That is enough."
    assert cut(text, Cut.ENGLISH_STOP, ".") == ["Pi is 3.14 or so.", "That is enough."]


def test_a_text_is_closed_once() -> None:
    assert closed("好", full_stop="。") == "好。"
    assert closed("好！", full_stop="。") == "好！"


def test_halves_cut_after_marks_then_after_spaces_then_anywhere() -> None:
    assert halves("aaaaaaa,bbbbb", limit=10) == ["aaaaaaa,", "bbbbb"]
    assert halves("aaaaaaa bbbbb", limit=10) == ["aaaaaaa ", "bbbbb"]
    assert halves("a" * 25, limit=10) == ["a" * 10, "a" * 10, "a" * 5]
    assert halves("aaaa1,234bbbb", limit=10) == ["aaaa1,234b", "bbb"]
