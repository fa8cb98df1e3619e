"""What is said for what is written."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.errors import TextRejected
from segue_engines.demo.text import PAUSES, PHONES, read_text, text_to_phones
from segue_engines.demo.text.frontend import MAX_PHONES
from segue_engines.demo.text.letters import letters_to_phones
from segue_engines.demo.text.lexicon import _block, look_up, pronounce
from segue_engines.demo.text.normalise import spoken


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("42", "forty two"),
        ("1,234,567", "one million two hundred thirty four thousand five hundred sixty seven"),
        ("-7", "minus seven"),
        ("007", "zero zero seven"),
        ("3.14", "three point one four"),
        ("the 21st", "the twenty first"),
        ("the 12th and 30th", "the twelfth and thirtieth"),
        ("in 1987", "in nineteen eighty seven"),
        ("in 1905", "in nineteen oh five"),
        ("in 2005", "in two thousand five"),
        ("in 2024", "in twenty twenty four"),
        ("the 1990s", "the nineteen nineties"),
        ("$3.50", "three dollars and fifty cents"),
        ("$1.00", "one dollar"),
        ("£0.99", "ninety nine pence"),
        ("€5", "five euros"),
        ("$2.5 million", "two point five million dollars"),
        ("£5k", "five thousand pounds"),
        ("-$5", "minus five dollars"),
        ("25%", "twenty five percent"),
        ("0.5 %", "zero point five percent"),
        ("3:05 pm", "three oh five P M"),
        ("9:00", "nine o'clock"),
        ("17:30", "seventeen thirty"),
        ("5pm", "five P M"),
        ("2024-03-05", "March fifth, twenty twenty four"),
        ("3/5/2024", "March fifth, twenty twenty four"),
        ("March 5, 2024", "March fifth, twenty twenty four"),
        ("5 March", "the fifth of March"),
        ("Mon, Jan. 2", "Monday, January second"),
        ("1/2", "one half"),
        ("2 3/4", "two and three quarters"),
        ("10-20", "ten to twenty"),
        ("2 kg", "two kilograms"),
        ("1 ft", "one foot"),
        ("-5°C", "minus five degrees Celsius"),
        ("v2.1.3", "version two point one point three"),
        ("555-0199", "five five five, zero one nine nine"),
        ("Dr. Smith vs. Mr. Jones", "Doctor Smith versus Mister Jones"),
        ("e.g. this", "for example this"),
        ("No. 5", "number five"),
        ("(555) 123-4567", "five five five, one two three, four five six seven"),
        ("3:1", "three to one"),
        ("John F. Kennedy", "John F Kennedy"),
        ("Plan B. Then", "Plan B. Then"),
        ("World War II", "World War two"),
        ("Elm St. is closed", "Elm Street is closed"),
        ("St. Mary", "Saint Mary"),
        ("salt & pepper", "salt and pepper"),
        ("https://www.example.com/a-b", "example dot com slash a dash b"),
        ("bob.lee@example.org", "bob dot lee at example dot org"),
        ("well-known", "well known"),
        ("“Quite,” he said…", "Quite, he said,"),
        ("one—two", "one, two"),
    ],
)
def test_written_forms_are_said_as_a_reader_would(written: str, said: str) -> None:
    assert spoken(written).split() == said.split()


@pytest.mark.parametrize(
    ("text", "phones"),
    [
        ("Hello, world!", "HH AH0 L OW1 , W ER1 L D !"),
        ("cats dogs horses", "K AE1 T S D AA1 G Z HH AO1 R S AH0 Z ."),
        ("the FBI", "DH AH0 EH1 F B IY1 AY1 ."),
        ("two CPUs", "T UW1 S IY2 P IY2 Y UW1 Z ."),
        ("in the US", "IH0 N DH AH0 Y UW1 EH1 S ."),
        ("tell us", "T EH1 L AH0 S ."),
        ("NASA", "N AE1 S AH0 ."),
        ("Plan B", "P L AE1 N B IY1 ."),
        ("café", "K AH0 F EY1 ."),
        ("Really?! Yes", "R IH1 L IY0 ? Y EH1 S ."),
    ],
)
def test_text_becomes_these_phones(text: str, phones: str) -> None:
    assert " ".join(text_to_phones(text)) == phones


def test_function_words_carry_no_stress() -> None:
    phones = text_to_phones("of the and to for a with it")
    assert not [phone for phone in phones if phone.endswith(("1", "2"))]


@pytest.mark.parametrize("word", ["blorgle", "xzqj", "frintzen", "ghoti", "q", "aaaaeeee", "rhythm"])
def test_a_word_without_an_entry_is_read_by_its_letters(word: str) -> None:
    phones = letters_to_phones(word)
    assert phones
    assert set(phones) <= set(PHONES)


@pytest.mark.parametrize(("word", "phones"), [("blin", "B L IH1 N"), ("shafe", "SH EY1 F"), ("phoot", "F UW1 T")])
def test_letter_to_sound_rules_know_english_spelling(word: str, phones: str) -> None:
    assert look_up(word) is None
    assert " ".join(pronounce(word)) == phones


def test_first_and_last_words_of_the_lexicon_are_found() -> None:
    words = _block().split(b"\n")
    for line in (words[0], words[len(words) // 2], words[-2]):
        word, *phones = line.decode().split(" ")
        assert look_up(word) == tuple(phones)
    assert look_up("aaaaaa") is None
    assert look_up("zzzzzz") is None


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "!!!", "…", "—", "😀 😀", "()", "'"])
def test_a_text_without_words_is_rejected(text: str) -> None:
    with pytest.raises(TextRejected, match="nothing to speak") as caught:
        read_text(text)
    assert caught.value.span == (0, len(text))


@pytest.mark.parametrize(
    ("text", "span"), [("你好", (0, 2)), ("Hello 你 好, there", (6, 9)), ("Ελλάδα", (0, 6)), ("say привет!", (4, 10))]
)
def test_letters_of_another_script_are_rejected_with_their_place(text: str, span: tuple[int, int]) -> None:
    with pytest.raises(TextRejected, match="cannot read") as caught:
        read_text(text)
    assert caught.value.span == span


def test_emoji_beside_words_are_passed_over() -> None:
    assert text_to_phones("yes 😀") == text_to_phones("yes")


def test_each_sentence_ends_with_its_own_mark() -> None:
    assert [sentence.phones[-1] for sentence in read_text("One. Two? Three! Four")] == [".", "?", "!", "."]


def test_a_paragraph_break_ends_a_sentence() -> None:
    assert len(read_text("A heading\n\nThe text")) == 2


@pytest.mark.parametrize("separator", [" ", ", "])
def test_a_sentence_of_any_length_is_cut_into_pieces_that_the_model_can_take(separator: str) -> None:
    text = separator.join(["interesting weather"] * 300)
    sentences = read_text(text)
    assert all(len(sentence.phones) <= MAX_PHONES + 1 for sentence in sentences)
    spoken_phones = [phone for sentence in sentences for phone in sentence.phones if phone not in PAUSES]
    assert spoken_phones == [phone for phone in text_to_phones("interesting weather") if phone not in PAUSES] * 300


def test_one_endless_word_is_cut_too() -> None:
    assert all(len(sentence.phones) <= MAX_PHONES + 1 for sentence in read_text("ba" * 3000))


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
def test_any_text_is_read_or_rejected(text: str) -> None:
    try:
        sentences = read_text(text)
    except TextRejected as rejected:
        start, end = rejected.span
        assert 0 <= start <= end <= len(text)
        return
    assert sentences
    for sentence in sentences:
        assert sentence.phones[-1] in PAUSES
        assert set(sentence.phones) <= set(PHONES)
        assert len(sentence.phones) == len(sentence.word_starts)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="0123456789.,:/-$%£ aApmstk'()", min_size=1, max_size=24))
def test_any_mixture_of_digits_and_symbols_leaves_only_words(text: str) -> None:
    assert not set(spoken(text)) & set("0123456789$%£/:()")
