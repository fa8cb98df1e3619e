"""Silence, clipping, bandwidth, numbers, loops: each on a signal that has the fault and one that has not."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
from tests.unit.probes.speech import RATE_HZ, clip

from segue_engines.probes.loops import looped, repeated_tokens
from segue_engines.probes.signal_faults import clipped_share, is_finite, rolloff_hz
from segue_engines.probes.silence import speech_span


def silence(seconds: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.zeros(round(seconds * RATE_HZ), np.float32)


def test_speech_is_found_between_silences() -> None:
    audio = clip().audio
    plain = speech_span(audio, RATE_HZ)
    span = speech_span(np.concatenate([silence(0.5), audio, silence(1.5)]), RATE_HZ)
    assert span.begin_s == pytest.approx(plain.begin_s + 0.5, abs=0.02)
    assert span.trailing_silence_s == pytest.approx(plain.trailing_silence_s + 1.5, abs=0.02)
    assert span.spoken_s == pytest.approx(plain.spoken_s, abs=0.03)


def test_a_hole_in_the_middle_is_an_inner_silence() -> None:
    audio = clip().audio
    half = audio.size // 2
    assert speech_span(audio, RATE_HZ).inner_silence_s < 0.5
    holed = np.concatenate([audio[:half], silence(0.9), audio[half:]])
    assert speech_span(holed, RATE_HZ).inner_silence_s == pytest.approx(0.9, abs=0.15)


def test_a_faint_hum_is_silence_all_the_same() -> None:
    hum = (10 ** (-62 / 20) * np.sin(np.arange(2 * RATE_HZ) * 0.3)).astype(np.float32)
    span = speech_span(np.concatenate([clip().audio, hum]), RATE_HZ)
    assert span.trailing_silence_s > 1.9


@pytest.mark.parametrize("samples", [0, 10, 24000])
def test_nothing_at_all_is_one_trailing_silence(samples: int) -> None:
    span = speech_span(np.zeros(samples, np.float32), RATE_HZ)
    assert span.spoken_s == 0
    assert span.trailing_silence_s == pytest.approx(samples / RATE_HZ)


def test_clipping_is_counted() -> None:
    assert clipped_share(clip().audio) < 0.001
    assert clipped_share(np.clip(clip().audio * 8, -1, 1)) > 0.01
    assert clipped_share(np.zeros(0, np.float32)) == 0


def test_what_is_no_number_is_noticed() -> None:
    audio = clip().audio.copy()
    assert is_finite(audio)
    audio[100] = np.nan
    assert not is_finite(audio)
    audio[100] = np.inf
    assert not is_finite(audio)


def test_lost_bandwidth_lowers_the_rolloff() -> None:
    whole = rolloff_hz(clip().audio, RATE_HZ)
    narrow = soxr.resample(soxr.resample(clip().audio, RATE_HZ, 8000), 8000, RATE_HZ)
    lost = rolloff_hz(narrow, RATE_HZ)
    assert whole is not None
    assert lost is not None
    assert lost < 0.7 * whole


def test_the_rolloff_does_not_depend_on_level_or_rate() -> None:
    whole = rolloff_hz(clip().audio, RATE_HZ)
    assert whole is not None
    assert rolloff_hz(clip().audio * np.float32(0.1), RATE_HZ) == pytest.approx(whole, rel=0.01)
    assert rolloff_hz(soxr.resample(clip().audio, RATE_HZ, 48000), 48000) == pytest.approx(whole, rel=0.02)
    assert rolloff_hz(np.zeros(5000, np.float32), RATE_HZ) is None


@pytest.mark.parametrize(
    ("tokens", "length"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 8] * 4, 32),
        ([9, 9] + [1, 2, 3, 4, 5, 6, 7, 8] * 4 + [9], 32),
        ([5] * 32, 32),
        (list(range(20)) * 4, 80),
        ([1, 2, 3, 4, 5, 6, 7, 8] * 3 + [1, 2, 3, 4, 5, 6, 7], 0),
        ([5] * 31, 0),
        (list(range(100)), 0),
        (list(range(20)) * 3, 0),
        ([], 0),
    ],
)
def test_a_piece_four_times_in_a_row_is_a_loop(tokens: list[int], length: int) -> None:
    assert repeated_tokens(tokens) == length


def test_a_repeat_that_is_in_the_text_is_no_fault() -> None:
    chant = ["N", "OW1", ","] * 12
    tokens = [3, 4, 5] * 12
    assert not looped(tokens, chant)
    assert looped(tokens, ["HH", "AH0", "L", "OW1"])
