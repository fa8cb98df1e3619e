"""Files to parts to a synthesizer: what is refused, and that nothing is copied."""

from __future__ import annotations

import gc
import mmap
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.engine_demo.builders import CONFIGS, random_weights, say, tiny_voice, torch_file, voice_files

from segue.engine import Device, Engine, PartView, PrepareOptions, SynthesisRequest, VoiceView
from segue.errors import InvalidVoiceModel, SegueError, ShapeMismatch, WeightsError
from segue_engines.demo.allocator import keep_freed_memory
from segue_engines.demo.engine import DemoEngine
from segue_engines.demo.weights import PROSODY, TIMBRE
from segue_engines.registry import engine_names, get_engine
from segue_engines.speak import load_voice, synthesize


def _prepare(files: dict[str, Path], **options: Any) -> None:
    DemoEngine().prepare(files, PrepareOptions(options=options))


def test_prepared_files_speak_like_the_arrays_they_hold(tmp_path: Path) -> None:
    synthesizer = load_voice(get_engine("demo"), voice_files(tmp_path))
    heard = synthesize(synthesizer, SynthesisRequest(text="Hello there."))
    assert np.array_equal(heard, say(DemoEngine().build(tiny_voice(), Device()), "Hello there."))


def test_float16_files_are_widened_once_in_prepare(tmp_path: Path) -> None:
    halves = {name: array.astype(np.float16) for name, array in random_weights(PROSODY).items()}
    files = voice_files(tmp_path) | {PROSODY: torch_file(tmp_path / "half.pth", CONFIGS[PROSODY], halves)}
    prepared = DemoEngine().prepare(files, PrepareOptions())
    assert {array.dtype.name for part in prepared.parts.values() for array in part.tensors.values()} == {"float32"}
    assert list(prepared.parts) == [PROSODY, TIMBRE]


@pytest.mark.parametrize("change", ["shape", "missing", "unknown", "dtype"])
def test_a_tensor_that_does_not_fit_is_named(tmp_path: Path, change: str) -> None:
    weights = random_weights(PROSODY)
    if change == "shape":
        weights["pitch_head"] = weights["pitch_head"][:, :1].copy()
    elif change == "missing":
        del weights["pitch_head"]
    elif change == "unknown":
        weights["pitch_heads"] = weights["pitch_head"]
    else:
        weights["pitch_head"] = weights["pitch_head"].astype(np.float64)
    files = voice_files(tmp_path) | {PROSODY: torch_file(tmp_path / "bad.pth", CONFIGS[PROSODY], weights)}
    with pytest.raises(ShapeMismatch, match=r"prosody \(bad\.pth\).*pitch_head"):
        _prepare(files)


def test_halves_of_different_widths_are_refused(tmp_path: Path) -> None:
    config = CONFIGS[TIMBRE] | {"encoder_width": 8}
    weights = random_weights(TIMBRE)
    weights["frame_hidden"] = weights["frame_hidden"][:8].copy()
    files = voice_files(tmp_path) | {TIMBRE: torch_file(tmp_path / "narrow.pth", config, weights)}
    with pytest.raises(ShapeMismatch, match="width 16, timbre takes 8"):
        _prepare(files)


def test_swapped_halves_are_refused(tmp_path: Path) -> None:
    files = voice_files(tmp_path)
    with pytest.raises(WeightsError, match=r"config\.half is 'timbre'; expected 'prosody'"):
        _prepare({PROSODY: files[TIMBRE], TIMBRE: files[PROSODY]})


@pytest.mark.parametrize("names", [(PROSODY,), (PROSODY, TIMBRE, "extra"), ()])
def test_both_weights_and_no_others_are_needed(tmp_path: Path, names: tuple[str, ...]) -> None:
    files = voice_files(tmp_path)
    with pytest.raises(WeightsError, match=r"needs the weights \['prosody', 'timbre'\]"):
        _prepare({name: files.get(name, files[PROSODY]) for name in names})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", "segue-demo/9"),
        ("sample_rate", 48000),
        ("pilot_hz", 440.0),
        ("pilot_hz", float("nan")),
        ("pitch_mean", 1e9),
        ("encoder", 7),
        ("encoder", CONFIGS[PROSODY]["encoder"] | {"width": 1 << 40}),
        ("encoder", CONFIGS[PROSODY]["encoder"] | {"kernel": 4}),
        ("encoder", CONFIGS[PROSODY]["encoder"] | {"dilations": [1] * 1000}),
        ("encoder", CONFIGS[PROSODY]["encoder"] | {"dilations": [1, 10_000]}),
    ],
)
def test_a_config_out_of_bounds_is_refused_before_shapes_are_made_of_it(tmp_path: Path, key: str, value: Any) -> None:
    config = CONFIGS[PROSODY] | {key: value}
    files = voice_files(tmp_path) | {PROSODY: torch_file(tmp_path / "odd.pth", config, random_weights(PROSODY))}
    with pytest.raises(WeightsError, match=rf"prosody \(odd\.pth\): config\.{key}"):
        _prepare(files)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    files = voice_files(tmp_path)
    files[TIMBRE].write_bytes(b"not a zip at all")
    with pytest.raises(WeightsError, match=r"timbre"):
        _prepare(files)


def test_nan_weights_are_well_formed(tmp_path: Path) -> None:
    weights = random_weights(PROSODY)
    weights["embedding"][2] = np.nan
    prepared = DemoEngine().prepare(
        voice_files(tmp_path) | {PROSODY: torch_file(tmp_path / "nan.pth", CONFIGS[PROSODY], weights)},
        PrepareOptions(),
    )
    assert np.isnan(prepared.parts[PROSODY].tensors["embedding"][2]).all()


@pytest.mark.parametrize(
    "options", [{"speed": 9}, {"speed": "fast"}, {"speed": True}, {"language": "zh"}, {"language": 3}, {"sped": 1}]
)
def test_options_that_the_engine_lacks_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidVoiceModel, match=r"spec\.options\."):
        _prepare(voice_files(tmp_path), **options)


def _in_one_mapping(mapping: mmap.mmap) -> VoiceView:
    """Lay the tiny voice into a mapping, as an arena would hold it."""
    place = 0
    parts: dict[str, PartView] = {}
    for name, part in tiny_voice().parts.items():
        views: dict[str, np.ndarray[Any, np.dtype[Any]]] = {}
        for key, array in part.tensors.items():
            mapping[place : place + array.nbytes] = array.tobytes()
            view = np.frombuffer(mapping, np.float32, count=array.size, offset=place).reshape(array.shape)
            view.flags.writeable = False
            views[key] = view
            place += -(-array.nbytes // 64) * 64
        parts[name] = PartView(tensors=views, meta=part.meta)
    return VoiceView(parts=parts)


def test_every_parameter_lies_in_the_mapping_that_build_was_given() -> None:
    with mmap.mmap(-1, 1 << 20) as mapping:
        synthesizer = DemoEngine().build(_in_one_mapping(mapping), Device())
        block = np.frombuffer(mapping, np.uint8)
        low = block.__array_interface__["data"][0]
        used = synthesizer.parameters()
        assert {name.partition(".")[0] for name in used} == {PROSODY, TIMBRE}
        for array in used.values():
            address = array.__array_interface__["data"][0]
            assert low <= address
            assert address + array.nbytes <= low + len(block)
        synthesizer.close()
        del block, used, array


def test_after_close_the_mapping_can_be_closed_though_a_row_still_lives() -> None:
    mapping = mmap.mmap(-1, 1 << 20)
    synthesizer = DemoEngine().build(_in_one_mapping(mapping), Device())
    row = synthesizer.admit(SynthesisRequest(text="One two three four, five six seven.", streaming=True))
    synthesizer.step([row])
    synthesizer.close()
    gc.collect()
    mapping.close()
    assert not row.done


def test_a_closed_synthesizer_fails_its_rows_instead_of_reading_freed_memory() -> None:
    synthesizer = DemoEngine().build(tiny_voice(), Device())
    row = synthesizer.admit(SynthesisRequest(text="Hello."))
    synthesizer.close()
    synthesizer.step([row])
    assert isinstance(row.error, RuntimeError)


def test_the_registry_knows_its_engines_and_names_them() -> None:
    engine: Engine = get_engine("demo")
    assert engine.name in engine_names()
    with pytest.raises(SegueError, match=r"no engine 'vits'.*'demo'"):
        get_engine("vits")


@pytest.mark.skipif(sys.platform != "linux", reason="the setting is glibc's")
def test_building_a_voice_lets_the_process_keep_freed_memory() -> None:
    say(DemoEngine().build(tiny_voice(), Device()), "Hello.")  # first use of every kind of block
    synthesizer = DemoEngine().build(tiny_voice(), Device())
    say(synthesizer, "Five or six sentences are enough.")
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    say(synthesizer, "Five or six sentences are enough.")
    assert keep_freed_memory()
    assert resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before < 2000
