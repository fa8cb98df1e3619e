"""Korean: numbers, the rules of standard pronunciation, and jamo."""

from __future__ import annotations

import pytest

from segue_engines.gpt_sovits.text.korean.normalise import normalised_korean
from segue_engines.gpt_sovits.text.korean.reading import read_korean
from segue_engines.gpt_sovits.text.korean.respelled import respelled
from segue_engines.gpt_sovits.text.korean.sounds import spoken
from segue_engines.gpt_sovits.text.korean.syllables import put_together, taken_apart

_NASAL = "국물=궁물 먹는=멍는 밥물=밤물 있는=인는 앞문=암문 낮말=난말 꽃망울=꼰망울 흙만=흥만"
_LIQUID = "신라=실라 칼날=칼랄 물난리=물랄리 협력=혐녁 독립=동닙 백리=뱅니 십리=심니 심리=심니 종로=종노 대통령=대통녕"
_TENSE = "학교=학꾜 옷도=옫또 값도=갑또 닭도=닥또 있다=읻따 없다=업따 읽다=익따 앉다=안따"
_STEMS = "넓다=널따 삶다=삼따 핥다=할따 맑게=말께 광한루=광할루"
_ASPIRATED = "좋다=조타 어떻게=어떠케 그렇지=그러치 입학=이팍 축하=추카 못하다=모타다 앉히다=안치다"
_SILENT_H = "좋아=조아 많이=마니 싫어=시러 끓이다=끄리다 놓는=논는 쌓네=싼네 뚫는=뚤른 닿소=다쏘 괜찮아요=괜차나요"
_MOVED = "한국어=한구거 옷이=오시 꽃이=꼬치 닭이=달기 값이=갑씨 몫이=목씨 없어=업써 읽어=일거 끝을=끄틀"
_PALATAL = "같이=가치 굳이=구지 밭이=바치 붙여=부처 굳히다=구치다 닫혀=다처 묻히다=무치다"
_CLOSED = "꽃=꼳 부엌=부억 여덟=여덜 외곬=외골 읊다=읍따 밟다=밥따"
_VOWELS = "희망=히망 의사=의사 가져=가저"
_KNOWN = "꽃잎=꼰닙 서울역=서울력 발전=발쩐 갈등=갈뜽 생산량=생산냥 맛없어=마덥써 문법=문뻡 김밥=김빱"
_PLAIN = "전화=전화 안녕하세요=안녕하세요 감사합니다=감사함니다"


@pytest.mark.parametrize(
    "pair",
    " ".join(
        (_NASAL, _LIQUID, _TENSE, _STEMS, _ASPIRATED, _SILENT_H, _MOVED, _PALATAL, _CLOSED, _VOWELS, _KNOWN, _PLAIN)
    ).split(),
)
def test_spelling_becomes_sound(pair: str) -> None:
    written, sound = pair.split("=")
    assert spoken(respelled(written)) == sound


@pytest.mark.parametrize(
    ("written", "sound"),
    [
        ("밥 먹다", "밤 먹따"),
        ("못 해", "모 태"),
        ("옷 한 벌", "오 탄 벌"),
        ("할 것을", "할 꺼슬"),
        ("먹을 수 있다", "머글 쑤 읻따"),
        ("옷 안에", "오 다네"),
        ("책 읽는", "책 잉는"),
        ("무슨 일", "무슨 닐"),
    ],
)
def test_sounds_meet_across_a_space_but_codas_stay(written: str, sound: str) -> None:
    assert spoken(respelled(written)) == sound


def test_every_syllable_comes_apart_and_together() -> None:
    for code in range(0xAC00, 0xD7A4):
        assert put_together(taken_apart(chr(code))) == chr(code)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("2024년 3월 5일", "이천이십사년 삼월 오일"),
        ("6월 10월", "유월 시월"),
        ("2024-06-05", "이천이십사년 유월 오일"),
        ("3시 30분", "세 시 삼십분"),
        ("15:30", "십오 시 삼십 분"),
        ("사과 3개", "사과 세 개"),
        ("20살", "스무 살"),
        ("21명", "스물한 명"),
        ("1번째", "첫 번째"),
        ("100개", "백개"),
        ("3개월", "삼개월"),
        ("12,000원", "만 이천원"),
        ("$5", "오 달러"),
        ("3.14", "삼 점 일사"),
        ("50%", "오십 퍼센트"),
        ("1/2", "이분의 일"),
        ("10~20", "십에서 이십"),
        ("-5도", "마이너스 오도"),
        ("5kg", "오 킬로그램"),
        ("010-1234-5678", "공일공 일이삼사 오육칠팔"),
        ("12345678", "천이백삼십사만 오천육백칠십팔"),
        ("007", "공공칠"),
        ("0", "영"),
    ],
)
def test_numbers_are_counted_in_the_way_of_their_counter(written: str, said: str) -> None:
    assert normalised_korean(written) == said


@pytest.mark.parametrize(
    ("text", "symbols"),
    [
        ("안녕하세요.", "ㅇ ㅏ ㄴ ㄴ ㅣ ㅓ ㅇ ㅎ ㅏ ㅅ ㅔ ㅇ ㅣ ㅗ ."),
        ("안녕", "ㅇ ㅏ ㄴ ㄴ ㅣ ㅓ ㅇ ."),
        ("좋은 왜", "ㅈ ㅗ ㅇ ㅡ ㄴ 空 ㅇ ㅗ ㅐ ."),
        ("의자!", "ㅇ ㅡ ㅣ ㅈ ㅏ !"),
        ("ㅋㅋ ㅠ", "ㅋ ㅋ 空 ㅣ ㅜ ."),
        ("“네”", "停 ㄴ ㅔ 停"),
    ],
)
def test_syllables_become_jamo_spaces_and_stops(text: str, symbols: str) -> None:
    assert read_korean(text).symbols == tuple(symbols.split())
