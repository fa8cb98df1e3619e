"""Which shared models there are, where GPT-SoVITS keeps their files, and what does not work without each.

Separate, and free of networks, because an import names what is absent, a sidecar fetches what is there and the engine
prepares it: three readers of one table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HUBERT: Final = "hubert"
ROBERTA: Final = "roberta"
SPEAKER: Final = "speaker"

WEIGHTS: Final = ("pytorch_model.bin", "model.safetensors")
"""Either holds the weights of a model; the first is taken where both are there, as the original does."""

CONFIG: Final = "config.json"
VOCABULARIES: Final = ("tokenizer.json", "vocab.txt")


def _below(name: str, folder: str = "pretrained_models") -> tuple[str, ...]:
    """Where a model is below a root: a checkout of GPT-SoVITS, its inner folder, or the models' own folder, which is
    how the hub's repository is laid out."""
    return (f"GPT_SoVITS/{folder}/{name}", f"{folder}/{name}", name)


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedModel:
    """A model of the original.

    Attributes
    ----------
    name
        What Segue calls it.
    title
        What it is called where it is published.
    home
        Its folder, or file, relative to the folder of the models.
    places
        Relative to a root, that of a checkout of GPT-SoVITS first.
    files
        What must be in the place; any one name of each row will do. Empty: the place is a file.
    disables
        What does not work without it.
    served
        Whether this engine loads it.
    """

    name: str
    title: str
    home: str
    places: tuple[str, ...]
    files: tuple[tuple[str, ...], ...] = ()
    disables: str
    served: bool = True


SHARED_MODELS: Final = (
    SharedModel(
        name=HUBERT,
        title="chinese-hubert-base",
        home="chinese-hubert-base",
        places=_below("chinese-hubert-base"),
        files=((CONFIG,), WEIGHTS),
        disables="no voice can be prepared: it turns the reference into the tokens that every answer goes on from",
    ),
    SharedModel(
        name=ROBERTA,
        title="chinese-roberta-wwm-ext-large",
        home="chinese-roberta-wwm-ext-large",
        places=_below("chinese-roberta-wwm-ext-large"),
        files=((CONFIG,), VOCABULARIES, WEIGHTS),
        disables="Chinese is spoken without regard to its meaning: flatter, and with odd pauses",
    ),
    SharedModel(
        name=SPEAKER,
        title="pretrained_eres2netv2w24s4ep4.ckpt",
        home="sv/pretrained_eres2netv2w24s4ep4.ckpt",
        places=(*_below("sv/pretrained_eres2netv2w24s4ep4.ckpt"), "pretrained_eres2netv2w24s4ep4.ckpt"),
        disables="v2Pro and v2ProPlus voices cannot be prepared: it makes the speaker embedding that they follow",
    ),
    SharedModel(
        name="g2pw",
        title="G2PWModel",
        home="G2PWModel",
        places=_below("G2PWModel", folder="text"),
        files=(("g2pW.onnx",),),
        disables="Chinese characters with several readings are read by dictionary alone",
        served=False,
    ),
)
"""G2PW is only looked for: it is no part that a sidecar prepares but a folder that a setting of the engine names."""

SERVED_MODELS: Final = {model.name: model for model in SHARED_MODELS if model.served}


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundModel:
    """Where a model is, or what is missing."""

    model: SharedModel
    path: Path | None
    missing: str = ""


def model_files() -> dict[str, tuple[str, ...]]:
    """The files of each model that is served, relative to the folder of the models, alternatives included."""
    return {name: tuple(_usual_files(model)) for name, model in SERVED_MODELS.items()}


def find_models(root: Path) -> list[FoundModel]:
    """Look for all of them, in any of the layouts that a root may have; nothing is opened."""
    return [find_model(root, model) for model in SHARED_MODELS]


def find_model(root: Path, model: SharedModel) -> FoundModel:
    """Look for one model."""
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


def first_of(folder: Path, names: Iterable[str]) -> Path:
    """The first of several files that is there; `find_model` has seen to it that one is."""
    return next(folder / name for name in names if (folder / name).is_file())


def _usual_files(model: SharedModel) -> Iterator[str]:
    if not model.files:
        yield model.home
    for names in model.files:
        yield from (f"{model.home}/{name}" for name in names)


def _lacking(folder: Path, files: Iterable[tuple[str, ...]]) -> Iterator[str]:
    return (" or ".join(names) for names in files if not any((folder / name).is_file() for name in names))
