"""A voice as a VoiceModel file, and putting that file where it belongs.

Separate so that what is written is validated by the very type that `segue up` reads it with.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from enum import StrEnum
from io import StringIO
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from segue.errors import SegueError
from segue.model import VoiceModel
from segue.model.voice import API_VERSION, KIND
from segue_cli.importing.survey import Candidate

NAME_ANNOTATION: Final = "segue.dev/imported-name"
VERSION_ANNOTATION: Final = "segue.dev/imported-version"
CHUNK_BYTES: Final = 4 << 20

Digests = Callable[[Path], str]
"""sha256 of a file."""


class CannotImport(SegueError):
    """A folder that cannot be imported from or to."""


class Outcome(StrEnum):
    """What became of a voice's file."""

    WRITTEN = "written"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"
    KEPT = "kept"
    """It is there, with other content, and was left alone."""

    PLANNED = "not written"
    """A dry run."""


def voice_text(candidate: Candidate, *, digest: Digests, root: Path) -> str:
    """The YAML of a voice.

    Raises
    ------
    InvalidVoiceModel
        It would not be one; no such case is known.
    OSError
        A file cannot be read.
    """
    pair, recording = candidate.pair, candidate.recording
    document: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {
            "name": pair.label,
            "annotations": {NAME_ANNOTATION: pair.name, VERSION_ANNOTATION: str(candidate.version)},
        },
        "spec": {
            "engine": "gpt-sovits",
            "weights": {
                "gpt": _source(pair.gpt.path, digest),
                "sovits": _source(pair.sovits.path, digest),
            },
            "reference": {
                **_source(recording.path, digest),
                "text": recording.text,
                "language": recording.language,
            },
        },
    }
    VoiceModel.parse(document, file=f"{pair.label}.yaml")
    out = StringIO()
    out.write(f"# Made by segue import from {ascii(str(root))[1:-1]}.\n")
    yaml = YAML(typ="rt")
    yaml.width = 1 << 20
    yaml.dump(document, out)
    return out.getvalue()


def write_voice(path: Path, text: str, *, replace: bool) -> Outcome:
    """Put a voice's file where it belongs; a file that is there stays unless `replace`.

    Raises
    ------
    CannotImport
        It cannot be read or written.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
        return Outcome.WRITTEN
    except FileExistsError:
        return _written_over(path, text, replace=replace)
    except OSError as error:
        raise CannotImport(f"{path} cannot be written: {error.strerror or error}") from error


def _written_over(path: Path, text: str, *, replace: bool) -> Outcome:
    try:
        if path.read_bytes() == text.encode():
            return Outcome.UNCHANGED
        if not replace:
            return Outcome.KEPT
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise CannotImport(f"{path} cannot be replaced: {error.strerror or error}") from error
    return Outcome.REPLACED


def sha256_of(path: Path, progress: Callable[[int], None] = lambda _: None) -> str:
    """The digest of a file; `progress` is told how many bytes were read since it was last told."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            progress(len(chunk))
    return digest.hexdigest()


def _source(path: Path, digest: Digests) -> dict[str, str]:
    found = path.resolve()
    return {"uri": found.as_uri(), "sha256": digest(found)}
