"""What is served: weight norm folded in float32, then one type for all."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from tests.support.gpt_sovits.files import small_sovits_file, sovits_file

from segue.errors import ShapeMismatch, WeightsError
from segue_engines.gpt_sovits.formats import ServingDtype, cast, fold_weight_norm, open_sovits, read_sovits
from segue_engines.gpt_sovits.formats.casting import bfloat16_bits, from_bfloat16_bits

NORMED = {"a.weight_g": np.array([2.0, 0.5], np.float16).reshape(2, 1, 1)}


def test_weight_norm_scales_each_row_to_its_length() -> None:
    draw = np.random.default_rng(5)
    v = draw.normal(size=(2, 3, 5)).astype(np.float16)
    folded = dict(fold_weight_norm(NORMED | {"a.weight_v": v, "a.bias": v[:, 0, 0]}, file="n.pth"))
    assert list(folded) == ["a.weight", "a.bias"]
    assert folded["a.weight"].dtype == np.float32
    assert folded["a.bias"] is not None
    wide = v.astype(np.float64)
    expected = np.array([2.0, 0.5])[:, None, None] * wide / np.sqrt((wide**2).sum(axis=(1, 2), keepdims=True))
    np.testing.assert_allclose(folded["a.weight"], expected, rtol=3e-7)
    np.testing.assert_allclose(np.linalg.norm(folded["a.weight"].reshape(2, -1), axis=1), [2.0, 0.5], rtol=1e-6)


def test_transposed_convolutions_are_normed_by_their_first_axis_too(tmp_path: Path) -> None:
    with open_sovits(small_sovits_file().write(tmp_path / "n.pth")) as checkpoint:
        g = checkpoint.tensors["dec.ups.0.weight_g"].astype(np.float32).ravel()
        folded = dict(fold_weight_norm(checkpoint.tensors, file="n.pth"))["dec.ups.0.weight"]
    assert folded.shape == (32, 16, 16)
    np.testing.assert_allclose(np.linalg.norm(folded.reshape(32, -1), axis=1), np.abs(g), rtol=1e-6)


def test_folding_is_the_same_as_torchs() -> None:
    torch = pytest.importorskip("torch")
    draw = np.random.default_rng(6)
    for shape in ((8, 3, 7), (16, 8, 16), (64, 128, 1)):
        v = draw.normal(size=shape).astype(np.float16)
        g = draw.normal(size=(shape[0], 1, 1)).astype(np.float16)
        expected = torch._weight_norm(torch.from_numpy(v).float(), torch.from_numpy(g).float(), 0).numpy()
        found = dict(fold_weight_norm({"x.weight_g": g, "x.weight_v": v}, file="n.pth"))["x.weight"]
        np.testing.assert_allclose(found, expected, rtol=5e-7)


def test_no_pair_is_left_in_a_voice(tmp_path: Path) -> None:
    found = read_sovits(sovits_file("sovits-v2proplus-reduced").write(tmp_path / "n.pth"))
    served = dict(cast(fold_weight_norm(found.tensors, file="n.pth"), ServingDtype.FP32, file="n.pth"))
    pairs = sum(name.endswith(".weight_g") for name in found.tensors)
    assert len(served) == len(found.tensors) - pairs
    assert not any(name.endswith(("_g", "_v")) and ".weight" in name for name in served)
    assert {array.dtype.name for array in served.values()} == {"float32"}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"a.weight_g": np.ones((2, 1, 1), np.float16)}, "'a.weight_g' comes without 'a.weight_v'"),
        ({"a.weight_v": np.ones((2, 1, 1), np.float16)}, "'a.weight_v' comes without 'a.weight_g'"),
        (NORMED | {"a.weight_v": np.ones((3, 1, 1), np.float16)}, r"'a.weight_g' has shape \(2, 1, 1\); expected 3"),
    ],
)
def test_half_a_pair_is_refused(
    tensors: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float16]]], message: str
) -> None:
    with pytest.raises(ShapeMismatch, match=r"n\.pth: tensor " + message):
        dict(fold_weight_norm(tensors, file="n.pth"))


def test_a_row_without_direction_is_refused() -> None:
    with pytest.raises(WeightsError, match=r"'a\.weight_v': row 1 is all zeros"):
        dict(fold_weight_norm(NORMED | {"a.weight_v": np.array([1.0, 0.0], np.float16).reshape(2, 1, 1)}, file="n.pth"))


@pytest.mark.parametrize("dtype", list(ServingDtype))
def test_preparing_takes_the_memory_of_what_it_makes_and_little_more(tmp_path: Path, dtype: ServingDtype) -> None:
    path = sovits_file("sovits-v2pro-reduced").write(tmp_path / "n.pth")
    tracemalloc.start()
    with open_sovits(path) as checkpoint:
        served = dict(cast(fold_weight_norm(checkpoint.tensors, file="n.pth"), dtype, file="n.pth"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    made = sum(array.nbytes for array in served.values())
    largest = max(array.size for array in served.values())
    assert peak < made + 8 * largest + (16 << 20)


@pytest.mark.parametrize(
    ("dtype", "name", "size"), [("fp32", "float32", 4), ("fp16", "float16", 2), ("bf16", "int16", 2)]
)
def test_a_cast_array_has_the_type_that_was_asked_for(dtype: str, name: str, size: int) -> None:
    array = np.linspace(-3, 3, 7, dtype=np.float16).reshape(7, 1)[::-1]
    ((kept, served),) = cast([("x", array)], ServingDtype(dtype), file="n.pth")
    assert kept == "x"
    assert served.dtype.name == name
    assert served.itemsize == ServingDtype(dtype).item_bytes == size
    assert served.flags.c_contiguous
    back = from_bfloat16_bits(served) if dtype == "bf16" else served
    np.testing.assert_allclose(back, array, rtol=2**-8)


@pytest.mark.parametrize(("dtype", "value"), [("fp16", 65520.0), ("bf16", 3.4e38)])
def test_a_value_that_the_type_cannot_hold_is_refused_by_name(dtype: str, value: float) -> None:
    array = np.array([1.0, value, -value], np.float32)
    with pytest.raises(
        WeightsError, match=f"n.pth: tensor 'dec.x' has 2 values too large for {dtype}; serve this voice in fp32"
    ):
        dict(cast([("dec.x", array)], ServingDtype(dtype), file="n.pth"))
    assert dict(cast([("dec.x", array)], ServingDtype.FP32, file="n.pth"))["dec.x"] is array


def test_float16_is_passed_on_as_it_is() -> None:
    array = np.ones((3, 4), np.float16)
    assert dict(cast([("x", array)], ServingDtype.FP16, file="n.pth"))["x"] is array


@settings(deadline=None)
@given(
    st_numpy.arrays(np.float32, st.integers(1, 20), elements=st.floats(width=32, allow_nan=False, allow_infinity=False))
)
def test_bfloat16_is_the_nearest(array: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
    back = from_bfloat16_bits(bfloat16_bits(array)).astype(np.float64)
    kept = np.isfinite(back)
    below = (array.view(np.uint32) & 0xFFFF0000).view(np.float32).astype(np.float64)
    above = ((array.view(np.uint32) & 0xFFFF0000) + 0x10000).view(np.float32).astype(np.float64)
    exact = array.astype(np.float64)
    nearest = np.minimum(np.abs(below - exact), np.abs(above - exact))
    assert (np.abs(back - exact)[kept] == nearest[kept]).all()
    assert (np.abs(exact[~kept]) > 3.38e38).all()


def test_ties_go_to_even_as_in_torch() -> None:
    bits = np.array([0x3F808000, 0x3F818000, 0xBF808000], np.uint32)
    assert list(bfloat16_bits(bits.view(np.float32)).view(np.uint16)) == [0x3F80, 0x3F82, 0xBF80]
