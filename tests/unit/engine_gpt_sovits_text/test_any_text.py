"""What holds for every text: it is refused or read, and what is read fits the networks."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.engine_gpt_sovits_text.reading import FRONT_END

from segue.errors import TextRejected
from segue_engines.gpt_sovits.text import SYMBOLS, Cut, Language, Piece, Tongue
from segue_engines.gpt_sovits.text.frontend import MAX_PIECE
from segue_engines.gpt_sovits.text.scripts import washed

_SCRIPTS = st.one_of(
    st.characters(min_codepoint=0x20, max_codepoint=0x7E),
    st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5),
    st.characters(min_codepoint=0x3041, max_codepoint=0x30FF),
    st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3),
    st.sampled_from("，。！？、；：…—~·「」（）％￥$€°²½①０Ａｱー々〇αΩéß😀\u200d\ufe0f\u0301\n\t "),
)
_MIXED = st.text(_SCRIPTS, max_size=60)
_NUMBERS = st.text(st.sampled_from("0123456789.,:-/%~+=年月日点个元kgm$¥°C 第一两"), max_size=40)
_ANY = st.one_of(st.text(max_size=60), _MIXED, _NUMBERS)
_LANGUAGES = st.sampled_from([language.value for language in Language])
_PATIENT = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _read(text: str, language: str, cut: Cut = Cut.MARKS) -> tuple[Piece, ...]:
    try:
        return FRONT_END.read_target(text, language=language, cut=cut)
    except TextRejected as refused:
        start, end = refused.span
        assert 0 <= start <= end <= len(text)
        return ()


@given(text=_ANY, language=_LANGUAGES, cut=st.sampled_from(Cut))
@_PATIENT
def test_every_text_is_refused_or_becomes_phones_that_the_networks_know(text: str, language: str, cut: Cut) -> None:
    for piece in _read(text, language, cut):
        assert piece.phone_ids
        assert all(0 <= phone < len(SYMBOLS) for phone in piece.phone_ids)
        assert len(piece.text) <= MAX_PIECE


@given(text=_ANY, language=_LANGUAGES)
@_PATIENT
def test_counts_fit_the_characters_and_the_phones(text: str, language: str) -> None:
    for piece in _read(text, language):
        for run in piece.runs:
            counts = run.reading.word2ph
            assert (counts is not None) == (run.tongue in (Tongue.ZH, Tongue.YUE))
            if counts is not None:
                assert sum(counts) == len(run.reading.symbols)
                assert len(counts) == len(run.reading.normalised) <= MAX_PIECE


@given(text=_MIXED)
@_PATIENT
def test_pieces_hold_every_letter_and_digit_in_order(text: str) -> None:
    letters = [char for char in washed(text) if char.isalnum()]
    read = _read(text, "auto")
    if read:
        assert [char for piece in read for char in piece.text if char.isalnum()] == letters


@given(text=_ANY, language=_LANGUAGES)
@_PATIENT
def test_the_runs_of_a_piece_are_the_piece(text: str, language: str) -> None:
    for piece in _read(text, language):
        together = "".join(run.text for run in piece.runs if run.reading.symbols)
        said = [char for char in together.removeprefix(".") if char.isalnum()]
        assert said == [char for char in piece.text.removeprefix(".") if char.isalnum()]


@given(text=_ANY, language=_LANGUAGES)
@settings(_PATIENT, max_examples=50)
def test_reading_twice_gives_the_same(text: str, language: str) -> None:
    assert _read(text, language) == _read(text, language)


@given(text=_MIXED, language=_LANGUAGES)
@settings(_PATIENT, max_examples=50)
def test_a_prompt_is_one_piece_or_refused(text: str, language: str) -> None:
    try:
        piece = FRONT_END.read_prompt(text, language=language)
    except TextRejected:
        return
    assert piece.phone_ids


_LONG = {
    "one hanzi": "一",
    "one kanji": "風",
    "one kana": "あ",
    "long vowels": "ー",
    "one hangul": "뷁",
    "one letter": "a",
    "one digit": "1",
    "marks": "。，！？",
    "spaces": " ",
    "lines": "a\n",
    "dashes": "-",
    "every language": "中aあ한",
    "per cents": "1%",
    "sums": "1+1=",
    "fractions": "1/",
    "clocks": "1:",
    "versions": "1.",
    "addresses": "http://a.b/ ",
    "money": "$1",
    "repeaters": "人々",
    "light syllables": "看看",
    "emoji": "😀",
    "accents": "a\u0301\u0301\u0301",
}


@pytest.mark.parametrize("unit", _LONG.values(), ids=_LONG.keys())
@pytest.mark.parametrize("language", ["auto", "zh", "ja", "en"])
def test_ten_thousand_characters_of_anything_take_seconds_at_most(unit: str, language: str) -> None:
    text = (unit * 10_000)[:10_000]
    FRONT_END.warm_up("zh")
    FRONT_END.warm_up("ja")
    started = time.process_time()
    _read(text, language, Cut.NONE)
    assert time.process_time() - started < 20  # the slowest takes 4 on an old core; quadratic ones took minutes
