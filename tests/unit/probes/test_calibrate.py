"""The suggested threshold lies between how like itself a voice is and how like it the nearest other speaker is."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.unit.probes.speech import RATE_HZ, reference

from segue_engines.probes import NotEnoughAudio, builtin_cases, builtin_voices, calibrate, pieces_of
from segue_engines.probes.run import FALLBACK_SIMILARITY, calibrated_similarity


def at_angle(cosine: float) -> NDArray[np.float32]:
    """A vector of length 1 with this cosine to the first axis."""
    vector = np.zeros(256, np.float32)
    vector[:2] = cosine, np.sqrt(1 - cosine**2)
    return vector


def test_real_voices_are_told_apart_with_a_margin() -> None:
    others = {name: pieces_of(reference(name), RATE_HZ) for name in ("aria", "cleo", "bert")}
    found = calibrate(pieces_of(reference(), RATE_HZ), others)
    assert found.separable
    assert found.other_speakers.highest < 0.75
    assert found.other_speakers.highest < found.threshold < found.same_speaker.lowest
    assert found.margin_below > 2 * found.margin_above - 0.03


def test_the_threshold_stands_a_third_of_the_gap_below_the_worst_own_piece() -> None:
    found = calibrate([at_angle(1.0), at_angle(1.0)], {"near": [at_angle(0.8)], "far": [at_angle(0.1)]})
    assert found.threshold == pytest.approx(0.93)
    assert found.nearest == "near"
    assert found.margin_below == pytest.approx(0.13, abs=1e-6)
    assert found.margin_above == pytest.approx(0.07, abs=1e-6)
    assert (found.same_speaker.count, found.other_speakers.count) == (1, 4)


def test_a_double_is_said_to_be_inseparable() -> None:
    found = calibrate([at_angle(1.0), at_angle(1.0)], {"double": [at_angle(0.98)]})
    assert not found.separable
    assert "too close" in found.message


def test_too_little_speech_is_refused_with_figures() -> None:
    with pytest.raises(NotEnoughAudio, match=r"\d\.\d s of speech; at least 8 s"):
        pieces_of(reference()[: 4 * RATE_HZ], RATE_HZ)
    with pytest.raises(NotEnoughAudio, match="1 pieces of the voice"):
        calibrate([at_angle(1.0)], {"other": [at_angle(0.5)]})
    with pytest.raises(NotEnoughAudio, match="0 of others"):
        calibrate([at_angle(1.0)] * 2, {})


def test_a_short_reference_falls_back_to_the_documented_value() -> None:
    assert calibrated_similarity(reference()[: 4 * RATE_HZ], RATE_HZ) == FALLBACK_SIMILARITY


def test_the_built_in_voices_are_many_and_of_length_one() -> None:
    voices = builtin_voices()
    assert len(voices) >= 20
    for embedding in voices.values():
        assert np.linalg.norm(embedding) == pytest.approx(1.0, abs=1e-2)


def test_the_built_in_cases_are_statements() -> None:
    for language in ("en", "en-GB", "de", "zh", "yue", "ja", "ko"):
        cases = builtin_cases(language)
        assert len(cases) >= 4
        assert not any(mark in case.text for case in cases for mark in "?!？！")
    assert builtin_cases("xx") == ()
