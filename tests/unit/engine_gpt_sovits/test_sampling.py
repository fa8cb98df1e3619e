"""From logits to a token: the original's order of steps, and random numbers that depend on nothing but the row."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.unit.engine_gpt_sovits.golden import case, facts, largest_difference

from segue.errors import InvalidVoiceModel
from segue_engines.gpt_sovits.randomness import Stream, exponentials, normals, row_key
from segue_engines.gpt_sovits.sampling import (
    BatchSampling,
    Sampling,
    draw,
    penalised,
    probabilities,
    probabilities_of,
    seen_mask,
)

PROBABILITIES = 1e-6
SETS = facts()["sampling"]["sets"]


def _settings(about: dict[str, Any]) -> Sampling:
    return Sampling(
        top_k=about["top_k"],
        top_p=about["top_p"],
        temperature=about["temperature"],
        repetition_penalty=about["repetition_penalty"],
    )


@pytest.mark.parametrize("about", SETS, ids=lambda about: str(about["i"]))
def test_probabilities_and_draws_are_the_originals(about: dict[str, Any]) -> None:
    golden, i = case("sampling"), about["i"]
    chances, lowered = probabilities(golden[f"logits{i}"], golden[f"prev{i}"], _settings(about))
    assert largest_difference(lowered, golden[f"penalised{i}"]) == 0
    assert largest_difference(chances, golden[f"probs{i}"]) <= PROBABILITIES
    assert torch.equal(chances == 0, golden[f"probs{i}"] == 0)
    assert draw(chances, golden[f"exp{i}"]).tolist() == golden[f"token{i}"][0].tolist()


def test_rows_with_settings_of_their_own_are_sampled_as_alone() -> None:
    golden = case("sampling")
    rows = [about for about in SETS if golden[f"logits{about['i']}"].shape[1] == 1025]
    columns = BatchSampling([_settings(about) for about in rows])
    logits = torch.cat([golden[f"logits{about['i']}"] for about in rows])
    seen = torch.cat([seen_mask(golden[f"prev{about['i']}"], 1025) for about in rows])
    together = probabilities_of(penalised(logits, seen, columns.penalty), columns)
    for place, about in enumerate(rows):
        alone, _ = probabilities(golden[f"logits{about['i']}"], golden[f"prev{about['i']}"], _settings(about))
        assert largest_difference(together[place : place + 1], alone) <= PROBABILITIES
        assert torch.equal(together[place] == 0, alone[0] == 0)


@pytest.mark.parametrize(
    ("field", "value"), [("top_k", 0), ("repetition_penalty", 0.0), ("temperature", -0.1), ("top_p", -1.0)]
)
def test_settings_that_mean_nothing_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(InvalidVoiceModel, match=field):
        Sampling(**{field: value})  # type: ignore[arg-type]  # by name


def test_exponentials_of_a_row_do_not_depend_on_its_company() -> None:
    keys = torch.tensor([row_key(seed, Stream.TOKENS) for seed in (7, 8, 2**64 - 1)])
    together = exponentials(keys, torch.tensor([3, 900, 0]), 1025)
    for place, step in enumerate((3, 900, 0)):
        assert torch.equal(
            together[place : place + 1], exponentials(keys[place : place + 1], torch.tensor([step]), 1025)
        )


def test_exponentials_are_distributed_as_such() -> None:
    drawn = exponentials(torch.tensor([row_key(1, Stream.TOKENS)] * 400), torch.arange(400), 1025).double()
    assert float(drawn.min()) > 0
    assert float(drawn.mean()) == pytest.approx(1.0, abs=0.01)
    assert float(drawn.var()) == pytest.approx(1.0, abs=0.02)
    assert float((drawn > 3).double().mean()) == pytest.approx(0.0498, abs=0.002)
    uniform = torch.exp(-drawn)
    neighbours = torch.corrcoef(torch.stack((uniform[:-1].flatten(), uniform[1:].flatten())))
    assert abs(float(neighbours[0, 1])) < 0.01


def test_noise_frames_are_the_same_in_a_chunk_and_in_the_whole() -> None:
    key = row_key(5, Stream.NOISE)
    whole = normals(key, first=0, count=200, channels=192)
    assert torch.equal(whole[:, :, 50:120], normals(key, first=50, count=70, channels=192))
    assert float(whole.mean()) == pytest.approx(0.0, abs=0.02)
    assert float(whole.std()) == pytest.approx(1.0, abs=0.02)


def test_seeds_streams_and_parts_have_nothing_in_common() -> None:
    keys = [row_key(seed, stream, part) for seed in range(50) for stream in Stream for part in range(3)]
    assert len(set(keys)) == len(keys)
    drawn = exponentials(torch.tensor(keys), torch.zeros(len(keys), dtype=torch.int64), 256).double()
    related = torch.corrcoef(drawn).fill_diagonal_(0.0)
    assert float(related.abs().max()) < 0.4
