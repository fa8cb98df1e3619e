"""Loudness against what ITU-R BS.1770-4 and EBU Tech 3341 say it must be."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.unit.probes.speech import RATE_HZ, clip

from segue_engines.probes.loudness import integrated_loudness


def sine(hz: float, dbfs: float, seconds: float, rate: int = 48000) -> NDArray[np.float32]:
    """A sine whose peak is at `dbfs`."""
    time = np.arange(round(seconds * rate)) / rate
    return (10 ** (dbfs / 20) * np.sin(2 * np.pi * hz * time)).astype(np.float32)


@pytest.mark.parametrize("rate", [16000, 24000, 32000, 48000])
@pytest.mark.parametrize("dbfs", [0.0, -20.0, -40.0])
def test_a_sine_of_1_khz_is_3_lu_below_its_peak(rate: int, dbfs: float) -> None:
    assert integrated_loudness(sine(997.0, dbfs, 3.0, rate), rate) == pytest.approx(dbfs - 3.01, abs=0.05)


def test_low_sounds_count_less_and_high_sounds_more() -> None:
    middle = integrated_loudness(sine(997.0, -20, 3.0), 48000)
    low = integrated_loudness(sine(40.0, -20, 3.0), 48000)
    high = integrated_loudness(sine(8000.0, -20, 3.0), 48000)
    assert middle is not None
    assert low is not None
    assert high is not None
    assert low < middle - 5
    assert high - middle == pytest.approx(3.3, abs=0.2)


def test_the_relative_gate_leaves_quiet_stretches_out() -> None:
    """EBU Tech 3341, case 3, on one channel: 10 s at -36, 60 s at -23, 10 s at -36."""
    levels = ((-36.0, 10.0), (-23.0, 60.0), (-36.0, 10.0))
    signal = np.concatenate([sine(1000.0, level, seconds) for level, seconds in levels])
    assert integrated_loudness(signal, 48000) == pytest.approx(-26.0, abs=0.1)


def test_the_absolute_gate_leaves_silence_out() -> None:
    speech = clip().audio
    silence = np.zeros(10 * RATE_HZ, np.float32)
    alone = integrated_loudness(speech, RATE_HZ)
    assert integrated_loudness(np.concatenate([speech, silence]), RATE_HZ) == pytest.approx(alone, abs=0.3)


def test_three_decibels_are_three_units() -> None:
    before = integrated_loudness(clip().audio, RATE_HZ)
    after = integrated_loudness(clip().audio * np.float32(10 ** (3 / 20)), RATE_HZ)
    assert before is not None
    assert after == pytest.approx(before + 3, abs=0.02)


@pytest.mark.parametrize("samples", [0, 100, 48000])
def test_silence_has_no_loudness(samples: int) -> None:
    assert integrated_loudness(np.zeros(samples, np.float32), 48000) is None
