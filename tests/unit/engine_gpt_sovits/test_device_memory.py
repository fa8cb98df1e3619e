"""A voice on device memory speaks as in host memory, holds it while it is built, and lets go of all of it.

The device is the driver without one: its memory is the processor's, so the networks really compute on what was mapped
or copied. That nothing else is computed on the wrong device is tried by making another device the default.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from tests.fakes import cuda_driver as fake
from tests.support.device_memory import MIB, Setup, make_setup
from tests.unit.engine_gpt_sovits.builders import PhonesGiven, build, parts, say, view, words

from segue.engine import Device, SynthesisRequest, VoiceView
from segue.errors import WeightsError
from segue.memory.arena import ArenaPlan
from segue.memory.interface import MappedPart
from segue.memory.mode import MemoryMode
from segue_engines.gpt_sovits.engine import GptSovitsEngine
from segue_engines.gpt_sovits.t2s.packing import T2SDtype


@pytest.fixture(params=[MemoryMode.GPU_SHARED, MemoryMode.GPU_COPY], ids=str)
def setup(request: pytest.FixtureRequest) -> Iterator[Setup]:
    fake.reset()
    made = make_setup(request.param, budget_bytes=256 * MIB)
    yield made
    made.memory.close()
    assert fake.state.violations == []
    fake.reset()


def mapped_voice(setup: Setup, *, dtype: T2SDtype = T2SDtype.FP32) -> tuple[list[MappedPart], VoiceView]:
    """The small voice in device memory."""
    mapped = []
    for name, part in parts(dtype=dtype).items():
        plan = ArenaPlan.of(part)
        allocation = setup.memory.allocate(plan.total_bytes, name=name)
        plan.write(allocation.fd)
        sealed = setup.memory.seal(allocation, owner="rev")
        setup.finish_uploads(sealed)
        mapped.append(setup.map(sealed))
    return mapped, VoiceView(parts={part.part.name: part.view() for part in mapped})


@pytest.mark.parametrize("dtype", [T2SDtype.FP32, T2SDtype.BF16], ids=str)
def test_it_says_the_same_and_every_parameter_lies_in_device_memory(setup: Setup, dtype: T2SDtype) -> None:
    mapped, voice = mapped_voice(setup, dtype=dtype)
    synthesizer = GptSovitsEngine(front_end=PhonesGiven()).build(voice, Device())
    ranges = {part.part.name: part.address_range() for part in mapped}
    for name, tensor in synthesizer.parameters().items():
        first, end = ranges[name.partition(".")[0]]
        assert first <= tensor.data_ptr() <= tensor.data_ptr() + tensor.nbytes <= end, name
    del tensor
    heard = say(synthesizer, words(1), seed=5)
    expected = say(build(dtype=dtype), words(1), seed=5)
    assert heard[0] == expected[0]
    np.testing.assert_array_equal(heard[1], expected[1])
    synthesizer.close()
    del voice
    gc.collect()
    for part in mapped:
        part.close()


def test_while_it_is_built_the_memory_refuses_to_go_and_after_close_it_goes_though_rows_live(setup: Setup) -> None:
    mapped, voice = mapped_voice(setup)
    synthesizer = GptSovitsEngine(front_end=PhonesGiven()).build(voice, Device())
    row = synthesizer.admit(SynthesisRequest(text=words(2), streaming=True))
    for _ in range(15):
        synthesizer.step([row])
    by_name = {part.part.name: part for part in mapped}
    for name in ("gpt", "sovits"):
        with pytest.raises(BufferError, match="still live on the device"):
            by_name[name].close()
    synthesizer.close()
    del voice
    gc.collect()
    for part in mapped:
        part.close()
    assert not row.done
    row.close()


def test_nothing_is_computed_on_the_default_device_instead_of_the_weights_own() -> None:
    """As on a machine with a GPU, where whatever names no device lands on the CPU: here it would land nowhere."""
    seen, engine = view(parts()), GptSovitsEngine(front_end=PhonesGiven())
    synthesizer = engine.build(seen, Device())
    expected = say(synthesizer, words(3, fragments=2), seed=1, options={"temperature": 0.8, "top_p": 0.9})
    with torch.device("meta"):
        again = engine.build(seen, Device())
        heard = say(again, words(3, fragments=2), seed=1, options={"temperature": 0.8, "top_p": 0.9})
        streamed = say(again, words(3, fragments=2), seed=1, speed=1.2, streaming=True)
    assert heard[0] == expected[0]
    np.testing.assert_array_equal(heard[1], expected[1])
    assert len(streamed[1])


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "mps"])
def test_a_device_that_there_is_not_is_refused_by_name(name: str) -> None:
    voice = VoiceView(parts={})
    with pytest.raises(WeightsError, match="runs on cpu or cuda:N"):
        GptSovitsEngine(front_end=PhonesGiven()).build(voice, Device(name=name))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_cuda_device_without_one_is_refused_with_what_to_do() -> None:
    with pytest.raises(WeightsError, match="sees 0 CUDA devices; asked for 'cuda:0'"):
        GptSovitsEngine(front_end=PhonesGiven()).build(VoiceView(parts={}), Device(name="cuda:0"))
