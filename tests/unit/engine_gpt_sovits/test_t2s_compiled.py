"""The compiled pieces of a step: they compute what torch computes, and no row hears of another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.unit.engine_gpt_sovits.builders import parts, view
from torch import Tensor
from torch.nn.functional import layer_norm, scaled_dot_product_attention

from segue_engines.gpt_sovits.parts import GPT, t2s_network
from segue_engines.gpt_sovits.t2s import tiles
from segue_engines.gpt_sovits.t2s.attention import StepAttention
from segue_engines.gpt_sovits.t2s.cache import CacheShape, KeyValueCache
from segue_engines.gpt_sovits.t2s.compiled import rounded, widened
from segue_engines.gpt_sovits.t2s.linear import ROWS_AT_ONCE
from segue_engines.gpt_sovits.t2s.memory import MemoryPool
from segue_engines.gpt_sovits.t2s.network import T2SNetwork, Utterance
from segue_engines.gpt_sovits.t2s.normed import normed_sum
from segue_engines.gpt_sovits.t2s.packing import T2SDtype

LENGTHS = [1, 2, 4, 5, 7, 60, 163, 300]


def _shape(dtype: torch.dtype, heads: int = 16) -> CacheShape:
    return CacheShape(layers=2, heads=heads, head_width=32, dtype=dtype)


def _cache(shape: CacheShape, lengths: list[int], *, seed: int = 0) -> KeyValueCache:
    """Rows that hold so many positions, and room for one more; what nobody wrote is not a number."""
    pool = MemoryPool()
    for positions in (128, 256, 384, 512):
        for memory in [pool.take(shape.block_bytes(positions)) for _ in lengths]:
            memory.view(shape.dtype).fill_(float("nan"))
            pool.give_back(memory)
    cache = KeyValueCache(shape, slots=len(lengths), capacity=1000, pool=pool)
    draw = torch.Generator().manual_seed(seed)
    for slot in cache.join(lengths, wanted=[length + 1 for length in lengths]):
        written = cache.written(slot)
        written.copy_(torch.randn(written.shape, generator=draw))
    return cache


def _packed(rows: int, shape: CacheShape, *, seed: int = 1) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 3 * shape.heads * shape.head_width, generator=draw).to(shape.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("heads", [3, 4, 16, 20])
def test_attention_is_that_of_torch_and_the_new_position_is_written(dtype: torch.dtype, heads: int) -> None:
    shape = _shape(dtype, heads)
    cache = _cache(shape, LENGTHS)
    packed = _packed(len(LENGTHS), shape)
    slots = list(range(len(LENGTHS)))
    mixed = StepAttention(shape)(packed, cache.reach(slots), 1)
    cache.advance(slots)
    for slot, length in enumerate(LENGTHS):
        query, key, value = packed[slot].view(3, heads, 32)
        keys, values = cache.written(slot)[1]
        assert keys.shape == (length + 1, heads, 32)
        assert torch.equal(keys[-1], key)
        assert torch.equal(values[-1], value)
        expected = scaled_dot_product_attention(
            query[:, None].float(), keys.transpose(0, 1).float(), values.transpose(0, 1).float()
        )
        torch.testing.assert_close(mixed[slot], expected.reshape(-1), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_comes_out_the_same_in_any_company(dtype: torch.dtype) -> None:
    shape = _shape(dtype)
    packed = _packed(len(LENGTHS), shape)
    attention = StepAttention(shape)
    cache = _cache(shape, LENGTHS)
    together = attention(packed, cache.reach(range(len(LENGTHS))), 0)
    for slot in range(len(LENGTHS)):
        alone = attention(packed[slot : slot + 1], cache.reach([slot]), 0)
        assert torch.equal(alone[0], together[slot])


def test_scores_that_differ_by_thousands_do_not_overflow() -> None:
    shape = _shape(torch.float32)
    cache = _cache(shape, [50])
    cache.written(0)[0, 0].mul_(1000)
    mixed = StepAttention(shape)(_packed(1, shape), cache.reach([0]), 0)
    assert bool(mixed.isfinite().all())
    assert float(mixed.abs().max()) < 10


@pytest.mark.parametrize("spoilt", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("half", [0, 1])
def test_what_is_not_a_number_spoils_its_row_and_head_alone(spoilt: float, half: int) -> None:
    """Damaged weights must be heard of: a row whose logits are no numbers is ended with an error."""
    shape = _shape(torch.float32)
    cache = _cache(shape, [50, 50])
    cache.written(0)[0, half, 17, 3, 5] = spoilt
    mixed = StepAttention(shape)(_packed(2, shape), cache.reach([0, 1]), 0).view(2, 16, 32)
    assert not bool(mixed[0, 3].isfinite().all())
    assert bool(mixed[0, :3].isfinite().all())
    assert bool(mixed[1].isfinite().all())


@pytest.mark.parametrize("width", [8, 128, 512, 520])
@pytest.mark.parametrize(("rows", "columns"), [(1, 2), (2, 2), (16, 16), (33, 33), (256, 256)])
def test_a_normed_sum_is_that_of_torch(rows: int, columns: int, width: int) -> None:
    draw = torch.Generator().manual_seed(rows)
    residual = torch.randn(rows, width, generator=draw)
    turned = torch.randn(width, columns, generator=draw).bfloat16()
    bias, gain, shift = torch.randn(3, width, generator=draw).unbind()
    found, short = normed_sum(residual, turned, bias, (gain, shift), epsilon=1e-5)
    expected = layer_norm(residual + turned.t()[:rows] + bias, (width,), gain, shift, eps=1e-5)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)
    assert torch.equal(short, found.bfloat16())


def test_a_normed_sum_of_what_is_not_a_number_is_none_in_that_row_alone() -> None:
    residual = torch.randn(3, 512)
    residual[1, 7] = float("nan")
    zeros = torch.zeros(512)
    found, short = normed_sum(
        residual, torch.zeros(512, 3, dtype=torch.bfloat16), zeros, (zeros + 1, zeros), epsilon=1e-5
    )
    assert found.isnan().all(dim=1).tolist() == [False, True, False]
    assert short.isnan().all(dim=1).tolist() == [False, True, False]


def test_bfloat16_is_rounded_as_torch_does() -> None:
    numbers = torch.cat((torch.randn(5000) * 10 ** torch.randint(-30, 30, (5000,)).float(), torch.tensor([0.0, -0.0])))
    halfway = (numbers.bfloat16().view(torch.int16).to(torch.int32) << 16 | 0x8000).view(torch.float32)
    for number in (*numbers.tolist(), *halfway.tolist()):
        expected = torch.tensor(number).bfloat16()
        found = rounded(np.float32(number))
        assert found == expected.view(torch.uint16).item()
        assert widened(np.uint16(found)) == expected.item()


# --- the network --------------------------------------------------------------------------------------------------


def _network(dtype: T2SDtype) -> T2SNetwork:
    return t2s_network(view(parts(dtype=dtype, eos_gain=0.0)).parts[GPT])


def _utterance(seed: int, phones: int, prompt: int = 20) -> Utterance:
    draw = torch.Generator().manual_seed(seed)
    return Utterance(
        phones=torch.randint(1, 700, (phones,), generator=draw),
        bert=None,
        prompt=torch.randint(0, 1024, (prompt,), generator=draw),
    )


@pytest.mark.parametrize("dtype", list(T2SDtype))
def test_utterances_that_are_read_together_are_read_as_alone(dtype: T2SDtype) -> None:
    """Bit by bit in what is kept of them, also where they lie across the borders of what is multiplied at once; the
    logits come of a float32 product, which is summed in another order for another number of rows."""
    network = _network(dtype)
    utterances = [
        _utterance(seed, phones, prompt)
        for seed, (phones, prompt) in enumerate(
            [(30, 20), (ROWS_AT_ONCE, 1), (1, 0), (90, 300), (5, 5), (2 * ROWS_AT_ONCE - 7, 7)]
        )
    ]
    together = network.new_cache(slots=6, capacity=2000, pool=MemoryPool())
    with torch.inference_mode():
        slots, logits = network.prefill(utterances, together, room=[1] * 6)
        for slot, utterance, row in zip(slots, utterances, logits, strict=True):
            alone = network.new_cache(slots=1, capacity=2000, pool=MemoryPool())
            _, expected = network.prefill([utterance], alone, room=[1])
            torch.testing.assert_close(row, expected[0], atol=2e-6, rtol=1e-5)
            assert torch.equal(alone.written(0), together.written(slot))


@pytest.mark.parametrize("dtype", list(T2SDtype))
def test_a_step_is_that_of_torch(dtype: T2SDtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is compiled (heads of another width), torch computes the same."""
    network, plain = _network(dtype), _network(dtype)
    assert plain._attention is not None
    monkeypatch.setattr(plain, "_attention", None)
    utterances = [_utterance(seed, 20 + 9 * seed) for seed in range(3)]
    found = []
    with torch.inference_mode():
        for each in (network, plain):
            cache = each.new_cache(slots=3, capacity=200, pool=MemoryPool())
            slots, _ = each.prefill(utterances, cache, room=[5] * 3)
            steps = [each.step(torch.tensor([5, 6, 7]), [20 + step] * 3, slots, cache) for step in range(5)]
            found.append(torch.cat(steps))
    tolerance = 1e-4 if dtype is T2SDtype.FP32 else 5e-2
    torch.testing.assert_close(found[0], found[1], atol=tolerance, rtol=tolerance)


# --- tiles --------------------------------------------------------------------------------------------------------

needs_tiles = pytest.mark.skipif(not tiles.available(), reason="this processor has no tile unit (AMX)")


def _matrix(out: int, depth: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(out + depth)
    matrix = (torch.randn(out, depth, generator=draw) / depth**0.5).bfloat16()
    return matrix, torch.randn(out, generator=draw)


@needs_tiles
@pytest.mark.parametrize("rows", [1, 2, 15, 16, 17, 40])
@pytest.mark.parametrize(("out", "depth"), [(32, 32), (1536, 512), (512, 2048), (384, 128)])
@pytest.mark.parametrize("turned", [False, True])
def test_a_product_of_tiles_is_rounded_once(rows: int, out: int, depth: int, turned: bool) -> None:
    matrix, bias = _matrix(out, depth)
    x = torch.randn(rows, depth, generator=torch.Generator().manual_seed(rows)).bfloat16()
    given = x.t().contiguous().t() if turned else x
    found = tiles.product(matrix, given, bias)
    assert found.shape == (out, rows)
    assert found.is_contiguous()
    expected = (matrix.double() @ x.double().t() + bias.double()[:, None]).bfloat16()
    unequal = found != expected
    assert float(unequal.double().mean()) <= 0.002
    torch.testing.assert_close(found.float(), expected.float(), atol=1e-2, rtol=1e-2)


@needs_tiles
@pytest.mark.parametrize(("out", "depth"), [(1536, 512), (512, 2048)])
def test_a_row_of_a_product_of_tiles_is_the_same_in_any_company(out: int, depth: int) -> None:
    matrix, bias = _matrix(out, depth)
    x = torch.randn(40, depth, generator=torch.Generator().manual_seed(1)).bfloat16()
    together = tiles.product(matrix, x, bias)
    for first, count in ((0, 1), (15, 1), (39, 1), (3, 2), (5, 16), (1, 33)):
        alone = tiles.product(matrix, x[first : first + count], bias)
        assert torch.equal(alone, together[:, first : first + count])


@needs_tiles
def test_what_is_not_a_number_spoils_its_column_of_a_product_alone() -> None:
    matrix, bias = _matrix(64, 64)
    x = torch.zeros(3, 64).bfloat16()
    x[1, 5] = float("nan")
    found = tiles.product(matrix, x, bias)
    assert found.isnan().all(dim=0).tolist() == [False, True, False]


def test_a_step_without_tiles_is_much_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a processor that has none, or with widths that are no multiples of a tile's."""
    found = []
    for able in (True, False):
        if not able:
            monkeypatch.setattr(tiles, "fits", lambda _matrix: False)
        network = _network(T2SDtype.BF16)
        cache = network.new_cache(slots=2, capacity=200, pool=MemoryPool())
        with torch.inference_mode():
            slots, _ = network.prefill([_utterance(1, 30), _utterance(2, 50)], cache, room=[5, 5])
            found.append(network.step(torch.tensor([5, 6]), [20, 20], slots, cache))
    torch.testing.assert_close(found[0], found[1], atol=5e-2, rtol=5e-2)


def test_without_a_tile_unit_nothing_is_multiplied_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "available", lambda: False)
    matrix, bias = _matrix(64, 64)
    assert not tiles.fits(matrix)
    with pytest.raises(RuntimeError, match="no tile unit"):
        tiles.product(matrix, matrix[:2], bias)


@needs_tiles
@pytest.mark.parametrize("shape", [(33, 32), (16, 32), (32, 48)])
def test_widths_that_are_no_multiples_of_a_tile_do_not_fit(shape: tuple[int, int]) -> None:
    assert tiles.fits(torch.zeros(64, 64, dtype=torch.bfloat16))
    assert not tiles.fits(torch.zeros(shape, dtype=torch.bfloat16))
