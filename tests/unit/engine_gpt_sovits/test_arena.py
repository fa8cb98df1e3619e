"""A voice is built on the memory it is given, keeps nothing of it, and lets go of all of it."""

from __future__ import annotations

import gc

import pytest
from tests.unit.engine_gpt_sovits.builders import PhonesGiven, in_mapping, parts, run, words

from segue.engine import Device, SynthesisRequest
from segue_engines.gpt_sovits.engine import GptSovitsEngine
from segue_engines.gpt_sovits.t2s.packing import T2SDtype


@pytest.mark.parametrize("dtype", list(T2SDtype))
def test_every_parameter_lies_in_the_mapping_that_build_was_given(dtype: T2SDtype) -> None:
    mapping, voice = in_mapping(parts(dtype=dtype))
    synthesizer = GptSovitsEngine(front_end=PhonesGiven()).build(voice, Device())
    anchor = voice.parts["gpt"].tensors["model.bert_proj.weight"]
    low = anchor.__array_interface__["data"][0]
    for name, tensor in synthesizer.parameters().items():
        assert low <= tensor.data_ptr(), name
        assert tensor.data_ptr() + tensor.nbytes <= low + len(mapping), name


def test_after_close_the_mapping_can_be_closed_though_rows_still_live() -> None:
    mapping, voice = in_mapping(parts())
    synthesizer = GptSovitsEngine(front_end=PhonesGiven()).build(voice, Device())
    rows = [
        synthesizer.admit(SynthesisRequest(text=words(seed, fragments=2, phones=40), streaming=True))
        for seed in range(3)
    ]
    for _ in range(20):
        synthesizer.step(rows)
    synthesizer.close()
    del voice
    gc.collect()
    mapping.close()
    assert not any(row.done for row in rows)
    for row in rows:
        row.close()


def test_while_the_voice_is_built_the_mapping_refuses_to_be_closed() -> None:
    mapping, voice = in_mapping(parts())
    synthesizer = GptSovitsEngine(front_end=PhonesGiven()).build(voice, Device())
    del voice
    gc.collect()
    with pytest.raises(BufferError):
        mapping.close()
    synthesizer.close()


def test_a_closed_synthesizer_fails_its_rows_instead_of_reading_freed_memory() -> None:
    mapping, voice = in_mapping(parts())
    synthesizer = GptSovitsEngine(front_end=PhonesGiven()).build(voice, Device())
    row = synthesizer.admit(SynthesisRequest(text=words(1)))
    synthesizer.close()
    run(synthesizer, [row])
    assert isinstance(row.error, RuntimeError)
    del voice
    gc.collect()
    mapping.close()
