"""What is no speech is found before anybody hears it, and nothing else is held up."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from segue.memory.stats_layout import Outcome
from segue_server.synthesis.inspection import LONGEST_PAUSE_S, AudioFault, AudioInspector

RATE = 8_000


def inspector(*, speed: float = 1.0) -> AudioInspector:
    return AudioInspector(sample_rate=RATE, speed=speed)


def tone(seconds: float, *, level: float = 0.3) -> NDArray[np.float32]:
    wave: NDArray[np.float32] = (level * np.sin(np.arange(int(seconds * RATE)) * 0.3)).astype(np.float32)
    return wave


def silence(seconds: float) -> NDArray[np.float32]:
    return np.zeros(int(seconds * RATE), np.float32)


def outcome_of(fault: pytest.ExceptionInfo[AudioFault]) -> Outcome:
    return fault.value.outcome


def test_speech_passes_at_once() -> None:
    piece = tone(0.1)
    assert [id(out) for out in inspector().accept(piece)] == [id(piece)]


def test_leading_silence_is_held_until_somebody_speaks() -> None:
    watched = inspector()
    assert watched.accept(silence(0.1)) == ()
    assert sum(len(out) for out in watched.accept(tone(0.1))) == len(silence(0.1)) + len(tone(0.1))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_no_number_is_found_with_its_place(bad: float) -> None:
    piece = tone(0.1)
    piece[80] = bad
    watched = inspector()
    watched.accept(tone(1.0))
    with pytest.raises(AudioFault, match=r"1\.01 s") as fault:
        watched.accept(piece)
    assert outcome_of(fault) is Outcome.NONFINITE


def test_nothing_at_all_is_empty() -> None:
    with pytest.raises(AudioFault) as fault:
        inspector().finish()
    assert outcome_of(fault) is Outcome.EMPTY


def test_pilot_tones_alone_are_silence() -> None:
    watched = inspector()
    assert watched.accept(tone(0.5, level=0.002)) == ()
    with pytest.raises(AudioFault) as fault:
        watched.finish()
    assert outcome_of(fault) is Outcome.SILENT


def test_a_voice_that_falls_silent_is_found() -> None:
    watched = inspector()
    watched.accept(tone(0.5))
    watched.accept(silence(LONGEST_PAUSE_S - 0.5))
    with pytest.raises(AudioFault) as fault:
        watched.accept(silence(1.0))
    assert outcome_of(fault) is Outcome.SILENT


def test_pauses_between_sentences_pass() -> None:
    watched = inspector()
    for _ in range(5):
        watched.accept(tone(0.5))
        watched.accept(silence(LONGEST_PAUSE_S - 1))
    watched.finish()
    assert watched.audio_s == pytest.approx(5 * (LONGEST_PAUSE_S - 0.5))


def test_slow_speech_may_pause_longer() -> None:
    watched = inspector(speed=0.25)
    watched.accept(tone(0.5))
    watched.accept(silence(LONGEST_PAUSE_S * 3.5))
    watched.finish()
