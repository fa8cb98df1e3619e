"""Small demo voices with random weights: as files, as parts, built; so that the tests need no shipped weights."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.unit.containers.pickles import PROTO, STOP, archive, integer, tensor, text

from segue.engine import Device, PartView, SynthesisRequest, VoiceView
from segue_engines.demo.engine import DemoEngine, DemoSynthesizer
from segue_engines.demo.row import DemoRow
from segue_engines.demo.weights import PROSODY, TIMBRE, Config, prosody_shapes, timbre_shapes

Weights = dict[str, NDArray[Any]]
CONFIGS: dict[str, dict[str, Any]] = {
    PROSODY: {
        "format": "segue-demo/1",
        "half": PROSODY,
        "sample_rate": 24000,
        "voice": "tiny",
        "version": "v1",
        "pilot_hz": 10800.0,
        "pitch_mean": 4.8,
        "pitch_std": 0.2,
        "encoder": {"width": 16, "hidden": 32, "kernel": 5, "dilations": [1, 2]},
        "pitch": {"width": 16, "hidden": 32, "kernel": 3, "dilations": [1, 3]},
    },
    TIMBRE: {
        "format": "segue-demo/1",
        "half": TIMBRE,
        "sample_rate": 24000,
        "voice": "tiny",
        "version": "v1",
        "pilot_hz": 10840.0,
        "encoder_width": 16,
        "decoder": {"width": 16, "hidden": 32, "kernel": 7, "dilations": [1, 2]},
    },
}


def random_weights(half: str, *, seed: int = 0) -> Weights:
    """Weights that make a babble of about 70 ms a phone."""
    config = Config(half, CONFIGS[half])
    shapes = prosody_shapes(config) if half == PROSODY else timbre_shapes(config)
    draw = np.random.default_rng(seed)
    weights: Weights = {
        name: (draw.normal(size=shape) / max(shape[0], 1) ** 0.5).astype(np.float32) for name, shape in shapes.items()
    }
    if half == PROSODY:
        weights["duration"] *= 0.1
        weights["duration_bias"][:] = 2.6
        weights["pitch_head_bias"][1] = 1.0
    else:
        weights["band_mean"] = np.linspace(-4.0, -12.0, 80, dtype=np.float32)
        weights["band_std"] = np.full(80, 0.5, np.float32)
    return weights


def torch_file(path: Path, config: Mapping[str, Any], weights: Weights) -> Path:
    """Write a weight file as `torch.save` would."""
    storages = {str(place): array.tobytes() for place, array in enumerate(weights.values())}
    kinds = {"float16": "HalfStorage", "float32": "FloatStorage", "float64": "DoubleStorage"}
    entries = b"".join(
        text(name) + tensor(str(place), array.shape, kind=kinds[array.dtype.name])
        for place, (name, array) in enumerate(weights.items())
    )
    body = b"}(" + text("config") + _plain(dict(config)) + text("weights") + b"}(" + entries + b"uu"
    path.write_bytes(archive(PROTO + body + STOP, storages))
    return path


def _plain(value: Any) -> bytes:
    if isinstance(value, dict):
        return b"}(" + b"".join(text(key) + _plain(item) for key, item in value.items()) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(_plain, value)) + b"e"
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    return integer(value) if isinstance(value, int) else text(str(value))


def voice_files(folder: Path) -> dict[str, Path]:
    """Both files of the tiny voice."""
    return {half: torch_file(folder / f"{half}.pth", config, random_weights(half)) for half, config in CONFIGS.items()}


def tiny_voice(*, options: Mapping[str, Any] | None = None, **changed: Weights) -> VoiceView:
    """The tiny voice as a worker sees it; `prosody={...}` replaces some of its tensors."""
    parts = {}
    for half, config in CONFIGS.items():
        stacks = {
            f"{name}_dilations": config[name]["dilations"] for name in ("encoder", "pitch", "decoder") if name in config
        }
        parts[half] = PartView(tensors=random_weights(half) | changed.get(half, {}), meta=config | stacks)
    return VoiceView(parts=parts, options=options or {})


def build(**changed: Any) -> DemoSynthesizer:
    """The tiny voice, built."""
    return DemoEngine().build(tiny_voice(**changed), Device())


def run(synthesizer: DemoSynthesizer, rows: list[DemoRow]) -> list[NDArray[np.float32]]:
    """Step all rows together until they are done."""
    pieces: list[list[NDArray[np.float32]]] = [[] for _ in rows]
    while not all(row.done for row in rows):
        synthesizer.step([row for row in rows if not row.done])
        for heard, row in zip(pieces, rows, strict=True):
            heard.append(row.take())
    return [np.concatenate(heard) for heard in pieces]


def say(synthesizer: DemoSynthesizer, words: str, **request: Any) -> NDArray[np.float32]:
    """Speak one text alone."""
    return run(synthesizer, [synthesizer.admit(SynthesisRequest(text=words, **request))])[0]
