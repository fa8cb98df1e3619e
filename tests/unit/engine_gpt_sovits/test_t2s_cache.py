"""Memory of keys and values: rows take as much as they need, voices share it, and nobody reads another's."""

from __future__ import annotations

import pytest
import torch
from tests.unit.engine_gpt_sovits.builders import parts, view
from tests.unit.engine_gpt_sovits.golden import case, largest_difference, t2s_network

from segue.errors import SynthesisError
from segue_engines.gpt_sovits.parts import GPT
from segue_engines.gpt_sovits.parts import t2s_network as network_of
from segue_engines.gpt_sovits.sampling import Sampling
from segue_engines.gpt_sovits.t2s.cache import CacheShape, KeyValueCache
from segue_engines.gpt_sovits.t2s.decode import T2SBatch, TokenRow
from segue_engines.gpt_sovits.t2s.memory import MemoryPool
from segue_engines.gpt_sovits.t2s.network import T2SNetwork, Utterance

SHAPE = CacheShape(layers=3, heads=4, head_width=8)


def _network() -> T2SNetwork:
    return network_of(view(parts(eos_gain=0.0)).parts[GPT])


def _utterance(seed: int, phones: int = 30) -> Utterance:
    draw = torch.Generator().manual_seed(seed)
    return Utterance(
        phones=torch.randint(1, 700, (phones,), generator=draw),
        bert=None,
        prompt=torch.randint(0, 1024, (20,), generator=draw),
    )


def _row(seed: int, *, phones: int = 30, steps: int = 200) -> TokenRow:
    return TokenRow(_utterance(seed, phones), Sampling(), key=seed, max_steps=steps)


def test_memory_that_was_given_back_is_taken_again() -> None:
    pool = MemoryPool()
    first = pool.take(4096)
    place = first.data_ptr()
    pool.give_back(first)
    assert pool.idle_bytes == 4096
    assert pool.take(8192).data_ptr() != place
    assert pool.take(4096).data_ptr() == place
    assert pool.idle_bytes == 0


def test_two_who_take_have_memory_of_their_own() -> None:
    pool = MemoryPool()
    first, second = pool.take(4096), pool.take(4096)
    first.fill_(1)
    second.fill_(2)
    assert int(first.max()) == 1


def test_what_lies_idle_beyond_the_limit_goes_back_to_the_system_the_longest_idle_first() -> None:
    pool = MemoryPool(kept_bytes=8192)
    blocks = [pool.take(4096) for _ in range(3)]
    places = [block.data_ptr() for block in blocks]
    while blocks:
        pool.give_back(blocks.pop(0))
    assert pool.idle_bytes == 8192
    assert {pool.take(4096).data_ptr() for _ in range(2)} == set(places[1:])


def test_a_row_keeps_what_it_wrote_when_it_outgrows_its_block() -> None:
    cache = KeyValueCache(SHAPE, slots=1, capacity=1000, pool=MemoryPool())
    (slot,) = cache.join([100], wanted=[600])
    cache.written(slot).copy_(torch.arange(100.0)[:, None, None].expand(3, 2, 100, 4, 8))
    small = cache.held_bytes
    for place in range(100, 600):
        for layer, views in enumerate(cache.next_position([slot])):
            views.ends[0].fill_(place)
            assert views.keys[0].shape == (1, 4, place + 1, 8), layer
        cache.advance([slot])
    assert cache.held_bytes > small
    assert torch.equal(cache.written(slot)[1, 0, :, 2, 3], torch.arange(600.0))


def test_a_step_that_was_not_finished_is_not_counted() -> None:
    cache = KeyValueCache(SHAPE, slots=1, capacity=1000, pool=MemoryPool())
    cache.join([10], wanted=[20])
    cache.next_position([0])
    cache.next_position([0])
    assert cache.lengths == [10]


def test_when_a_row_leaves_the_last_one_has_its_slot() -> None:
    pool = MemoryPool()
    cache = KeyValueCache(SHAPE, slots=3, capacity=1000, pool=pool)
    for slot in cache.join([5, 6, 7], wanted=[50, 50, 50]):
        cache.written(slot).fill_(slot)
    cache.leave(0)
    assert cache.lengths == [7, 6]
    assert float(cache.written(0).mean()) == 2
    assert pool.idle_bytes == SHAPE.block_bytes(128)


def test_rows_join_together_or_not_at_all() -> None:
    cache = KeyValueCache(SHAPE, slots=2, capacity=100, pool=MemoryPool())
    with pytest.raises(SynthesisError, match="may need 101 positions and a slot holds 100"):
        cache.join([10, 10], wanted=[50, 101])
    with pytest.raises(SynthesisError, match="all 2 slots"):
        cache.join([10, 10, 10], wanted=[50, 50, 50])
    assert cache.lengths == []
    assert cache.held_bytes == 0


def test_a_prefill_that_fails_leaves_its_slots() -> None:
    network = _network()
    cache = network.new_cache(slots=4, capacity=500, pool=MemoryPool())
    network.prefill([_utterance(1)], cache, room=[10])
    broken = Utterance(phones=_utterance(2).phones, bert=torch.zeros(3, 30), prompt=_utterance(2).prompt)
    with pytest.raises(RuntimeError):
        network.prefill([_utterance(3), broken], cache, room=[10, 10])
    assert cache.lengths == [50]


def test_what_others_left_in_the_memory_is_not_heard() -> None:
    """Blocks come back with what was in them: nobody may read beyond what it wrote, not even zero times NaN."""
    golden = case("t2s-reduced-a")
    network = t2s_network(golden)
    utterance = Utterance(phones=golden["phones"], bert=golden["bert"], prompt=golden["prompt_semantic"])
    pool = MemoryPool()
    dirty = [pool.take(network.shape.block_bytes(size)) for size in (128, 256, 384)]
    for memory in dirty:
        memory.view(torch.float32).fill_(float("nan"))
        pool.give_back(memory)
    cache = network.new_cache(slots=1, capacity=1000, pool=pool)
    slots, logits = network.prefill([utterance], cache, room=[20])
    collected = [logits]
    for place, token in enumerate(golden["tokens"].tolist()[len(utterance.prompt) :][:20]):
        collected.append(network.step(torch.tensor([token]), [len(utterance.prompt) + place], slots, cache))
    assert largest_difference(torch.cat(collected), golden["logits"]) <= 1e-4


def test_twenty_voices_that_take_turns_need_the_memory_of_one() -> None:
    pool, seen = MemoryPool(), 0
    for voice in range(20):
        batch = T2SBatch(_network(), slots=4, capacity=500, pool=pool)
        batch.join(*(_row(voice + place, steps=12) for place in range(4)))
        seen = max(seen, batch.held_bytes + pool.idle_bytes)
        while batch.rows:
            batch.step()
        assert batch.held_bytes == 0
    assert seen == pool.idle_bytes == 4 * _network().shape.block_bytes(128)


def test_rows_of_any_lengths_step_together_as_alone_while_others_come_and_go() -> None:
    network = _network()
    alone = []
    for seed in range(6):
        row = _row(seed, phones=10 + 40 * (seed % 3))
        batch = T2SBatch(network, slots=1, capacity=500, pool=MemoryPool())
        batch.join(row)
        while batch.rows:
            batch.step()
        alone.append(row.tokens)
    rows = [_row(seed, phones=10 + 40 * (seed % 3)) for seed in range(6)]
    batch = T2SBatch(network, slots=4, capacity=500, pool=MemoryPool())
    waiting, step = list(rows), 0
    while waiting or batch.rows:
        while waiting and batch.free and step % 3 == 0:
            batch.join(*(waiting.pop(0) for _ in range(min(2, batch.free, len(waiting)))))
        batch.step(list(batch.rows)[step % 2 :] or None)
        step += 1
    assert [row.tokens for row in rows] == alone
