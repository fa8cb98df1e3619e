"""The T2S network against the original: logits to 1e-4, tokens exactly."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from tests.unit.engine_gpt_sovits.golden import Case, case, largest_difference, named, t2s_network
from torch import Tensor

from segue_engines.gpt_sovits.sampling import Sampling
from segue_engines.gpt_sovits.t2s.decode import generate, generate_together, teacher_forced
from segue_engines.gpt_sovits.t2s.network import T2SNetwork, Utterance

LOGITS = 1e-4
_FORCED = 20


@cache
def _built(name: str) -> tuple[Case, T2SNetwork]:
    golden = case(name)
    return golden, t2s_network(golden)


def _utterance(golden: Case, item: str) -> Utterance:
    prompt = golden.arrays.get("prompt_semantic", torch.zeros(0, dtype=torch.int64))
    return Utterance(phones=golden[f"phones{item}"], bert=golden[f"bert{item}"], prompt=prompt)


def _items(name: str) -> list[str]:
    return ["0", "1", "2"] if name.endswith("batch3") else [""]


ITEMS = [(name, item) for name in named("t2s") for item in _items(name)]


@pytest.mark.parametrize(("name", "item"), ITEMS)
def test_logits_of_prefill_and_twenty_steps_are_the_originals(name: str, item: str) -> None:
    golden, network = _built(name)
    utterance = _utterance(golden, item)
    fed = golden[f"tokens{item}"].tolist()[len(utterance.prompt) :][:_FORCED]
    logits = teacher_forced(network, utterance, fed)
    assert largest_difference(logits, golden[f"logits{item}"]) <= LOGITS


@pytest.mark.parametrize(("name", "item"), ITEMS)
def test_greedy_tokens_are_the_originals(name: str, item: str) -> None:
    golden, network = _built(name)
    said = generate(network, _utterance(golden, item))
    assert list(said.tokens) == golden[f"tokens{item}"].tolist()
    assert said.used == int(golden[f"idx{item}"])
    assert said.capped == (golden.facts["items"][int(item or 0)]["stopped_by"] == "cap")


def test_three_texts_in_one_batch_say_what_each_says_alone() -> None:
    golden, network = _built("t2s-reduced-b-batch3")
    together = generate_together(network, [_utterance(golden, item) for item in "012"])
    for item, said in zip("012", together, strict=True):
        assert list(said.tokens) == golden[f"batch_tokens{item}"].tolist()
        assert said.used == int(golden[f"batch_idx{item}"])


@pytest.mark.parametrize("name", named("t2s-sampled"))
def test_sampled_tokens_are_the_originals_with_its_random_numbers(name: str) -> None:
    golden, network = _built(name)
    about = golden.facts
    sampling = Sampling(
        top_k=about["top_k"],
        top_p=about["top_p"],
        temperature=about["temperature"],
        repetition_penalty=about["repetition_penalty"],
    )

    def drawn(step: int) -> Tensor:
        return golden["exp"][step]

    said = generate(network, _utterance(golden, ""), sampling=sampling, draws=drawn)
    assert list(said.tokens) == golden["tokens"].tolist()
    assert said.used == int(golden["idx"])
