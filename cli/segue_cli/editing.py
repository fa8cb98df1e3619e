"""Finding a voice's YAML file and editing it, comments kept: how every command that wants something says so.

The edit is refused when somebody saved the file in between, and then done again on what they saved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from segue.errors import EditConflict, SegueError
from segue.model.documents import read_folder
from segue.model.edit import REMOVE, FieldPath, edit_yaml
from segue_cli.finding import find_folder

ATTEMPTS = 3

Changes = Mapping[FieldPath, Any]


class NoSuchFile(SegueError):
    """No file of the folder holds the voice."""


class CannotWrite(SegueError):
    """A file that is not ours to write."""


def find_file(key: str, folder: Path) -> tuple[Path, str]:
    """The file that holds a voice, and the sha256 of its bytes.

    Raises
    ------
    NoSuchFile
        None does; the message says which voices there are, and which files cannot be read.
    """
    found = read_folder(folder)
    digests = dict(found.digests)
    for located in found.voices:
        if located.voice.key == key:
            return located.file, digests[located.file]
    known = ", ".join(located.voice.key for located in found.voices) or "none"
    broken = "".join(f"\n  {mistake}" for mistake in found.mistakes)
    raise NoSuchFile(f"no file in {folder} holds {key}; there are: {known}{broken}")


def edit_voice(
    key: str, changes: Changes | Callable[[Path], Changes], *, state: Path | None, voices: Path | None
) -> Path:
    """Change fields of a voice in its file; returns the file.

    Parameters
    ----------
    changes
        As `edit_yaml` takes them, or a function that makes them from the folder of the file.

    Raises
    ------
    NoSuchFile, NotRunning, EditConflict, InvalidVoiceModel, CannotWrite
    """
    folder = find_folder(state, voices)
    for attempt in range(ATTEMPTS):
        file, digest = find_file(key, folder)
        wanted = changes(file.parent) if callable(changes) else changes
        try:
            edit_yaml(file, key, wanted, expected_digest=digest)
        except EditConflict:
            if attempt + 1 == ATTEMPTS:
                raise
        except OSError as error:
            raise CannotWrite(f"{file} cannot be written: {error.strerror or error}") from error
        else:
            return file
    raise AssertionError("unreachable: the last attempt returns or raises")


def subtrees_as_written(source: Mapping[str, Any], folder: Path) -> dict[FieldPath, Any]:
    """`weights`, `reference` and `options` of a version of the history, as changes to a YAML of this folder.

    Digests are written with them: the files may hold something else by now.
    """
    weights = {name: _relative(each, folder) for name, each in source["weights"].items()}
    reference = source.get("reference")
    return {
        "spec.weights": weights,
        "spec.reference": _relative(reference, folder) if reference else REMOVE,
        "spec.options": dict(source["options"]) if source.get("options") else REMOVE,
    }


def _relative(source: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    return {**source, "uri": relative_uri(str(source["uri"]), folder)}


def relative_uri(uri: str, folder: Path) -> str:
    """A path beside or below the folder where the URI is one, else the URI."""
    parts = urlsplit(uri)
    path = Path(unquote(parts.path))
    if parts.scheme != "file" or not path.is_relative_to(folder):
        return uri
    return path.relative_to(folder).as_posix()
