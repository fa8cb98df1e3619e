"""What is measured on a reference recording, against the original."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.support.gpt_sovits.torch_writer import Tensor, write_torch_file
from tests.unit.engine_gpt_sovits.golden import case, largest_difference

from segue.engine import PartView
from segue.errors import WeightsError
from segue_engines.gpt_sovits.front.fbank import fbank
from segue_engines.gpt_sovits.front.prompt import prompt_signal
from segue_engines.gpt_sovits.front.resampling import resampled
from segue_engines.gpt_sovits.front.spectrogram import reference_signal, spectrogram
from segue_engines.gpt_sovits.models.catalog import SPEAKER
from segue_engines.gpt_sovits.models.preparing import prepare_model
from segue_engines.gpt_sovits.models.shared import speaker_network

SPECTROGRAM, FBANK, SPEAKER_VECTOR, RESAMPLING = 1e-3, 1e-3, 1e-4, 1e-5
QUIET = math.log(2e-5)
"""Below this, log energies are the rounding noise of a float32 FFT: the original's own differ by 3e-3 from the exact
ones there, and by the FFT library's choice of instructions."""


def test_the_spectrogram_is_the_originals() -> None:
    golden = case("front")
    found = spectrogram(reference_signal(golden["wav32k"], rate_hz=32_000))
    assert largest_difference(found, golden["spec"]) <= SPECTROGRAM


def test_log_mel_energies_are_the_originals() -> None:
    golden = case("front")
    found, expected = fbank(golden["wav16k"]), golden["fbank"]
    assert found.shape == expected.shape
    differences = (found - expected).abs()
    assert float(differences[expected > QUIET].max()) <= FBANK
    assert float(differences.max()) <= 1e-2
    assert float((found.exp() - expected.exp()).abs()[expected <= QUIET].max()) <= 1e-8


def test_the_speaker_vector_is_the_originals(tmp_path: Path) -> None:
    """From a file as published: float16, counters and a head that is not used among the tensors."""
    golden = case("front")
    weights = {name: Tensor.of(array, "float16" if array.ndim else None) for name, array in golden.weights().items()}
    prepared = prepare_model(SPEAKER, write_torch_file(tmp_path / "sv.ckpt", weights))
    network = speaker_network(PartView(tensors=prepared.tensors))
    assert largest_difference(network.vector(golden["wav16k"]), golden["sv_emb"]) <= SPEAKER_VECTOR


@pytest.mark.parametrize(("source", "target"), [(44100, 32000), (48000, 32000), (24000, 32000), (32000, 16000)])
def test_resampling_is_the_originals(source: int, target: int) -> None:
    golden = case("front")
    found = resampled(golden[f"resample_{source}_in"], source_hz=source, target_hz=target)
    assert largest_difference(found, golden[f"resample_{source}_to_{target}"]) <= RESAMPLING


def test_two_channels_are_averaged_and_a_loud_recording_is_divided_by_its_peak_at_most_by_two() -> None:
    stereo = torch.tensor([[3.0, -1.0], [1.0, -2.0]])
    assert torch.equal(reference_signal(stereo, rate_hz=32_000), torch.tensor([1.0, -0.75]))
    assert torch.equal(reference_signal(torch.tensor([6.0, 1.0]), rate_hz=32_000), torch.tensor([3.0, 0.5]))
    assert torch.equal(reference_signal(torch.tensor([0.5, -0.25]), rate_hz=32_000), torch.tensor([0.5, -0.25]))


def test_a_prompt_has_silence_after_it_and_keeps_its_level() -> None:
    recording = np.full((4 * 16_000, 2), 1.5, np.float32)
    signal = prompt_signal(recording, rate_hz=16_000)
    assert signal.shape == (4 * 16_000 + 9_600,)
    assert np.all(signal[: 4 * 16_000] == 1.5)
    assert not signal[4 * 16_000 :].any()


@pytest.mark.parametrize(("seconds", "fits"), [(2.99, False), (3.0, True), (10.0, True), (10.01, False)])
def test_a_prompt_must_last_three_to_ten_seconds(seconds: float, fits: bool) -> None:
    recording = np.zeros(round(seconds * 32_000), np.float32)
    if fits:
        assert len(prompt_signal(recording, rate_hz=32_000)) == round(seconds * 16_000) + 9_600
    else:
        with pytest.raises(WeightsError, match=r"must be 3 to 10 s"):
            prompt_signal(recording, rate_hz=32_000)


def test_a_recording_too_short_for_one_frame_is_refused() -> None:
    with pytest.raises(WeightsError, match="needs more than 704"):
        spectrogram(torch.zeros(704))
    with pytest.raises(WeightsError, match="a speaker needs 400"):
        fbank(torch.zeros(399))
