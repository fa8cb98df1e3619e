"""Voices served in bfloat16 and int8: how far from the original they may be, at the real size too.

The criterion is the one for anything below float32: vectors of logits, and samples, point the same way to a cosine of
0.9999. On top of that, greedy tokens of these cases are the original's, though the end may come a step later (its logit
and the next best are 0.02 apart there).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.unit.engine_gpt_sovits.golden import Case, case, sovits_config, t2s_config
from torch.nn.functional import layer_norm

from segue_engines.gpt_sovits import options
from segue_engines.gpt_sovits.formats import fold_weight_norm
from segue_engines.gpt_sovits.sovits import packing as decoder_packing
from segue_engines.gpt_sovits.sovits.network import SovitsNetwork
from segue_engines.gpt_sovits.sovits.packing import DecoderDtype
from segue_engines.gpt_sovits.t2s import packing
from segue_engines.gpt_sovits.t2s.decode import generate, teacher_forced
from segue_engines.gpt_sovits.t2s.linear import ROWS_AT_ONCE, ByteLinear, HalfLinear, alike_in_any_company
from segue_engines.gpt_sovits.t2s.network import T2SNetwork, Utterance
from segue_engines.gpt_sovits.t2s.packing import T2SDtype
from segue_engines.gpt_sovits.tensors import borrow_all

COSINE = 0.9999
LOGITS_RMS = 0.03
"""Root mean square of the differences of logits, whose own standard deviation is 2."""


@cache
def _weights(name: str) -> tuple[Case, dict[str, NDArray[Any]]]:
    golden = case(name)
    return golden, golden.weights()


@pytest.mark.parametrize("dtype", [T2SDtype.BF16, T2SDtype.INT8])
@pytest.mark.parametrize("name", ["t2s-reduced-a", "t2s-full"])
def test_logits_and_greedy_tokens_in_smaller_types(name: str, dtype: T2SDtype) -> None:
    golden, weights = _weights(name)
    network = T2SNetwork(t2s_config(golden), borrow_all(packing.packed(weights, dtype=dtype)))
    utterance = Utterance(phones=golden["phones"], bert=golden["bert"], prompt=golden["prompt_semantic"])
    said = golden["tokens"].tolist()
    logits = teacher_forced(network, utterance, said[len(utterance.prompt) :][:20])
    assert float(torch.cosine_similarity(logits, golden["logits"], dim=1).min()) >= COSINE
    assert float((logits - golden["logits"]).square().mean().sqrt()) <= LOGITS_RMS
    assert list(generate(network, utterance).tokens)[: len(said)] == said, "may at most end a step later"


@pytest.mark.parametrize("name", ["sovits-v2-reduced", "sovits-v2proplus-reduced", "sovits-v2pro-full"])
def test_samples_of_a_bfloat16_generator(name: str) -> None:
    golden, weights = _weights(name)
    folded = decoder_packing.packed(fold_weight_norm(weights), dtype=DecoderDtype.BF16)
    network = SovitsNetwork(sovits_config(golden), decoder_packing.unpacked(borrow_all(folded)))
    speakers = [golden["sv_emb"]] if "sv_emb" in golden.arrays else []
    voice = network.condition([golden["refer"]], speakers)
    decoded = network.decode(golden["codes"], golden["phones"], voice, noise=golden["noise"])
    assert decoded.samples.dtype == torch.float32
    assert float(torch.cosine_similarity(decoded.samples, golden["wav"], dim=0)) >= COSINE


def test_the_packed_generator_in_float32_is_exact() -> None:
    golden, weights = _weights("sovits-v2proplus-reduced")
    folded = decoder_packing.packed(fold_weight_norm(weights), dtype=DecoderDtype.FP32)
    network = SovitsNetwork(sovits_config(golden), decoder_packing.unpacked(borrow_all(folded)))
    voice = network.condition([golden["refer"]], [golden["sv_emb"]])
    decoded = network.decode(golden["codes"], golden["phones"], voice, noise=golden["noise"])
    assert float((decoded.samples - golden["wav"]).abs().max()) <= 1e-5


def test_int8_rows_are_as_near_as_their_scale_allows_and_zeros_stay_zeros() -> None:
    matrix = np.random.default_rng(1).normal(size=(6, 40)).astype(np.float32)
    matrix[2] = 0
    name = "model.h.layers.0.linear1.weight"
    stored = packing.packed({name: matrix}, dtype=T2SDtype.INT8)
    scales = stored[name + packing.SCALES]
    assert stored[name].dtype == np.int8
    assert np.abs(stored[name] * scales[:, None] - matrix).max() <= scales.max() / 2 + 1e-7
    assert not stored[name][2].any()
    assert scales[2] == 1


def test_auto_is_bfloat16_where_the_processor_multiplies_it_and_never_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert options.dtype_of({}) is T2SDtype.FP32
    for able, expected in ((True, T2SDtype.BF16), (False, T2SDtype.FP32)):
        monkeypatch.setattr(options, "multiplies_bfloat16", lambda able=able: able)
        assert options.dtype_of({"dtype": "auto"}) is expected
        assert options.dtype_of({"dtype": "int8"}) is T2SDtype.INT8


@pytest.mark.parametrize("rows", [1, 3, 16, 256, 257, 300])
def test_products_in_bfloat16_are_rounded_once_in_any_order_of_multiplying(rows: int) -> None:
    draw = torch.Generator().manual_seed(rows)
    weight, bias = torch.randn(96, 128, generator=draw).bfloat16(), torch.randn(96, generator=draw)
    x, residual = torch.randn(rows, 128, generator=draw), torch.randn(rows, 96, generator=draw)
    product = x.bfloat16().double() @ weight.double().t()
    rounded = HalfLinear(weight, bias)
    assert _unequal(rounded(x), (product + bias.bfloat16()).bfloat16()) <= 0.002
    joined, short = rounded.joined(residual, x, _norm(96))
    expected = layer_norm(residual + product.bfloat16().float() + bias, (96,), *_norm(96), eps=1e-5)
    assert float(((joined - expected).abs() > 1e-4).float().mean()) <= 0.01  # neighbours in bfloat16 move a row's mean
    assert torch.equal(short.bfloat16(), joined.bfloat16())


@pytest.mark.parametrize(("wide", "narrow"), [(512, 1536), (2048, 512), (512, 512)])
def test_products_of_a_row_in_bfloat16_do_not_depend_on_its_company(wide: int, narrow: int) -> None:
    draw = torch.Generator().manual_seed(wide)
    linear = HalfLinear(torch.randn(narrow, wide, generator=draw).bfloat16(), torch.randn(narrow, generator=draw))
    rows = ROWS_AT_ONCE if alike_in_any_company(linear) else 16
    x, residual = torch.randn(rows, wide, generator=draw), torch.randn(rows, narrow, generator=draw)
    together, joined = linear(x), linear.joined(residual, x, _norm(narrow))[0]
    wider = ((0, 16), (9, 33), (7, 100), (1, 255)) if alike_in_any_company(linear) else ()
    for first, count in ((0, 1), (15, 1), (3, 2), (5, 7), *wider):
        some = slice(first, first + count)
        assert torch.equal(linear(x[some]), together[some])
        assert torch.equal(linear.joined(residual[some], x[some], _norm(narrow))[0], joined[some])


@pytest.mark.parametrize("rows", [1, 31, 32, 100])
def test_products_of_bytes_are_alike_whether_widened_or_not(rows: int) -> None:
    draw = torch.Generator().manual_seed(rows)
    weight = torch.randint(-127, 128, (64, 128), generator=draw, dtype=torch.int8)
    scales, bias = torch.rand(64, generator=draw) / 64, torch.randn(64, generator=draw)
    x, residual = torch.randn(rows, 128, generator=draw), torch.randn(rows, 64, generator=draw)
    product = (x.double() @ (weight * scales[:, None]).double().t() + bias).float()
    found = ByteLinear(weight, scales, bias)
    joined = layer_norm(residual + product, (64,), *_norm(64), eps=1e-5)
    for got, expected in ((found(x), product), (found.joined(residual, x, _norm(64))[0], joined)):
        assert float(torch.cosine_similarity(got.flatten(), expected.flatten(), dim=0)) >= 0.9999


def _norm(width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Gain and shift."""
    draw = torch.Generator().manual_seed(9)
    return torch.rand(width, generator=draw) + 0.5, torch.randn(width, generator=draw)


def _unequal(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Share of values that are another than expected: sums in another order may be rounded to a neighbour."""
    assert found.shape == expected.shape
    return float((found != expected.to(found.dtype)).float().mean())
