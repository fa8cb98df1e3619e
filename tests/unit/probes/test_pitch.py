"""The median fundamental: right on known tones, moved by exactly what the speech was moved by, and nothing on noise."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
from tests.unit.probes.speech import RATE_HZ, clip

from segue_engines.probes.pitch import median_pitch_hz, semitones


@pytest.mark.parametrize("hz", [70.0, 110.0, 196.0, 261.6, 400.0])
def test_a_buzz_has_its_own_pitch(hz: float) -> None:
    time = np.arange(RATE_HZ) / RATE_HZ
    buzz = sum(np.sin(2 * np.pi * k * hz * time) / k for k in range(1, 8)).astype(np.float32)  # type: ignore[union-attr]
    found = median_pitch_hz(0.2 * buzz, RATE_HZ)
    assert found is not None
    assert abs(semitones(found, hz)) < 0.1


@pytest.mark.parametrize("shift", [-2.0, 1.0, 3.0])
def test_shifted_speech_is_shifted_by_as_much(shift: float) -> None:
    factor = 2 ** (shift / 12)
    shifted = soxr.resample(clip().audio, RATE_HZ * factor, RATE_HZ)
    before, after = median_pitch_hz(clip().audio, RATE_HZ), median_pitch_hz(shifted, RATE_HZ)
    assert before is not None
    assert after is not None
    assert semitones(after, before) == pytest.approx(shift, abs=0.35)


def test_noise_and_silence_have_none() -> None:
    noise = np.random.default_rng(3).normal(0, 0.1, 2 * RATE_HZ).astype(np.float32)
    assert median_pitch_hz(noise, RATE_HZ) is None
    assert median_pitch_hz(np.zeros(2 * RATE_HZ, np.float32), RATE_HZ) is None
    assert median_pitch_hz(np.zeros(10, np.float32), RATE_HZ) is None
