"""English: the dictionary, what it lacks, and what is written otherwise than it is said."""

from __future__ import annotations

import pytest

from segue_engines.gpt_sovits.text.english import normalised_english, read_english


def phones(text: str) -> str:
    return " ".join(read_english(text).symbols)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, world!", "HH AH0 L OW1 , W ER1 L D !"),
        ("The cat sat on the mat.", "DH AH0 K AE1 T S AE1 T AA1 N DH AH0 M AE1 T ."),
        ("to be and not", "T UW1 B IY1 AH0 N D N AA1 T"),
        ("a dog", "AH0 D AO1 G"),
        ("I think so", "AY1 TH IH1 NG K S OW1"),
    ],
)
def test_words_are_said_as_the_cmu_dictionary_has_them(text: str, expected: str) -> None:
    assert phones(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the FBI", "DH AH0 EH1 F B IY1 AY1"),
        ("NASA rocket", "N AE1 S AH0 R AA1 K AH0 T"),
        ("an XQZ code", "AE1 N EH1 K S K Y UW1 Z IY1 K OW1 D"),
        ("AI tools", "EY1 AY1 T UW1 L Z"),
        ("the URLs", "DH AH0 Y UW1 AA1 R EH1 L Z"),
        ("PCIe card", "P IY1 S IY1 AY1 IY1 K AA1 R D"),
        ("STOP THE CAR", "S T AA1 P DH AH0 K AA1 R"),
    ],
)
def test_acronyms_are_spelled_and_words_in_capitals_are_not(text: str, expected: str) -> None:
    assert phones(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the dog's bone", "DH AH0 D AO1 G Z B OW1 N"),
        ("moonbase crew", "M UW1 N B EY1 S K R UW1"),
        ("ask ChatGPT", "AE1 S K CH AE1 T JH IY1 P IY1 T IY1"),
        ("café noir", "K AH0 F EY1 N OY1 R"),
    ],
)
def test_words_that_the_dictionary_lacks(text: str, expected: str) -> None:
    assert phones(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I will read it", "AY1 W IH1 L R IY1 D IH1 T"),
        ("he had read it", "HH IY1 HH AE1 D R EH1 D IH1 T"),
        ("we live here", "W IY1 L IH1 V HH IY1 R"),
        ("a live show", "AH0 L AY1 V SH OW1"),
        ("the use of it", "DH AH0 Y UW1 S AH1 V IH1 T"),
        ("use it", "Y UW1 Z IH1 T"),
        ("to record a record", "T UW1 R AH0 K AO1 R D AH0 R EH1 K ER0 D"),
    ],
)
def test_heteronyms_are_told_by_the_word_before(text: str, expected: str) -> None:
    assert phones(text).startswith(expected)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("42 apples", "forty two apples"),
        ("the 21st", "the twenty first"),
        ("in 1987", "in nineteen eighty seven"),
        ("$3.50", "three dollars and fifty cents"),
        ("25%", "twenty five percent"),
        ("at 3:05 pm", "at three oh five P M"),
        ("Dr. Smith", "Doctor Smith"),
        ("5 km", "five kilometers"),
        ("2024-03-05", "March fifth, twenty twenty four"),
        ("α rays", "alpha rays"),
        ("Straße", "Strasse"),
        ("wait… what", "wait, what"),
    ],
)
def test_numbers_dates_money_and_abbreviations_are_written_out(written: str, said: str) -> None:
    assert normalised_english(written).strip() == said


def test_fewer_than_four_phones_get_a_comma_in_front() -> None:
    assert read_english("so").symbols == (",", "S", "OW1")
    assert read_english("four").symbols == (",", "F", "AO1", "R")
    assert read_english("five.").symbols == ("F", "AY1", "V", ".")


def test_english_has_no_map_to_characters() -> None:
    assert read_english("hello").word2ph is None
