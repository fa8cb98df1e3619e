"""Files of shared models that are wrong are refused with the file, the tensor and what was expected."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.gpt_sovits.pretrained import write_safetensors
from tests.support.gpt_sovits.torch_writer import Tensor, write_torch_file

from segue.containers import load_torch_file
from segue.engine import PrepareOptions
from segue.errors import InvalidVoiceModel, ShapeMismatch, UnsafePickle, WeightsError
from segue_engines.gpt_sovits.engine import GptSovitsEngine
from segue_engines.gpt_sovits.formats import Limits
from segue_engines.gpt_sovits.models.catalog import HUBERT, ROBERTA, SPEAKER
from segue_engines.gpt_sovits.models.preparing import CHARACTERS, prepare_model

Tensors = dict[str, Tensor]


def _copy(folder: Path, to: Path, change: Callable[[Tensors], None] = lambda _: None, **config: Any) -> Path:
    """A folder again, with other tensors or another config."""
    to.mkdir()
    values = json.loads((folder / "config.json").read_text(encoding="utf-8")) | config
    (to / "config.json").write_text(json.dumps(values), encoding="utf-8")
    if (folder / "tokenizer.json").exists():
        (to / "tokenizer.json").symlink_to(folder / "tokenizer.json")
    stored = load_torch_file(folder / "pytorch_model.bin").tensors
    tensors = {name: Tensor.of(array) for name, array in stored.items()}
    change(tensors)
    write_torch_file(to / "pytorch_model.bin", tensors)
    return to


def test_a_missing_tensor_is_named(hubert_folder: Path, tmp_path: Path) -> None:
    folder = _copy(hubert_folder, tmp_path / "h", lambda all_: all_.__delitem__("encoder.layer_norm.bias"))
    with pytest.raises(
        ShapeMismatch, match=r"chinese-hubert-base: pytorch_model\.bin: tensor 'encoder\.layer_norm\.bias' is missing"
    ):
        prepare_model(HUBERT, folder)


def test_a_tensor_of_another_shape_is_named_with_both_shapes(roberta_folder: Path, tmp_path: Path) -> None:
    name = "bert.encoder.layer.0.intermediate.dense.weight"
    folder = _copy(
        roberta_folder,
        tmp_path / "r",
        lambda all_: all_.update({name: Tensor.of(np.zeros((65, 1024), np.float16))}),
    )
    with pytest.raises(ShapeMismatch, match=r"dense\.weight' has shape \(65, 1024\); expected \(64, 1024\)"):
        prepare_model(ROBERTA, folder)


def test_whole_numbers_are_no_weights(hubert_folder: Path, tmp_path: Path) -> None:
    name = "encoder.layer_norm.bias"
    folder = _copy(hubert_folder, tmp_path / "h", lambda all_: all_.update({name: Tensor.of(np.zeros(768, np.int64))}))
    with pytest.raises(ShapeMismatch, match="is int64; expected float16, float32, bfloat16"):
        prepare_model(HUBERT, folder)


def test_numbers_that_are_none_are_refused(hubert_folder: Path, tmp_path: Path) -> None:
    name = "encoder.layer_norm.bias"
    folder = _copy(
        hubert_folder, tmp_path / "h", lambda all_: all_.update({name: Tensor.of(np.full(768, np.nan, np.float16))})
    )
    with pytest.raises(WeightsError, match=r"'encoder\.layer_norm\.bias' holds numbers that are NaN or infinite"):
        prepare_model(HUBERT, folder)


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"model_type": "wav2vec2"}, r"config\.model_type is 'wav2vec2'; expected 'hubert'"),
        ({"hidden_size": 1024}, r"config\.hidden_size is 1024; expected 768"),
        ({"do_stable_layer_norm": True}, r"config\.do_stable_layer_norm is True; expected False"),
        ({"num_hidden_layers": 10**9}, "expected a whole number from 1 to 64"),
        ({"num_attention_heads": 5}, "expected a divisor of 768"),
        ({"conv_stride": [5, 2, 2, 2, 2, 2, 1]}, "50 features a second"),
        ({"layer_norm_eps": "small"}, "expected a number from"),
        ({"conv_dim": [32] * 6}, "expected 7 numbers"),
    ],
)
def test_a_config_that_no_hubert_has_is_refused(
    hubert_folder: Path, tmp_path: Path, config: dict[str, Any], complaint: str
) -> None:
    folder = _copy(hubert_folder, tmp_path / "h", **config)
    with pytest.raises(WeightsError, match=complaint):
        prepare_model(HUBERT, folder)


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"hidden_size": 768}, r"config\.hidden_size is 768; expected 1024"),
        ({"num_hidden_layers": 2}, "expected a whole number from 3 to 64"),
        ({"max_position_embeddings": 128}, "from 512"),
        ({"vocab_size": 200}, "has the id 3943; the network of its config knows 200 tokens"),
        ({"position_embedding_type": "relative_key"}, "expected 'absolute'"),
    ],
)
def test_a_config_that_no_roberta_of_these_voices_has_is_refused(
    roberta_folder: Path, tmp_path: Path, config: dict[str, Any], complaint: str
) -> None:
    folder = _copy(roberta_folder, tmp_path / "r", **config)
    with pytest.raises(WeightsError, match=complaint):
        prepare_model(ROBERTA, folder)


@pytest.mark.parametrize(
    ("vocabulary", "complaint"),
    [
        (b"[1, 2", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'{"model": {"type": "BPE", "vocab": {}}}', "no vocabulary of word pieces"),
        (b'{"model": {"vocab": {"[UNK]": 0}}}', r"\[CLS\] is missing"),
        (b'{"model": {"vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": -2}}}', "no whole numbers"),
        (b'{"model": {"vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}}}', "no character of its own"),
    ],
)
def test_a_tokenizer_of_another_kind_is_refused(
    roberta_folder: Path, tmp_path: Path, vocabulary: bytes, complaint: str
) -> None:
    for name in ("config.json", "pytorch_model.bin"):
        (tmp_path / name).symlink_to(roberta_folder / name)
    (tmp_path / "tokenizer.json").write_bytes(vocabulary)
    with pytest.raises(WeightsError, match=complaint):
        prepare_model(ROBERTA, tmp_path)


def test_what_takes_more_than_the_limit_is_refused_unread(roberta_folder: Path) -> None:
    with pytest.raises(WeightsError, match="the limit is 4000000"):
        prepare_model(ROBERTA, roberta_folder, limits=Limits(max_tensor_bytes=4_000_000))


def test_a_program_instead_of_weights_is_not_run(hubert_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").symlink_to(hubert_folder / "config.json")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.")
    with pytest.raises(WeightsError, match="a bare pickle"):
        prepare_model(HUBERT, tmp_path)
    write_torch_file(tmp_path / "pytorch_model.bin", {})
    raw = (tmp_path / "pytorch_model.bin").read_bytes()
    assert raw, "a file that can be read, and lacks everything"
    with pytest.raises((ShapeMismatch, UnsafePickle), match="is missing"):
        prepare_model(HUBERT, tmp_path)


def test_names_from_before_torch_renamed_them_are_read(roberta_folder: Path, tmp_path: Path) -> None:
    def rename(tensors: Tensors) -> None:
        for name in list(tensors):
            old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            tensors[old.removeprefix("bert.")] = tensors.pop(name)

    found = prepare_model(ROBERTA, _copy(roberta_folder, tmp_path / "r", rename))
    expected = prepare_model(ROBERTA, roberta_folder)
    assert found.meta == expected.meta
    assert all(np.array_equal(found.tensors[name], array) for name, array in expected.tensors.items())


def test_heads_and_layers_that_nobody_asks_for_are_left_out(roberta_folder: Path, hubert_folder: Path) -> None:
    roberta = prepare_model(ROBERTA, roberta_folder)
    assert not any(name.startswith(("cls", "encoder.layer.2", "embeddings.position_ids")) for name in roberta.tensors)
    assert "masked_spec_embed" not in prepare_model(HUBERT, hubert_folder).tensors
    assert len(roberta.tensors[CHARACTERS]) > 3_000
    assert len(json.dumps(roberta.meta)) < 1_000, "it travels in the header of an arena"


def test_what_is_there_is_prepared_and_what_is_not_is_told_with_its_cost(hubert_folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "GPT_SoVITS" / "pretrained_models"
    root.mkdir(parents=True)
    (root / "chinese-hubert-base").symlink_to(hubert_folder)
    prepared = GptSovitsEngine().prepare_models(tmp_path, PrepareOptions())
    assert set(prepared.parts) == {HUBERT}
    assert set(prepared.absent) == {ROBERTA, SPEAKER}
    assert prepared.absent[SPEAKER].startswith(
        "GPT_SoVITS/pretrained_models/sv/pretrained_eres2netv2w24s4ep4.ckpt is not there; without it: v2Pro"
    )


@pytest.mark.parametrize("options", [{"dtype": "int3"}, {"quality": 1}])
def test_options_that_the_models_lack_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidVoiceModel):
        GptSovitsEngine().prepare_models(tmp_path, PrepareOptions(options=options))


def test_a_cut_speaker_network_is_refused(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "x.safetensors", {"conv1.weight": Tensor.of(np.zeros((64, 1, 3, 3), np.float32))})
    with pytest.raises(ShapeMismatch, match=r"tensor 'bn1\.weight' is missing; expected shape \(64,\)"):
        prepare_model(SPEAKER, tmp_path / "x.safetensors")
