"""Who speaks: the encoder equals the original network, and tells voices apart where there is enough speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soxr
from tests.unit.probes.speech import RATE_HZ, reading, reference

from segue_engines.probes import embed, similarity
from segue_engines.probes.speaker import _forward, speech_only

OTHERS = ("aria", "cleo", "bert")


def test_the_network_equals_the_original() -> None:
    windows = np.random.default_rng(7).gamma(0.5, 0.02, (3, 160, 40)).astype(np.float32)
    with np.load(Path(__file__).parent / "data" / "speaker-golden.npz") as golden:
        np.testing.assert_allclose(_forward(windows), golden["embeddings"], atol=2e-3)


def test_a_voice_is_like_its_reference() -> None:
    assert similarity(embed(reading(), RATE_HZ), embed(reference(), RATE_HZ)) > 0.93


@pytest.mark.parametrize("name", OTHERS)
def test_another_voice_is_not(name: str) -> None:
    assert similarity(embed(reference(name), RATE_HZ), embed(reference(), RATE_HZ)) < 0.75


def test_the_embedding_has_length_one_whatever_the_level() -> None:
    quiet = embed(reference() * np.float32(0.02), RATE_HZ)
    assert np.linalg.norm(quiet) == pytest.approx(1.0, abs=1e-5)
    assert similarity(quiet, embed(reference(), RATE_HZ)) > 0.998


def test_the_sample_rate_does_not_matter() -> None:
    raised = soxr.resample(reference(), RATE_HZ, 44100)
    assert similarity(embed(raised, 44100), embed(reference(), RATE_HZ)) > 0.999


@pytest.mark.parametrize("samples", [0, 1, 300, 48000])
def test_silence_is_nobody(samples: int) -> None:
    nobody = embed(np.zeros(samples, np.float32), RATE_HZ)
    assert nobody.shape == (256,)
    assert not nobody.any()
    assert similarity(nobody, embed(reference(), RATE_HZ)) == 0.0


def test_long_silences_do_not_count_as_speech() -> None:
    speech = soxr.resample(reference(), RATE_HZ, 16000)
    padded = np.concatenate([speech, np.zeros(16000 * 5, np.float32), speech])
    assert speech_only(padded).size < 2 * speech.size + 16000
