"""The generator in blocks computes what it would compute at once, and asks for few shapes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.engine_gpt_sovits.builders import sovits_checkpoint
from torch import Tensor
from torch.nn.functional import conv1d, conv2d, conv_transpose1d, leaky_relu

from segue_engines.gpt_sovits.formats import SovitsConfig
from segue_engines.gpt_sovits.sovits import generator
from segue_engines.gpt_sovits.sovits.blocks import BLOCKS, FRAMES_PER_BLOCK, BlockSequence, Grid
from segue_engines.gpt_sovits.sovits.packing import DecoderDtype, packed, unpacked

CPU = torch.device("cpu")
LATENT = 12


@pytest.fixture(scope="module")
def drawn() -> tuple[SovitsConfig, dict[str, Tensor]]:
    """Weights of which every activation is of the size of one, so that an edge done wrong is heard."""
    checkpoint = sovits_checkpoint()
    config = checkpoint.config
    draw = torch.Generator().manual_seed(5)
    weights: dict[str, Tensor] = {}

    def layer(name: str, *shape: int, fan_in: int) -> None:
        weights[f"{name}.weight"] = torch.randn(shape, generator=draw) / fan_in**0.5
        weights[f"{name}.bias"] = torch.randn(shape[1] if ".ups." in name else shape[0], generator=draw)

    channels = config.upsample_initial_channel
    layer("dec.conv_pre", channels, LATENT, 7, fan_in=LATENT * 7)
    count = len(config.resblock_kernel_sizes)
    for stage, kernel in enumerate(config.upsample_kernel_sizes):
        layer(f"dec.ups.{stage}", channels, channels // 2, kernel, fan_in=channels)
        channels //= 2
        for place, width in enumerate(config.resblock_kernel_sizes):
            for half in ("convs1", "convs2"):
                for step in range(3):
                    name = f"dec.resblocks.{stage * count + place}.{half}.{step}"
                    layer(name, channels, channels, width, fan_in=2 * channels * width)
    layer("dec.conv_post", 1, channels, 7, fan_in=channels * 7 * 20)
    del weights["dec.conv_post.bias"]
    arrays = [(name, tensor.numpy()) for name, tensor in weights.items()]
    arrays_of = packed(arrays, dtype=DecoderDtype.FP32)
    return config, unpacked({name: torch.from_numpy(array) for name, array in arrays_of.items()})


def at_once(weights: dict[str, Tensor], config: SovitsConfig, z: Tensor, added: Tensor) -> Tensor:
    """HiFi-GAN as its paper has it: one-dimensional convolutions over everything."""

    def conv(name: str, x: Tensor, dilation: int = 1) -> Tensor:
        kernel = weights[f"{name}.weight"]
        reach = kernel.shape[-1] // 2 * dilation
        return conv1d(x, kernel, weights.get(f"{name}.bias"), padding=reach, dilation=dilation)

    x = conv("dec.conv_pre", z) + added
    count = len(config.resblock_kernel_sizes)
    for stage, (rate, kernel) in enumerate(zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True)):
        up = f"dec.ups.{stage}"
        x = conv_transpose1d(
            leaky_relu(x, 0.1),
            weights[f"{up}.weight"],
            weights[f"{up}.bias"],
            stride=rate,
            padding=(kernel - rate) // 2,
        )
        made = []
        for place, dilations in enumerate(config.resblock_dilation_sizes):
            block, name = x, f"dec.resblocks.{stage * count + place}"
            for step, dilation in enumerate(dilations):
                wide = conv(f"{name}.convs1.{step}", leaky_relu(block, 0.1), dilation)
                block = block + conv(f"{name}.convs2.{step}", leaky_relu(wide, 0.1))
            made.append(block)
        x = sum(made[1:], made[0]) / count
    return torch.tanh(conv("dec.conv_post", leaky_relu(x, 0.01)))[:, 0]


def window(frames: int, *, rows: int, config: SovitsConfig) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(frames)
    z = torch.randn(rows, LATENT, frames, generator=draw)
    return z, torch.randn(1, config.upsample_initial_channel, 1, generator=draw)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("frames", [1, 7, 8, 9, 24, 25, 53, 57, 72, 85, 113, 160, 161, 190])
@torch.inference_mode()
def test_blocks_sound_like_the_whole(drawn: tuple[SovitsConfig, dict[str, Tensor]], frames: int, rows: int) -> None:
    config, weights = drawn
    z, added = window(frames, rows=rows, config=config)
    expected = at_once(weights, config, z, added)
    found = generator.samples_of(weights, config, z, added)
    assert found.shape == expected.shape == (rows, frames * config.hop_length)
    assert expected.std() > 0.05, "a silent window would prove nothing"
    assert (found - expected).abs().max() <= 2e-6


@torch.inference_mode()
def test_one_block_a_row_as_a_device_has_it(
    drawn: tuple[SovitsConfig, dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, weights = drawn
    z, added = window(37, rows=2, config=config)
    device = Grid.of(2, 37, torch.device("cuda"))
    assert [(piece.rows, piece.first, piece.blocks) for piece in device.pieces] == [(slice(0, 2), 0, 1)]
    monkeypatch.setattr(Grid, "of", classmethod(lambda *_: device))
    found = generator.samples_of(weights, config, z, added)
    assert (found - at_once(weights, config, z, added)).abs().max() <= 2e-6


@torch.inference_mode()
def test_all_lengths_of_a_window_ask_for_few_shapes(
    drawn: tuple[SovitsConfig, dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, weights = drawn
    asked: set[tuple[torch.Size, torch.Size, tuple[int, int]]] = set()

    def noted(x: Tensor, kernel: Tensor, bias: Tensor | None, *, dilation: tuple[int, int]) -> Tensor:
        asked.add((x.shape, kernel.shape, dilation))
        return conv2d(x, kernel, bias, dilation=dilation)

    monkeypatch.setattr(generator, "conv2d", noted)
    for frames in range(5, 165, 20):
        z, added = window(frames, rows=1, config=config)
        generator.samples_of(weights, config, z, added)
    before = len(asked)
    for frames in (12, 33, 51, 66, 86, 103, 126, 157):
        z, added = window(frames, rows=2, config=config)
        generator.samples_of(weights, config, z, added)
    assert len(asked) == before, "eight windows of other lengths need nothing new"


@given(rows=st.integers(1, 5), frames=st.integers(1, 700))
@settings(max_examples=200, deadline=None)
def test_pieces_cover_every_block_of_every_row_once(rows: int, frames: int) -> None:
    grid = Grid.of(rows, frames, CPU)
    covered = [
        (row, block)
        for piece in grid.pieces
        for row in range(piece.rows.start, piece.rows.stop)
        for block in range(piece.first, piece.first + piece.blocks)
    ]
    assert sorted(covered) == [(row, block) for row in range(rows) for block in range(grid.blocks)]
    assert grid.blocks * FRAMES_PER_BLOCK >= frames
    assert {piece.blocks for piece in grid.pieces} <= set(BLOCKS)


@given(frames=st.integers(1, 200), reach=st.integers(1, 30), rate=st.integers(1, 3))
@settings(max_examples=200, deadline=None)
def test_what_lies_outside_of_a_sequence_is_zero(frames: int, reach: int, rate: int) -> None:
    grid = Grid.of(1, frames, CPU)
    sequence = BlockSequence(grid, rate=rate, channels=1, margin=reach, like=torch.zeros(0)).fill(
        torch.ones(1, frames * rate, 1)
    )
    for piece in grid.pieces:
        seen = sequence.blocks(piece, reach=reach)
        computed = torch.full_like(seen.contiguous(), 1.0)
        sequence.clear_outside(computed, piece, reach=reach)
        assert torch.equal(computed, seen)


def test_the_chunks_of_a_stream_fit_their_blocks() -> None:
    """24, 53, 85 and 160 frames: what the first chunk, the second, the third and all others are decoded from."""
    sizes = [FRAMES_PER_BLOCK * count for count in BLOCKS]
    for frames in (24, 53, 85, 160):
        wasted = next(size for size in sizes if size >= frames) - frames
        assert wasted < FRAMES_PER_BLOCK
