"""A weight file is read exactly, or refused with its name, the tensor or key, what was expected and what was found."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.gpt_sovits.files import (
    WeightFile,
    as_hparams,
    small_sovits_file,
    small_t2s_file,
    sovits_file,
    t2s_file,
    table,
)
from tests.support.gpt_sovits.torch_writer import Tensor
from tests.support.gpt_sovits.weights import DrawnTensors
from tests.unit.containers.pickles import PROTO, STOP, archive, dict_of, named, text, tuple_of

from segue.errors import ShapeMismatch, UnsafePickle, WeightsError
from segue_engines.gpt_sovits.formats import (
    Limits,
    ModelVersion,
    UnsupportedVersion,
    open_sovits,
    open_t2s,
    read_sovits,
    read_t2s,
    sovits_shapes,
)
from segue_engines.gpt_sovits.formats.shapes import UNUSED

PHONES = "enc_p.text_embedding.weight"
CODEBOOK = "quantizer.vq.layers.0._codebook.embed"


def replaced(file: WeightFile, name: str, array: Any, dtype: str | None = None) -> WeightFile:
    file.tensors[name] = Tensor.of(array, dtype)
    return file


@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
def test_a_t2s_file_is_read_exactly_whatever_it_is_stored_in(tmp_path: Path, dtype: str) -> None:
    path = t2s_file("t2s-reduced-b", seed=107, dtype=dtype).write(tmp_path / "n-e15.ckpt")
    found = read_t2s(path)
    drawn = DrawnTensors(table("t2s-reduced-b").shapes, seed=107)
    assert (found.config.hidden_dim, found.config.head, found.config.n_layer) == (128, 4, 3)
    assert found.info == "GPT-e15"
    assert list(found.tensors) == list(drawn)
    for name, array in found.tensors.items():
        assert array.flags.c_contiguous
        assert array.dtype == (np.float16 if dtype == "float16" else np.float32)
        expected = drawn[name]
        np.testing.assert_allclose(array, expected, rtol=2**-8 if dtype == "bfloat16" else 0, atol=0, err_msg=name)


@pytest.mark.parametrize("version", ["v2", "v2Pro", "v2ProPlus"])
def test_a_sovits_file_is_read_exactly_by_its_version(tmp_path: Path, version: str) -> None:
    name = f"sovits-{version.lower()}-reduced"
    found = read_sovits(sovits_file(name, seed=201).write(tmp_path / "n_e8_s200.pth"))
    drawn = DrawnTensors(table(name).shapes, seed=201)
    assert found.version == found.config.version == ModelVersion(version)
    assert found.info == "8epoch_200iteration"
    assert found.tensors.keys() == drawn.keys() - UNUSED
    for key, array in found.tensors.items():
        np.testing.assert_array_equal(array, drawn[key], err_msg=key)


def test_no_tensor_is_read_before_it_is_asked_for(tmp_path: Path) -> None:
    path = sovits_file("sovits-v2pro-reduced").write(tmp_path / "n.pth")
    tracemalloc.start()
    with open_sovits(path) as checkpoint:
        opened = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        largest = max(checkpoint.tensors[name].nbytes for name in checkpoint.tensors)
        peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert opened < 4 << 20
    assert peak < opened + 2.6 * largest


def test_a_tensor_can_be_read_again_and_belongs_to_the_caller(tmp_path: Path) -> None:
    with open_t2s(small_t2s_file().write(tmp_path / "n.ckpt")) as checkpoint:
        name = next(iter(checkpoint.tensors))
        first = checkpoint.tensors[name]
        kept = first.copy()
        first[:] = 0
        np.testing.assert_array_equal(checkpoint.tensors[name], kept)
        assert "weight" not in checkpoint.tensors
        assert len(checkpoint.tensors) == 19


def test_training_only_tensors_are_passed_over(tmp_path: Path) -> None:
    file = small_sovits_file()
    file.tensors["enc_q.pre.weight"] = Tensor.of(np.full((4, 4), np.nan, np.float32))
    replaced(file, "quantizer.vq.layers.0._codebook.cluster_size", np.full(1024, np.inf, np.float16))
    found = read_sovits(file.write(tmp_path / "n.pth"))
    assert found.tensors.keys() == sovits_shapes(found.config).keys()


# -- versions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        (b"02", r"n\.pth: a GPT-SoVITS v3 voice; .*diffusion.*served are v2, v2Pro, v2ProPlus: train the same data"),
        (b"03", r"n\.pth: a LoRA of GPT-SoVITS v3, which holds only differences"),
        (b"04", r"n\.pth: a LoRA of GPT-SoVITS v4, which holds only differences"),
    ],
)
def test_a_version_that_is_not_served_is_named_by_its_marker(tmp_path: Path, marker: bytes, message: str) -> None:
    file = small_sovits_file()
    file.marker = marker
    with pytest.raises(UnsupportedVersion, match=message), open_sovits(file.write(tmp_path / "n.pth")):
        pass


def test_a_marker_of_the_future_is_named_beside_those_that_are_known(tmp_path: Path) -> None:
    file = small_sovits_file()
    file.marker = b"07"
    with pytest.raises(UnsupportedVersion, match=r"marker b'07', which is not known; known are 00 \(v1\), 01 \(v2\)"):
        read_sovits(file.write(tmp_path / "n.pth"))


@pytest.mark.parametrize("marker", [b"PK", b"00"])
def test_v1_is_known_by_its_phonemes(tmp_path: Path, marker: bytes) -> None:
    file = replaced(small_sovits_file("v2"), PHONES, np.zeros((322, 192), np.float16))
    file.marker = marker
    with pytest.raises(UnsupportedVersion, match=r"a GPT-SoVITS v1 voice; v1 reads another set of phonemes"):
        read_sovits(file.write(tmp_path / "n.pth"))


@pytest.mark.parametrize("marker", [b"PK", b"00", b"01"])
def test_a_file_with_the_phonemes_of_v2_is_v2_whatever_a_v1_marker_says(tmp_path: Path, marker: bytes) -> None:
    file = small_sovits_file("v2")
    file.marker = marker
    assert read_sovits(file.write(tmp_path / "n.pth")).version is ModelVersion.V2


def test_a_pro_file_without_its_marker_is_known_by_its_speaker_embedding(tmp_path: Path) -> None:
    for version in ("v2Pro", "v2ProPlus"):
        file = small_sovits_file(version)
        file.marker = b"PK"
        assert read_sovits(file.write(tmp_path / "n.pth")).version is ModelVersion(version)


@pytest.mark.parametrize(("said", "version"), [("v3", "v3"), ("v4", "v4"), (None, "v3")])
def test_an_unmarked_file_with_a_diffusion_model_is_v3_or_v4(tmp_path: Path, said: str | None, version: str) -> None:
    file = small_sovits_file("v2")
    file.tensors["cfm.estimator.proj.weight"] = Tensor.of(np.zeros((2, 2), np.float16))
    file.data["config"]["version"] = said
    with pytest.raises(UnsupportedVersion, match=f"a GPT-SoVITS {version} voice"):
        read_sovits(file.write(tmp_path / "n.pth"))


@pytest.mark.parametrize("how", ["rank", "names"])
def test_an_unmarked_lora_is_known_by_what_it_holds(tmp_path: Path, how: str) -> None:
    file = small_sovits_file("v2")
    if how == "rank":
        file.data["lora_rank"] = 32
    else:
        file.tensors["cfm.estimator.proj.lora_A.weight"] = Tensor.of(np.zeros((2, 2), np.float16))
    with pytest.raises(UnsupportedVersion, match="a LoRA of GPT-SoVITS v3"):
        read_sovits(file.write(tmp_path / "n.pth"))


def test_a_v1_gpt_file_is_named(tmp_path: Path) -> None:
    file = small_t2s_file()
    file.model["phoneme_vocab_size"] = 512
    with pytest.raises(UnsupportedVersion, match=r"n\.ckpt: a GPT-SoVITS v1 file \(512 phonemes\)"):
        read_t2s(file.write(tmp_path / "n.ckpt"))


def test_the_config_of_newer_trainers_is_a_plain_dict(tmp_path: Path) -> None:
    file = small_sovits_file()
    file.data["config"] = dict(file.data["config"])
    assert read_sovits(file.write(tmp_path / "n.pth")).version is ModelVersion.V2_PRO


def test_swapped_halves_are_noticed(tmp_path: Path) -> None:
    sovits = small_sovits_file("v2").write(tmp_path / "s.pth")
    gpt = small_t2s_file().write(tmp_path / "g.ckpt")
    with pytest.raises(WeightsError, match=r"s\.pth: a SoVITS file where the GPT half .* swap the two"):
        read_t2s(sovits)
    with pytest.raises(WeightsError, match=r"g\.ckpt: a GPT file where the SoVITS half .* swap the two"):
        read_sovits(gpt)


# -- tensors ----------------------------------------------------------------------------------------------------------


def _drop(file: WeightFile) -> None:
    del file.tensors[CODEBOOK], file.tensors["ssl_proj.bias"]


def _add(file: WeightFile) -> None:
    replaced(file, "dec.extra.weight", np.zeros(3, np.float16))


def _reshape(file: WeightFile) -> None:
    replaced(file, PHONES, np.zeros((731, 192), np.float16))


def _retype(file: WeightFile) -> None:
    replaced(file, PHONES, np.zeros((732, 192), np.int64))


def _widen(file: WeightFile) -> None:
    replaced(file, PHONES, np.zeros((732, 192), np.float64))


TENSORS: dict[str, tuple[Callable[[WeightFile], None], str]] = {
    "missing": (_drop, r"tensor 'ssl_proj.bias' is missing \(2 in all\); expected shape \(768,\)"),
    "unknown": (_add, r"unknown tensor 'dec.extra.weight' \(1 in all\)"),
    "shape": (_reshape, rf"tensor '{PHONES}' has shape \(731, 192\); expected \(732, 192\)"),
    "integers": (_retype, rf"tensor '{PHONES}' is int64; expected float16, float32, bfloat16"),
    "doubles": (_widen, rf"tensor '{PHONES}' is float64; expected float16, float32, bfloat16"),
}


@pytest.mark.parametrize("case", TENSORS)
def test_a_tensor_that_does_not_fit_is_named_with_what_was_expected(tmp_path: Path, case: str) -> None:
    change, message = TENSORS[case]
    file = small_sovits_file()
    change(file)
    with pytest.raises(ShapeMismatch, match=r"n\.pth: " + message), open_sovits(file.write(tmp_path / "n.pth")):
        pass


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_voice_whose_training_diverged_is_refused(tmp_path: Path, value: float) -> None:
    array = np.zeros((16, 1024), np.float32)
    array[3, 5] = array[7, 0] = value
    path = replaced(small_t2s_file(), "model.bert_proj.weight", array, "float16").write(tmp_path / "n.ckpt")
    message = r"n\.ckpt: tensor 'model.bert_proj.weight' holds 2 numbers that are NaN or infinite: .*earlier epoch"
    with pytest.raises(WeightsError, match=message):
        read_t2s(path)


# -- config -----------------------------------------------------------------------------------------------------------

SOVITS_CONFIGS: dict[str, tuple[str, Any, str]] = {
    "no layers": ("n_layers", 0, r"config.model.n_layers is 0; expected a whole number from 2 to 64"),
    "a fraction": ("n_layers", 6.0, r"config.model.n_layers is 6.0; expected a whole number"),
    "a truth": ("n_layers", True, r"config.model.n_layers is True; expected a whole number"),
    "nothing": ("n_layers", None, r"config.model.n_layers is None; expected a whole number"),
    "a bomb": ("filter_channels", 1 << 40, r"config.model.filter_channels is 1099511627776; expected"),
    "odd halves": ("inter_channels", 3, r"config.model.inter_channels is 3; expected an even number"),
    "another width": ("hidden_channels", 256, r"config.model.hidden_channels is 256; expected 192"),
    "heads": ("n_heads", 5, r"config.model.n_heads is 5; expected a divisor of 192"),
    "an even kernel": ("kernel_size", 4, r"config.model.kernel_size is 4; expected an odd number"),
    "another block": ("resblock", "2", r"config.model.resblock is '2'; expected '1'"),
    "50 Hz": ("semantic_frame_rate", "50hz", r"config.model.semantic_frame_rate is '50hz'; expected '25hz'"),
    "another hop": ("upsample_rates", [10, 8, 2, 2], r"upsample_rates is a list; expected a product of 640, not 320"),
    "no list": ("upsample_rates", 640, r"config.model.upsample_rates is 640; expected a list of 1 to 8 numbers"),
    "a long list": ("upsample_rates", [1] * 9, r"config.model.upsample_rates is a list; expected a list of 1 to 8"),
    "words in a list": ("upsample_rates", ["10"], r"config.model.upsample_rates\[0\] is '10'; expected a whole number"),
    "short kernels": ("upsample_kernel_sizes", [16, 16, 8, 2], r"upsample_kernel_sizes is a list; expected, for rates"),
    "odd excess": ("upsample_kernel_sizes", [16, 16, 8, 2, 3], r"upsample_kernel_sizes is a list; expected, for rates"),
    "no halving": ("upsample_initial_channel", 48, r"upsample_initial_channel is 48; expected a multiple of 32"),
    "even blocks": ("resblock_kernel_sizes", [3, 4, 11], r"resblock_kernel_sizes is a list; expected odd numbers"),
    "few dilations": ("resblock_dilation_sizes", [[1, 3, 5]], r"resblock_dilation_sizes .*; expected 3 lists of three"),
    "flat dilations": ("resblock_dilation_sizes", [1, 3, 5], r"resblock_dilation_sizes\[0\] is 1; expected a list"),
}


@pytest.mark.parametrize("case", SOVITS_CONFIGS)
def test_a_sovits_config_that_no_network_can_be_built_by_is_refused(tmp_path: Path, case: str) -> None:
    key, value, message = SOVITS_CONFIGS[case]
    file = small_sovits_file()
    file.model[key] = as_hparams(value)
    with pytest.raises(WeightsError, match=r"n\.pth: .*" + message), open_sovits(file.write(tmp_path / "n.pth")):
        pass


def test_v2_needs_the_width_of_its_cross_attention(tmp_path: Path) -> None:
    file = small_sovits_file("v2")
    file.model["gin_channels"] = 256
    with pytest.raises(WeightsError, match=r"config.model.gin_channels is 256; expected 512 in a v2 voice"):
        read_sovits(file.write(tmp_path / "n.pth"))


@pytest.mark.parametrize("key", ["sampling_rate", "hop_length", "filter_length", "win_length"])
def test_another_sound_format_is_refused(tmp_path: Path, key: str) -> None:
    file = small_sovits_file()
    file.data["config"]["data"][key] = 1
    with pytest.raises(WeightsError, match=rf"config.data.{key} is 1; expected"):
        read_sovits(file.write(tmp_path / "n.pth"))


def test_a_config_of_sizes_alone_will_do(tmp_path: Path) -> None:
    gpt, sovits = small_t2s_file(), small_sovits_file()
    for file in (gpt, sovits):
        file.data["config"] = {"model": file.model}
    assert read_t2s(gpt.write(tmp_path / "n.ckpt")).config.max_sec == 54
    assert read_sovits(sovits.write(tmp_path / "n.pth")).config.gin_channels == 8


def test_the_longest_clip_of_the_training_is_kept(tmp_path: Path) -> None:
    file = small_t2s_file()
    file.data["config"]["data"]["max_sec"] = 20
    assert read_t2s(file.write(tmp_path / "n.ckpt")).config.max_sec == 20
    file.data["config"]["data"]["max_sec"] = 0
    with pytest.raises(WeightsError, match=r"config.data.max_sec is 0; expected a whole number from 1 to 3600"):
        read_t2s(file.write(tmp_path / "n.ckpt"))


T2S_CONFIGS: dict[str, tuple[str, Any, str]] = {
    "heads": ("head", 3, r"config.model.hidden_dim is 16; expected an even number that 3 heads divide"),
    "two widths": ("embedding_dim", 32, r"config.model.embedding_dim is 32; expected 16"),
    "another vocabulary": ("vocab_size", 1024, r"config.model.vocab_size is 1024; expected 1025"),
    "another end": ("EOS", 0, r"config.model.EOS is 0; expected 1024"),
    "phonemes": ("phoneme_vocab_size", 700, r"config.model.phoneme_vocab_size is 700; expected 732"),
    "many layers": ("n_layer", 10**9, r"config.model.n_layer is 1000000000; expected a whole number from 1 to 96"),
}


@pytest.mark.parametrize("case", T2S_CONFIGS)
def test_a_t2s_config_that_no_network_can_be_built_by_is_refused(tmp_path: Path, case: str) -> None:
    key, value, message = T2S_CONFIGS[case]
    file = small_t2s_file()
    file.model[key] = value
    with pytest.raises(WeightsError, match=r"n\.ckpt: " + message):
        read_t2s(file.write(tmp_path / "n.ckpt"))


@pytest.mark.parametrize("config", [None, [], "config", {"model": None}, {"model": []}])
def test_a_config_that_is_none_is_refused(tmp_path: Path, config: Any) -> None:
    gpt, sovits = small_t2s_file(), small_sovits_file()
    gpt.data["config"] = sovits.data["config"] = config
    with pytest.raises(WeightsError, match=r"n\.ckpt: config.* expected a dict"):
        read_t2s(gpt.write(tmp_path / "n.ckpt"))
    with pytest.raises(WeightsError, match=r"n\.pth: config.* expected a dict"):
        read_sovits(sovits.write(tmp_path / "n.pth"))


# -- containers -------------------------------------------------------------------------------------------------------


def test_limits_hold_before_memory_is_taken(tmp_path: Path) -> None:
    path = small_sovits_file().write(tmp_path / "n.pth")
    with pytest.raises(WeightsError, match=r"n\.pth: tensor 'weight/.*the limit is 1000000"):
        read_sovits(path, Limits(max_tensor_bytes=1_000_000))
    with pytest.raises(WeightsError, match=r"n\.pth: its tensors take more than the limit of 5000000 bytes"):
        read_sovits(path, Limits(max_total_bytes=5_000_000))


def test_a_training_checkpoint_is_told_from_a_voice(tmp_path: Path) -> None:
    file = small_t2s_file()
    path = tmp_path / "n.ckpt"
    WeightFile(tensors=file.tensors, data={}).write(path)
    with pytest.raises(WeightsError, match=r"n\.ckpt: no `weight` and `config` in it; .*not a training checkpoint"):
        read_t2s(path)


@pytest.mark.parametrize("content", [b"", b"P", b"05", b"not a torch file at all", b"\x80\x02."])
def test_what_is_no_torch_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "n.pth"
    path.write_bytes(content)
    for read in (read_sovits, read_t2s):
        with pytest.raises(WeightsError, match=r"n\.pth: "):
            read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for read in (read_sovits, read_t2s):
        with pytest.raises(WeightsError, match=r"n\.pth: cannot be read: No such file"):
            read(tmp_path / "n.pth")


@pytest.mark.parametrize("place", ["config", "weight", "info"])
def test_a_gadget_anywhere_is_named_and_never_run(tmp_path: Path, place: str) -> None:
    gadget = named("os", "system") + tuple_of(text("touch " + str(tmp_path / "ran"))) + b"R"
    path = tmp_path / "n.pth"
    path.write_bytes(archive(PROTO + dict_of(**{place: gadget}) + STOP))
    with pytest.raises(UnsafePickle, match=r"n\.pth: it asks for os\.system, which is not on the list"):
        read_sovits(path)
    assert list(tmp_path.iterdir()) == [path]


def test_torch_reads_what_the_tests_write(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = t2s_file("t2s-reduced-b", seed=3).write(tmp_path / "n.ckpt")
    found = torch.load(path, weights_only=True)
    drawn = DrawnTensors(table("t2s-reduced-b").shapes, seed=3)
    assert found["config"] == table("t2s-reduced-b").config
    assert list(found["weight"]) == list(drawn)
    for name, tensor in found["weight"].items():
        assert tensor.dtype is torch.float16
        np.testing.assert_array_equal(tensor.float().numpy(), drawn[name], err_msg=name)
