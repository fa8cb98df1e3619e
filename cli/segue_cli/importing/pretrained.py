"""The models that all voices share, where GPT-SoVITS keeps them, and what is not possible without each.

Separate because none of them belongs to a voice: an import goes on without them and says what that costs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedModel:
    """A model of the original.

    Attributes
    ----------
    places
        Relative to the root, the usual one first.
    files
        What must be in the folder; any one name of each row will do. Empty: the place is a file.
    disables
        What does not work without it.
    """

    name: str
    places: tuple[str, ...]
    files: tuple[tuple[str, ...], ...]
    disables: str


_WEIGHTS: Final = ("pytorch_model.bin", "model.safetensors")

SHARED_MODELS: Final = (
    SharedModel(
        name="chinese-hubert-base",
        places=("GPT_SoVITS/pretrained_models/chinese-hubert-base", "pretrained_models/chinese-hubert-base"),
        files=(("config.json",), _WEIGHTS),
        disables="no voice can be prepared: it turns the reference into the tokens that every answer goes on from",
    ),
    SharedModel(
        name="chinese-roberta-wwm-ext-large",
        places=(
            "GPT_SoVITS/pretrained_models/chinese-roberta-wwm-ext-large",
            "pretrained_models/chinese-roberta-wwm-ext-large",
        ),
        files=(("config.json",), ("tokenizer.json", "vocab.txt"), _WEIGHTS),
        disables="Chinese is spoken without regard to its meaning: flatter, and with odd pauses",
    ),
    SharedModel(
        name="pretrained_eres2netv2w24s4ep4.ckpt",
        places=(
            "GPT_SoVITS/pretrained_models/sv/pretrained_eres2netv2w24s4ep4.ckpt",
            "pretrained_models/sv/pretrained_eres2netv2w24s4ep4.ckpt",
        ),
        files=(),
        disables="v2Pro and v2ProPlus voices cannot be prepared: it makes the speaker embedding that they follow",
    ),
    SharedModel(
        name="G2PWModel",
        places=("GPT_SoVITS/text/G2PWModel", "text/G2PWModel"),
        files=(("g2pW.onnx",),),
        disables="Chinese characters with several readings are read by dictionary alone",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundModel:
    """Where a model is, or what is missing."""

    model: SharedModel
    path: Path | None
    missing: str = ""


def find_models(root: Path) -> list[FoundModel]:
    """Look for all of them."""
    return [_find(root, model) for model in SHARED_MODELS]


def _find(root: Path, model: SharedModel) -> FoundModel:
    incomplete = ""
    for place in (root / each for each in model.places):
        if not model.files and place.is_file():
            return FoundModel(model=model, path=place)
        if model.files and place.is_dir():
            lacking = list(_lacking(place, model.files))
            if not lacking:
                return FoundModel(model=model, path=place)
            incomplete = incomplete or f"{place.relative_to(root)} lacks {', '.join(lacking)}"
    return FoundModel(model=model, path=None, missing=incomplete or f"{model.places[0]} is not there")


def _lacking(folder: Path, files: Iterable[tuple[str, ...]]) -> Iterable[str]:
    return (" or ".join(names) for names in files if not any((folder / name).is_file() for name in names))
