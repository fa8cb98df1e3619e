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

from segue_engines.gpt_sovits.formats import fold_weight_norm
from segue_engines.gpt_sovits.sovits import packing as decoder_packing
from segue_engines.gpt_sovits.sovits.network import SovitsNetwork
from segue_engines.gpt_sovits.sovits.packing import DecoderDtype
from segue_engines.gpt_sovits.t2s import packing
from segue_engines.gpt_sovits.t2s.decode import generate, teacher_forced
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
