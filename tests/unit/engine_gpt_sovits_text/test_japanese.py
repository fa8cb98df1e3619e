"""Japanese: phones, pitch and marks."""

from __future__ import annotations

import pytest
from tests.unit.engine_gpt_sovits_text.reading import phones


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("こんにちは", "k o [ N n i ch i w a"),  # flat: low, then high to the end
        ("雨が降る", "a ] m e g a UNK f u ] r u"),  # high on the first mora
        ("食べる", "t a [ b e ] r u"),  # falls after the second
        ("がっこう", "g a [ cl k o o"),
        ("客が来る", "ky a [ k u g a UNK k u ] r u"),
        ("心が", "k o [ k o r o ] g a"),
        ("箸を", "h a ] sh i o"),
        ("桜が", "s a [ k u r a g a"),
        ("コーヒー", "k o [ o h i ] i"),
    ],
)
def test_pitch_marks_stand_where_the_pitch_changes(text: str, expected: str) -> None:
    assert phones(text, "ja") == expected


def test_devoiced_vowels_are_plain_ones() -> None:
    said = phones("好きな靴下です", "ja").split()
    assert said[-1] == "u"
    assert not {"A", "I", "U", "E", "O"} & set(said)


def test_marks_are_phones_and_question_marks_too() -> None:
    assert phones("はい、元気ですか？", "ja") == "h a ] i , g e ] N k i d e s u k a ?"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("三本", "s a ] N b o N"),
        ("3本", "s a ] N b o N"),
        ("〇が良い", phones("まるが良い", "ja")),
        ("β波", phones("ベータ波", "ja")),
        ("50%です", phones("五十パーセントです", "ja")),
        ("1,000円", phones("1000円", "ja")),
    ],
)
def test_numbers_and_letters_of_formulas_are_read(text: str, expected: str) -> None:
    assert phones(text, "ja") == expected


def test_a_text_of_long_vowel_signs_alone_is_silent_and_not_an_error() -> None:
    assert phones("ーーーあいうえお", "ja") == phones("あいうえお", "ja")


def test_a_long_stretch_without_marks_is_read_whole() -> None:
    assert len(phones("あ" * 450, "ja").replace("]", "").replace("[", "").split()) >= 450
