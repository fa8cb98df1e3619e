"""A voice from its files and the files of the shared models: what is measured is what the original would measure."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tests.support.gpt_sovits.files import small_sovits_file, small_t2s_file
from tests.support.gpt_sovits.torch_writer import Tensor
from tests.unit.engine_gpt_sovits.golden import as_tensors
from tests.unit.engine_gpt_sovits_models.builders import plain
from transformers import HubertModel

from segue.engine import Device, PartView, PreparedVoice, PrepareOptions, ReferenceInput, SynthesisRequest, VoiceView
from segue.errors import WeightsError
from segue_engines.gpt_sovits.engine import GptSovitsEngine
from segue_engines.gpt_sovits.formats import fold_weight_norm, read_sovits
from segue_engines.gpt_sovits.front.prompt import prompt_signal
from segue_engines.gpt_sovits.front.resampling import resampled
from segue_engines.gpt_sovits.front.spectrogram import reference_signal, spectrogram
from segue_engines.gpt_sovits.models.catalog import HUBERT, ROBERTA, SPEAKER
from segue_engines.gpt_sovits.models.shared import roberta_network, speaker_network
from segue_engines.gpt_sovits.sovits.network import SovitsNetwork
from segue_engines.speak import synthesize

TEXT = "今天天气很好。"


@pytest.fixture(scope="module")
def shared(models: Path) -> dict[str, PartView]:
    prepared = GptSovitsEngine().prepare_models(models, PrepareOptions())
    assert not prepared.absent
    return {name: plain(part) for name, part in prepared.parts.items()}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("voice")
    return {
        "gpt": small_t2s_file().write(folder / "ann-e15.ckpt"),
        "sovits": small_sovits_file("v2Pro").write(folder / "ann_e8_s200.pth"),
        "v2": small_sovits_file("v2").write(folder / "old_e8_s200.pth"),
    }


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reference") / "said.wav"
    time = np.arange(4 * 44_100) / 44_100
    sound = np.sin(2 * np.pi * (120 + 40 * np.sin(3 * time)) * time) * np.sin(7 * time) ** 2
    soundfile.write(path, (0.5 * sound).astype(np.float32), 44_100, subtype="FLOAT")
    return path


def _prepare(
    files: dict[str, Path], recording: Path, shared: dict[str, PartView], *, sovits: str = "sovits"
) -> PreparedVoice:
    reference = ReferenceInput(path=recording, text=TEXT, language="zh")
    halves = {"gpt": files["gpt"], "sovits": files[sovits]}
    return GptSovitsEngine().prepare(halves, PrepareOptions(reference=reference, shared=shared))


@pytest.fixture(scope="module")
def prepared(files: dict[str, Path], recording: Path, shared: dict[str, PartView]) -> PreparedVoice:
    return _prepare(files, recording, shared)


def test_a_reference_is_measured_with_the_models_of_the_files(
    prepared: PreparedVoice, files: dict[str, Path], recording: Path, shared: dict[str, PartView], models: Path
) -> None:
    found = prepared.parts["reference"].tensors
    samples, rate_hz = soundfile.read(recording, dtype="float32")

    hubert = HubertModel.from_pretrained(models / "chinese-hubert-base", dtype=torch.float32)
    heard = torch.from_numpy(prompt_signal(samples, rate_hz=rate_hz))
    with torch.inference_mode():
        features = hubert(heard[None]).last_hidden_state.transpose(1, 2)
    checkpoint = read_sovits(files["sovits"])
    network = SovitsNetwork(
        checkpoint.config,
        {name: tensor.float() for name, tensor in as_tensors(fold_weight_norm(checkpoint.tensors)).items()},
    )
    assert found["prompt"].tolist() == network.codes_of(features).tolist()
    assert len(found["prompt"]) == 114, "4 s and 0.6 s of silence, 25 a second, whole pairs of whole features"

    signal = reference_signal(torch.from_numpy(samples), rate_hz=rate_hz)
    assert np.array_equal(found["spectrogram"], spectrogram(signal).numpy())
    speaker = speaker_network(shared[SPEAKER])
    expected = speaker.vector(resampled(signal, source_hz=32_000, target_hz=16_000))
    assert np.allclose(found["speaker"], expected.numpy(), rtol=1e-4, atol=1e-4)
    vectors = roberta_network(shared[ROBERTA]).of("今天天气很好.")
    assert np.array_equal(found["bert"], np.repeat(vectors, [2] * 6 + [1], axis=0).T)


def test_a_voice_from_files_speaks_chinese_and_english(prepared: PreparedVoice, shared: dict[str, PartView]) -> None:
    through_json = {
        name: PartView(tensors=part.tensors, meta=json.loads(json.dumps(part.meta)))
        for name, part in prepared.parts.items()
    }
    shared_by_json = {
        name: PartView(tensors=part.tensors, meta=json.loads(json.dumps(part.meta))) for name, part in shared.items()
    }
    voice = GptSovitsEngine().build(VoiceView(parts=through_json, shared=shared_by_json), Device())
    voice._max_steps = 30
    for text, language in ((TEXT, "zh"), ("Hello there.", "en")):
        samples = synthesize(voice, SynthesisRequest(text=text, language=language))
        assert samples.size >= 1280 * 11
        assert np.isfinite(samples).all()
    voice.close()


def test_without_hubert_no_voice_is_prepared(
    files: dict[str, Path], recording: Path, shared: dict[str, PartView]
) -> None:
    others = {name: part for name, part in shared.items() if name != HUBERT}
    with pytest.raises(WeightsError, match=r"no voice can be prepared .* add chinese-hubert-base to the shared models"):
        _prepare(files, recording, others)


def test_without_the_speaker_network_a_pro_voice_is_refused_and_a_v2_voice_is_not(
    files: dict[str, Path], recording: Path, shared: dict[str, PartView]
) -> None:
    others = {name: part for name, part in shared.items() if name != SPEAKER}
    with pytest.raises(WeightsError, match=r"add pretrained_eres2netv2w24s4ep4\.ckpt to the shared models"):
        _prepare(files, recording, others)
    assert "speaker" not in _prepare(files, recording, others, sovits="v2").parts["reference"].tensors


def test_without_roberta_chinese_has_no_features(
    files: dict[str, Path], recording: Path, shared: dict[str, PartView]
) -> None:
    others = {name: part for name, part in shared.items() if name != ROBERTA}
    assert "bert" not in _prepare(files, recording, others, sovits="v2").parts["reference"].tensors


def test_a_value_too_large_for_the_serving_type_is_told_with_its_file(
    files: dict[str, Path], recording: Path, shared: dict[str, PartView], tmp_path: Path
) -> None:
    file = small_t2s_file(dtype="float32")
    name = "model.h.layers.0.linear1.weight"
    huge = file.tensors[name].make().copy()
    huge[0, 0] = np.finfo(np.float32).max
    file.tensors[name] = Tensor.of(huge)
    halves = {"gpt": file.write(tmp_path / "big-e1.ckpt"), "sovits": files["sovits"]}
    reference = ReferenceInput(path=recording, text=TEXT, language="zh")
    with pytest.raises(WeightsError, match=r"big-e1\.ckpt: tensor 'model\.h\.layers\.0\.linear1\.weight' has 1 values"):
        GptSovitsEngine().prepare(halves, PrepareOptions(reference=reference, shared=shared, options={"dtype": "bf16"}))
