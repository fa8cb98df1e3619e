"""Where a folder of voices finds the models that all GPT-SoVITS voices share.

Separate because two commands must agree: `segue import` writes it down beside the voices it makes (`.segue.yaml`, which
nobody takes for a voice), `segue up` reads it there.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from segue.errors import SegueError
from segue.model.documents import read_folder
from segue_engines.gpt_sovits.models.catalog import (
    SERVED_MODELS,
    FoundModel,
    SharedModel,
    find_model,
    first_of,
    model_files,
)

ENGINE: Final = "gpt-sovits"
NOTE: Final = ".segue.yaml"
VARIABLE: Final = "SEGUE_MODELS"
_BELOW: Final = ("", "pretrained_models", "GPT_SoVITS/pretrained_models")


class NoModels(SegueError):
    """A folder that holds no shared models, or a note that cannot be read."""


class EngineMissing(SegueError):
    """A voice whose engine cannot run here."""


@dataclass(frozen=True, slots=True)
class Models:
    """A folder of shared models, and what is in it.

    Attributes
    ----------
    size_bytes
        Of the files that will be read.
    """

    directory: Path
    found: tuple[FoundModel, ...]
    size_bytes: int

    @property
    def memory_bytes(self) -> int:
        """Room for them: one that is kept wider than its file is (the speaker network: twice) makes 1.2 times all files
        of the published models, and 1.4 times those of small ones."""
        return self.size_bytes * 3 // 2

    @property
    def lines(self) -> Iterator[str]:
        """What is there, then a line for each that is not: what does not work without it."""
        there = ", ".join(each.model.title for each in self.found if each.path is not None)
        yield f"shared models of {ENGINE}: {there} ({self.size_bytes / 1e6:.0f} MB, in {self.directory})"
        for each in self.found:
            if each.path is None:
                yield f"absent: {each.model.title}; without it: {each.model.disables}"


def models_in(root: Path) -> Models | None:
    """The shared models of a folder of GPT-SoVITS, or of the folder in it that holds them; None: there are none."""
    files = [name for names in model_files().values() for name in names]
    places = (root / below for below in _BELOW)
    directory = next((place for place in places if any((place / name).is_file() for name in files)), None)
    if directory is None:
        return None
    found = tuple(find_model(directory, model) for model in SERVED_MODELS.values())
    return Models(directory, found, sum(_size(each.model, each.path) for each in found if each.path is not None))


def models_of(voices: Path, *, named: Path | None) -> Models | None:
    """The shared models that a folder of voices is to be served with; None: nobody says where any are.

    Parameters
    ----------
    named
        A folder that was named for it; else the note counts.

    Raises
    ------
    NoModels
        The folder holds none, or the note cannot be read.
    """
    root, said_by = (named.expanduser().resolve(), "--models") if named is not None else (_noted(voices), NOTE)
    if root is None:
        return None
    models = models_in(root)
    if models is None:
        looked_for = ", ".join(model.title for model in SERVED_MODELS.values())
        raise NoModels(
            f"{root} ({said_by}) holds none of the shared models ({looked_for}): name a folder of GPT-SoVITS, or its "
            "pretrained_models"
        )
    return models


def write_note(voices: Path, models: Models) -> None:
    """Write beside the voices where their shared models are, in the words of the sidecar's configuration.

    Raises
    ------
    NoModels
        It cannot be written.
    """
    path = voices / NOTE
    temporary = path.with_name(f"{NOTE}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write("# Made by segue import: where segue up finds the models that all voices of an engine share.\n")
            YAML(typ="rt").dump({"sharedModels": {ENGINE: {"directory": str(models.directory)}}}, file)
        temporary.replace(path)
    except OSError as error:
        raise NoModels(f"{path} cannot be written: {error.strerror or error}") from error


def voices_of_engine(voices: Path) -> list[str]:
    """Names of the voices in a folder that are of the engine; files with mistakes are told elsewhere."""
    return [each.voice.metadata.name for each in read_folder(voices).voices if each.voice.spec.engine == ENGINE]


def require_engine(names: list[str], *, has: Callable[[str], object] = importlib.util.find_spec) -> None:
    """Refuse voices that nothing here can speak.

    Raises
    ------
    EngineMissing
        There are some, and torch is not installed.
    """
    if names and not has("torch"):
        shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        raise EngineMissing(
            f"{shown}: the engine {ENGINE} needs torch, which is not installed here: pip install 'segue[{ENGINE}]'"
        )


def _noted(voices: Path) -> Path | None:
    path = voices / NOTE
    try:
        document: Any = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
        return Path(document["sharedModels"][ENGINE]["directory"])
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, YAMLError, KeyError, TypeError) as error:
        raise NoModels(
            f"{path} cannot be read ({type(error).__name__}: {error}): it says sharedModels: {{{ENGINE}: {{directory: "
            "…}}}}; remove it, or name the folder with --models"
        ) from error


def _size(model: SharedModel, path: Path) -> int:
    if not model.files:
        return path.stat().st_size
    return sum(first_of(path, names).stat().st_size for names in model.files)
