"""HuBERT and RoBERTa compute what `transformers` computes from the very same files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.gpt_sovits.pretrained import reduced_sizes, write_hubert, write_roberta
from tests.unit.engine_gpt_sovits_models.builders import plain
from torch import Tensor
from transformers import AutoTokenizer, BertModel, HubertModel

from segue_engines.gpt_sovits.models.catalog import HUBERT, ROBERTA
from segue_engines.gpt_sovits.models.config import HubertConfig, RobertaConfig
from segue_engines.gpt_sovits.models.preparing import ModelDtype, prepare_model
from segue_engines.gpt_sovits.models.roberta import RobertaNetwork
from segue_engines.gpt_sovits.models.shapes import hubert_shapes, roberta_shapes
from segue_engines.gpt_sovits.models.shared import hubert_network, roberta_network

NEAR = 1e-5
TEXTS = ("今天天气很好,我们一起去公园散步吧.", "啊!", "嗯-好…你呢?", "龘靐齉.", "一" * 510)


def _signal(seconds: float, seed: int = 1) -> Tensor:
    return torch.randn(round(16_000 * seconds), generator=torch.Generator().manual_seed(seed)) * 0.1


def _original_hubert(folder: Path) -> Any:
    return HubertModel.from_pretrained(folder, dtype=torch.float32)


def _original_roberta(folder: Path) -> Any:
    return BertModel.from_pretrained(folder, dtype=torch.float32, add_pooling_layer=False)


def _read_by_the_original(model: Any, ids: Tensor) -> Tensor:
    """As the original does: the third-last hidden state, without first and last token."""
    with torch.inference_mode():
        found: Tensor = model(ids[None], output_hidden_states=True).hidden_states[-3][0, 1:-1]
    return found


def _roberta(folder: Path, dtype: ModelDtype = ModelDtype.FP16) -> RobertaNetwork:
    return roberta_network(plain(prepare_model(ROBERTA, folder, dtype=dtype)))


def _largest(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).abs().max())


@pytest.mark.parametrize("dtype", [ModelDtype.FP16, ModelDtype.FP32])
@pytest.mark.parametrize("seconds", [0.025, 3.6, 10.6])
def test_hubert_hears_what_transformers_hears(hubert_folder: Path, dtype: ModelDtype, seconds: float) -> None:
    signal = _signal(seconds)
    with torch.inference_mode():
        expected = _original_hubert(hubert_folder)(signal[None]).last_hidden_state.transpose(1, 2)
    network = hubert_network(plain(prepare_model(HUBERT, hubert_folder, dtype=dtype)))
    assert _largest(network(signal), expected) <= NEAR


@pytest.mark.parametrize("dtype", [ModelDtype.FP16, ModelDtype.FP32])
def test_roberta_reads_what_transformers_reads(roberta_folder: Path, dtype: ModelDtype) -> None:
    original, tokenizer = _original_roberta(roberta_folder), AutoTokenizer.from_pretrained(roberta_folder)
    network = _roberta(roberta_folder, dtype)
    for text in TEXTS:
        ids = tokenizer(text, return_tensors="pt")["input_ids"][0]
        assert network.vocabulary.encode(text).tolist() == ids.tolist()
        assert _largest(torch.from_numpy(network.of(text)), _read_by_the_original(original, ids)) <= NEAR


def test_in_bfloat16_roberta_reads_nearly_the_same(roberta_folder: Path) -> None:
    exact, nearly = (_roberta(roberta_folder, dtype).of(TEXTS[0]) for dtype in (ModelDtype.FP32, ModelDtype.BF16))
    cosine = float((exact * nearly).sum() / np.linalg.norm(exact) / np.linalg.norm(nearly))
    assert 0.9999 <= cosine < 1.0


def test_files_of_safetensors_in_float32_do_as_well(tmp_path: Path) -> None:
    """Written here with its own names; `transformers` reads the same files."""
    sizes = reduced_sizes()
    write_hubert(tmp_path / "hubert", sizes, safetensors=True)
    write_roberta(tmp_path / "roberta", sizes, safetensors=True)
    signal = _signal(1.0)
    with torch.inference_mode():
        expected = _original_hubert(tmp_path / "hubert")(signal[None]).last_hidden_state.transpose(1, 2)
    assert _largest(hubert_network(plain(prepare_model(HUBERT, tmp_path / "hubert")))(signal), expected) <= NEAR
    network = _roberta(tmp_path / "roberta")
    ids = torch.from_numpy(network.vocabulary.encode(TEXTS[0]))
    expected = _read_by_the_original(_original_roberta(tmp_path / "roberta"), ids)
    assert _largest(torch.from_numpy(network.of(TEXTS[0])), expected) <= NEAR


def test_what_transformers_writes_today_is_read(hubert_folder: Path, roberta_folder: Path, tmp_path: Path) -> None:
    """Its safetensors, with its own config and the new names of normed weights."""
    _original_hubert(hubert_folder).save_pretrained(tmp_path / "hubert")
    signal = _signal(0.5)
    expected = hubert_network(plain(prepare_model(HUBERT, hubert_folder)))(signal)
    found = hubert_network(plain(prepare_model(HUBERT, tmp_path / "hubert", dtype=ModelDtype.FP32)))(signal)
    assert _largest(found, expected) <= NEAR
    _original_roberta(roberta_folder).save_pretrained(tmp_path / "roberta")
    shutil.copy(roberta_folder / "tokenizer.json", tmp_path / "roberta")
    found = torch.from_numpy(_roberta(tmp_path / "roberta", ModelDtype.FP32).of(TEXTS[0]))
    assert _largest(found, torch.from_numpy(_roberta(roberta_folder).of(TEXTS[0]))) <= NEAR


def test_a_list_of_words_stands_for_the_tokenizer(roberta_folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "pytorch_model.bin"):
        (tmp_path / name).symlink_to(roberta_folder / name)
    vocab = json.loads((roberta_folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    (tmp_path / "vocab.txt").write_text("".join(f"{token}\n" for token in vocab), encoding="utf-8")
    assert np.array_equal(_roberta(tmp_path).of(TEXTS[0]), _roberta(roberta_folder).of(TEXTS[0]))


def test_shapes_are_those_of_the_published_models(hubert_folder: Path, roberta_folder: Path) -> None:
    hubert = hubert_shapes(HubertConfig.read(hubert_folder / "config.json"))
    known = _shapes(_original_hubert(hubert_folder))
    normed = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
    for old, new in normed.items():
        known[f"encoder.pos_conv_embed.conv.{old}"] = known.pop(f"encoder.pos_conv_embed.conv.{new}")
    assert hubert == {name: shape for name, shape in known.items() if name != "masked_spec_embed"}
    roberta = roberta_shapes(RobertaConfig.read(roberta_folder / "config.json"))
    known = _shapes(_original_roberta(roberta_folder))
    assert roberta.items() <= known.items()
    assert {name.split(".")[2] for name in known.keys() - roberta.keys()} == {"2", "3"}, "only the last two layers"


def _shapes(model: Any) -> dict[str, tuple[int, ...]]:
    state: Mapping[str, Tensor] = model.state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def test_a_text_longer_than_roberta_reads_is_refused(roberta_folder: Path) -> None:
    with pytest.raises(ValueError, match="511 characters; RoBERTa reads 510"):
        _roberta(roberta_folder).of("一" * 511)
