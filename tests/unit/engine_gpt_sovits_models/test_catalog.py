"""The shared models are found where the original keeps them, and their absence is said with what it costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from segue_engines.gpt_sovits.models.catalog import SHARED_MODELS, find_models, model_files

MODELS = "GPT_SoVITS/pretrained_models"


def put(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def test_all_are_found_where_the_original_keeps_them(tmp_path: Path) -> None:
    put(
        tmp_path,
        f"{MODELS}/chinese-hubert-base/config.json",
        f"{MODELS}/chinese-hubert-base/pytorch_model.bin",
        f"{MODELS}/chinese-roberta-wwm-ext-large/config.json",
        f"{MODELS}/chinese-roberta-wwm-ext-large/tokenizer.json",
        f"{MODELS}/chinese-roberta-wwm-ext-large/model.safetensors",
        f"{MODELS}/sv/pretrained_eres2netv2w24s4ep4.ckpt",
        "GPT_SoVITS/text/G2PWModel/g2pW.onnx",
    )
    found = find_models(tmp_path)
    assert [model.path and model.path.name for model in found] == [model.title for model in SHARED_MODELS]
    assert not any(model.missing for model in found)


@pytest.mark.parametrize("root", [MODELS, "pretrained_models", "."])
def test_what_a_hub_is_asked_for_is_found_in_every_layout(tmp_path: Path, root: str) -> None:
    put(tmp_path / root, *(file for files in model_files().values() for file in files))
    assert [model.model.name for model in find_models(tmp_path) if model.path] == list(model_files())


def test_what_is_absent_is_named_by_its_place(tmp_path: Path) -> None:
    found = {model.model.title: model for model in find_models(tmp_path)}
    assert all(model.path is None for model in found.values())
    assert found["G2PWModel"].missing == "GPT_SoVITS/text/G2PWModel is not there"
    assert "v2Pro and v2ProPlus voices cannot be prepared" in found["pretrained_eres2netv2w24s4ep4.ckpt"].model.disables


def test_a_folder_without_its_weights_is_not_taken_for_the_model(tmp_path: Path) -> None:
    put(tmp_path, f"{MODELS}/chinese-hubert-base/config.json")
    found = find_models(tmp_path)[0]
    assert found.path is None
    assert found.missing == f"{MODELS}/chinese-hubert-base lacks pytorch_model.bin or model.safetensors"
