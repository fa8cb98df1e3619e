"""The step that a device captures says what the network says, whoever joins and leaves.

On the CPU nothing can be captured, but everything else is tried: work that is only ever replayed, at addresses that
stay. What needs a device is marked so.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.unit.engine_gpt_sovits.builders import t2s_checkpoint
from torch import Tensor

from segue.engine import PartView
from segue.errors import SynthesisError
from segue_engines.gpt_sovits.parts import gpt_part, t2s_network
from segue_engines.gpt_sovits.sampling import GREEDY, Sampling
from segue_engines.gpt_sovits.t2s.decode import T2SBatch, TokenRow
from segue_engines.gpt_sovits.t2s.graphs import StaticNetwork, Work, buckets_of, captured, static_batch
from segue_engines.gpt_sovits.t2s.network import T2SNetwork, Utterance
from segue_engines.gpt_sovits.t2s.packing import T2SDtype

SAMPLED = Sampling(top_k=20, temperature=0.9, top_p=0.95)
CAPACITY = 220
on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here")


def network(dtype: T2SDtype = T2SDtype.FP32, *, device: str = "cpu") -> T2SNetwork:
    part = gpt_part(t2s_checkpoint(), dtype=dtype)
    made = t2s_network(PartView(tensors=part.tensors, meta=part.meta))
    if device == "cpu":
        return made
    return T2SNetwork(made.config, {name: tensor.to(device) for name, tensor in made.parameters.items()})


def utterance(seed: int, *, bert: bool = False, device: str = "cpu") -> Utterance:
    draw = torch.Generator().manual_seed(seed)
    phones = torch.randint(1, 700, (12 + seed % 9,), generator=draw)
    return Utterance(
        phones=phones.to(device),
        bert=torch.randn(1024, len(phones), generator=draw).to(device) if bert else None,
        prompt=torch.randint(0, 1024, (7 + seed % 5,), generator=draw).to(device),
    )


def rows(count: int, sampling: Sampling = SAMPLED, *, device: str = "cpu") -> list[TokenRow]:
    return [
        TokenRow(utterance(seed, bert=seed % 2 == 0, device=device), sampling, key=seed, max_steps=40 + 3 * seed)
        for seed in range(count)
    ]


class Recorder:
    """Captures as a device does: the work is recorded once, and its result lies at one address for ever after."""

    def __init__(self) -> None:
        self.replays: list[int] = []

    def __call__(self, work: Work) -> Work:
        result = work().clone()

        def replay() -> Tensor:
            self.replays.append(len(result))
            result.copy_(work())
            return result

        return replay


def run(batch: T2SBatch, waiting: list[TokenRow], *, leave: Callable[[int, TokenRow], bool] | None = None) -> None:
    """Rows join one by one while others step; some are taken out early, every third step leaves some out."""
    pending, step = list(waiting), 0
    while pending or batch.rows:
        if pending and batch.free:
            batch.join(pending.pop(0))
        stepped = [row for place, row in enumerate(batch.rows) if step % 3 or place % 2 == 0]
        batch.step(stepped or None)
        for row in list(batch.rows):
            if leave is not None and leave(step, row):
                batch.leave(row)
        step += 1


def test_buckets_are_powers_of_two_and_all_slots() -> None:
    assert [buckets_of(slots) for slots in (1, 2, 6, 16)] == [(1,), (1, 2), (1, 2, 4, 6), (1, 2, 4, 8, 16)]


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_tokens_are_those_of_the_network_while_rows_join_and_leave(sampling: Sampling) -> None:
    expected, found = rows(9, sampling), rows(9, sampling)
    leaving = {3, 5}

    def leave(step: int, row: TokenRow) -> bool:
        return row.key in leaving and len(row.tokens) > 10

    run(T2SBatch(network(), slots=4, capacity=CAPACITY), expected, leave=leave)
    recorder = Recorder()
    run(static_batch(network(), slots=4, capacity=CAPACITY, capture=recorder), found, leave=leave)
    assert [row.tokens for row in found] == [row.tokens for row in expected]
    assert [row.capped for row in found] == [row.capped for row in expected]
    assert set(recorder.replays) == {1, 2, 4}


def test_logits_are_those_of_the_network_in_bf16_too() -> None:
    one, other = network(T2SDtype.BF16), StaticNetwork(network(T2SDtype.BF16), capture=Recorder())
    said = utterance(4, bert=True)
    cache, static = one.new_cache(slots=2, capacity=64), other.new_cache(slots=2, capacity=64)
    with torch.inference_mode():
        (slot,), expected = one.prefill([said], cache, room=[10])
        _, found = other.prefill([said], static, room=[10])
        for token in (5, 900, 17):
            torch.testing.assert_close(found, expected, atol=0.05, rtol=0.02)
            place = static.lengths[0] - len(said.phones)
            expected = one.step(torch.tensor([token]), [place], [slot], cache)
            found = other.step(torch.tensor([token]), [place], [0], static)
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0.02)


def test_everything_that_a_step_touches_stays_at_its_place() -> None:
    made = StaticNetwork(network(), capture=Recorder())
    cache = made.new_cache(slots=3, capacity=CAPACITY)
    before = [block.data_ptr() for block in cache.blocks]
    _, first = made.prefill([utterance(1)], cache, room=[20])
    results = {made.step(torch.tensor([1]), [9], [0], cache).storage_offset() for _ in range(3)}
    assert results == {0}
    assert [block.data_ptr() for block in cache.blocks] == before
    assert first.isfinite().all()
    with pytest.raises(RuntimeError, match="one cache"):
        made.new_cache(slots=3, capacity=CAPACITY)


def test_too_many_rows_and_too_long_ones_are_refused() -> None:
    batch = static_batch(network(), slots=1, capacity=CAPACITY, capture=Recorder())
    with pytest.raises(SynthesisError, match="a slot holds 220"):
        batch.join(TokenRow(utterance(1), GREEDY, max_steps=400))
    batch.join(TokenRow(utterance(1), GREEDY, max_steps=30))
    with pytest.raises(SynthesisError, match="all 1 slots"):
        batch.join(TokenRow(utterance(2), GREEDY, max_steps=30))


@pytest.mark.gpu
@on_cuda
def test_captured_steps_say_on_a_device_what_the_network_says_there() -> None:
    expected, found = rows(9, GREEDY, device="cuda"), rows(9, GREEDY, device="cuda")
    run(T2SBatch(network(device="cuda"), slots=4, capacity=CAPACITY), expected)
    run(static_batch(network(device="cuda"), slots=4, capacity=CAPACITY, capture=captured), found)
    assert [row.tokens for row in found] == [row.tokens for row in expected]
