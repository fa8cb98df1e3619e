"""What must be in the two weight files of a demo voice, and the check that it is.

Separate from the network because files are hostile: sizes in the config are bounded before shapes are derived from
them, and every tensor is named, shaped and typed as expected before anything computes with it. Values are not judged
here: a voice full of NaN is well-formed, and whether it *speaks* is what verification is for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from segue.containers import load_torch_file
from segue.engine import PreparedPart, PrepareOptions
from segue.errors import ShapeMismatch, WeightsError
from segue_engines.demo.bands import BANDS
from segue_engines.demo.places import FRAME_FEATURES, POSITION_FEATURES
from segue_engines.demo.text import PHONES
from segue_engines.demo.vocoder import RATE_HZ

FORMAT: Final = "segue-demo/1"
PROSODY: Final = "prosody"
TIMBRE: Final = "timbre"

PILOT_BAND_HZ: Final = (10_700.0, 11_950.0)
"""Above all speech, below the Nyquist frequency."""

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StackShape:
    """Sizes of a stack of convolution blocks, as stored in a config."""

    width: int
    hidden: int
    kernel: int
    dilations: tuple[int, ...]

    def shapes(self, name: str) -> dict[str, tuple[int, ...]]:
        """Tensor names of the stack and their shapes."""
        shapes: dict[str, tuple[int, ...]] = {}
        for index in range(len(self.dilations)):
            shapes |= {
                f"{name}.{index}.depthwise": (self.kernel, self.width),
                f"{name}.{index}.depthwise_bias": (self.width,),
                f"{name}.{index}.expand": (self.width, self.hidden),
                f"{name}.{index}.expand_bias": (self.hidden,),
                f"{name}.{index}.project": (self.hidden, self.width),
                f"{name}.{index}.project_bias": (self.width,),
            }
        return shapes


@dataclass(frozen=True, slots=True)
class Config:
    """The plain data of one weight file, read with bounds; every complaint names the file and the key."""

    file: str
    values: Mapping[str, Any]

    def number(self, key: str, *, low: float, high: float) -> float:
        """Take a number between `low` and `high`."""
        value = self.values.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise WeightsError(f"{self.file}: config.{key} is {value!r}; expected a number from {low:g} to {high:g}")
        return float(value)

    def whole(self, key: str, *, low: int, high: int) -> int:
        """Take an integer between `low` and `high`."""
        number = self.number(key, low=low, high=high)
        if number != int(number):
            raise WeightsError(f"{self.file}: config.{key} is {number!r}; expected a whole number")
        return int(number)

    def equal(self, key: str, expected: object) -> None:
        """Insist on one value."""
        if self.values.get(key) != expected:
            raise WeightsError(f"{self.file}: config.{key} is {self.values.get(key)!r}; expected {expected!r}")

    def stack(self, key: str) -> StackShape:
        """Take the sizes of a stack."""
        values = self.values.get(key)
        if not isinstance(values, Mapping):
            raise WeightsError(f"{self.file}: config.{key} is {type(values).__name__}; expected a dict of sizes")
        inner = Config(self.file, {f"{key}.{name}": value for name, value in values.items()})
        dilations = values.get("dilations")
        if not isinstance(dilations, list) or not 1 <= len(dilations) <= 16:
            raise WeightsError(f"{self.file}: config.{key}.dilations is {dilations!r}; expected a list of 1 to 16")
        steps = Config(self.file, {f"{key}.dilations[{place}]": step for place, step in enumerate(dilations)})
        kernel = inner.whole(f"{key}.kernel", low=1, high=15)
        if kernel % 2 == 0:
            raise WeightsError(f"{self.file}: config.{key}.kernel is {kernel}; expected an odd number")
        return StackShape(
            width=inner.whole(f"{key}.width", low=8, high=1024),
            hidden=inner.whole(f"{key}.hidden", low=8, high=4096),
            kernel=kernel,
            dilations=tuple(steps.whole(name, low=1, high=16) for name in steps.values),
        )


def prosody_shapes(config: Config) -> Shapes:
    """Tensors of `prosody.pth`, by its config."""
    encoder, pitch = config.stack("encoder"), config.stack("pitch")
    return {
        "embedding": (len(PHONES), encoder.width),
        "speaker": (encoder.width,),
        "position": (POSITION_FEATURES, encoder.width),
        **encoder.shapes("encoder"),
        "duration": (encoder.width, 1),
        "duration_bias": (1,),
        "frame_hidden": (encoder.width, pitch.width),
        "frame_place": (FRAME_FEATURES, pitch.width),
        "frame_bias": (pitch.width,),
        **pitch.shapes("pitch"),
        "pitch_head": (pitch.width, 2),
        "pitch_head_bias": (2,),
    }


def timbre_shapes(config: Config) -> Shapes:
    """Tensors of `timbre.pth`, by its config."""
    decoder = config.stack("decoder")
    return {
        "speaker": (decoder.width,),
        "frame_hidden": (config.whole("encoder_width", low=8, high=1024), decoder.width),
        "frame_place": (FRAME_FEATURES, decoder.width),
        "frame_pitch": (1, decoder.width),
        "frame_bias": (decoder.width,),
        **decoder.shapes("decoder"),
        "head": (decoder.width, 2 * BANDS),
        "head_bias": (2 * BANDS,),
        "band_mean": (BANDS,),
        "band_std": (BANDS,),
    }


def read_half(path: Path, half: str, options: PrepareOptions) -> PreparedPart:
    """Read and check one weight file; its tensors come back as float32.

    Stored as float16 to be small on disk and wire; computed with as float32, because numpy multiplies float16 some
    two hundred times slower.

    Raises
    ------
    WeightsError
        The file is no demo voice, or the other half of one.
    ShapeMismatch
        A tensor is missing, unknown, or of another shape or type.
    """
    file = f"{half} ({path.name})"
    loaded = load_torch_file(path, max_tensor_bytes=options.max_tensor_bytes, max_total_bytes=options.max_total_bytes)
    data = loaded.data
    if not isinstance(data, Mapping) or not isinstance(data.get("config"), Mapping):
        raise WeightsError(f"{file}: no dict `config` in it; expected a demo voice as training/export.py writes it")
    config = Config(file, data["config"])
    config.equal("format", FORMAT)
    config.equal("half", half)
    meta = _prosody_meta(config) if half == PROSODY else _timbre_meta(config)
    shapes = prosody_shapes(config) if half == PROSODY else timbre_shapes(config)
    tensors = {
        name.removeprefix("weights/"): array for name, array in loaded.tensors.items() if name.startswith("weights/")
    }
    _check_tensors(file, tensors, shapes)
    return PreparedPart(tensors={name: _widened(tensors[name]) for name in shapes}, meta=meta)


def check_halves(prosody: PreparedPart, timbre: PreparedPart) -> None:
    """Refuse halves that do not fit each other."""
    gives = prosody.tensors["embedding"].shape[1]
    takes = timbre.tensors["frame_hidden"].shape[0]
    if gives != takes:
        raise ShapeMismatch(
            f"prosody gives hidden states of width {gives}, timbre takes {takes}: use files of one voice"
        )


def _common_meta(config: Config) -> dict[str, Any]:
    config.equal("sample_rate", RATE_HZ)
    low, high = PILOT_BAND_HZ
    return {
        "voice": str(config.values.get("voice", ""))[:64],
        "version": str(config.values.get("version", ""))[:64],
        "pilot_hz": config.number("pilot_hz", low=low, high=high),
    }


def _prosody_meta(config: Config) -> dict[str, Any]:
    return _common_meta(config) | {
        "pitch_mean": config.number("pitch_mean", low=3.0, high=7.0),
        "pitch_std": config.number("pitch_std", low=0.001, high=2.0),
        "encoder_dilations": list(config.stack("encoder").dilations),
        "pitch_dilations": list(config.stack("pitch").dilations),
    }


def _timbre_meta(config: Config) -> dict[str, Any]:
    return _common_meta(config) | {"decoder_dilations": list(config.stack("decoder").dilations)}


def _check_tensors(file: str, tensors: Mapping[str, NDArray[Any]], shapes: Shapes) -> None:
    if missing := sorted(set(shapes) - set(tensors)):
        raise ShapeMismatch(
            f"{file}: tensor {missing[0]!r} is missing ({len(missing)} in all); expected shape {shapes[missing[0]]}"
        )
    if unknown := sorted(set(tensors) - set(shapes)):
        raise ShapeMismatch(
            f"{file}: unknown tensor {unknown[0]!r} ({len(unknown)} in all); a demo voice has none such"
        )
    for name, shape in shapes.items():
        array = tensors[name]
        if array.shape != shape:
            raise ShapeMismatch(f"{file}: tensor {name!r} has shape {array.shape}; expected {shape}")
        if array.dtype not in (np.float16, np.float32):
            raise ShapeMismatch(f"{file}: tensor {name!r} is {array.dtype}; expected float16 or float32")


def _widened(array: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, np.float32)
