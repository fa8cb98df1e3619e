"""What is said: the right text is heard, and everything that similarity cannot hear is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.probes.speech import CASES, RATE_HZ, clip

from segue_engines.probes import phone_error_rate, recognise
from segue_engines.probes.recogniser import covers, edit_distance

VOICES = ("narrator", "aria", "cleo", "bert")


@pytest.mark.parametrize("name", VOICES)
def test_the_right_text_is_heard_from_every_voice(name: str) -> None:
    clips = [clip(case.text, f"voices/{name}/v1") for case in CASES]
    rates = [phone_error_rate(each.audio, RATE_HZ, each.phones) for each in clips]
    assert np.mean(rates) < 0.12
    assert max(rates) < 0.25


def test_another_text_is_not() -> None:
    spoken, other = clip(CASES[0].text), clip(CASES[1].text)
    assert phone_error_rate(spoken.audio, RATE_HZ, other.phones) > 0.7


def test_the_broken_voice_says_something_else() -> None:
    broken = clip(folder="updates/narrator/broken")
    assert phone_error_rate(broken.audio, RATE_HZ, broken.phones) > 0.6


def test_reversed_speech_is_not_the_text() -> None:
    assert phone_error_rate(clip().audio[::-1].copy(), RATE_HZ, clip().phones) > 0.6


def test_speech_cut_at_60_percent_is_not_the_text() -> None:
    audio = clip().audio
    assert phone_error_rate(audio[: int(0.6 * audio.size)], RATE_HZ, clip().phones) > 0.3


def test_looped_speech_is_not_the_text() -> None:
    audio = clip().audio
    looped = np.concatenate([audio[: audio.size // 2]] * 3)
    assert phone_error_rate(looped, RATE_HZ, clip().phones) > 0.5


def test_silence_says_nothing() -> None:
    assert recognise(np.zeros(RATE_HZ, np.float32), RATE_HZ) == []
    assert phone_error_rate(np.zeros(RATE_HZ, np.float32), RATE_HZ, ["HH", "AY1"]) == 1.0


@pytest.mark.parametrize("gain", [0.05, 0.5, 1.2])
def test_the_level_does_not_matter(gain: float) -> None:
    assert phone_error_rate(clip().audio * np.float32(gain), RATE_HZ, clip().phones) < 0.15


@pytest.mark.parametrize("samples", [0, 1, 100, 241])
def test_shorter_than_a_frame_is_read_all_the_same(samples: int) -> None:
    assert len(recognise(np.full(samples, 0.1, np.float32), RATE_HZ)) <= 1


def test_only_english_phones_are_covered() -> None:
    assert covers(["HH", "AH0", "L", "OW1", ","])
    assert not covers(["n", "i3", "h", "ao3"])
    assert not covers([",", "."])


def _slow_distance(first: list[int], second: list[int]) -> int:
    row = list(range(len(second) + 1))
    for i, left in enumerate(first, 1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(second, 1):
            diagonal, row[j] = row[j], min(diagonal + (left != right), row[j] + 1, row[j - 1] + 1)
    return row[-1]


_labels = st.lists(st.integers(0, 3), max_size=12)


@settings(deadline=None)
@given(first=_labels, second=_labels)
def test_the_edit_distance_is_levenshteins(first: list[int], second: list[int]) -> None:
    assert edit_distance(first, second) == _slow_distance(first, second)
