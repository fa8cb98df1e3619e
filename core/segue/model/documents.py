"""Reading `VoiceModel`s from YAML files, so that each mistake names file, line and field.

Other kinds are skipped with a note: people keep a Secret beside its voice, and `kubectl apply` takes both. A document
with no kind at all is a mistake. Mistakes are collected document by document, so that one bad voice does not stop its
neighbours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from segue.errors import InvalidVoiceModel
from segue.model.explain import explain
from segue.model.voice import API_VERSION, KIND, VoiceModel
from segue.model.yaml_text import Chunk, line_of, parse_chunk, plain, split_documents

LARGEST_FILE_BYTES = 4 << 20
SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocatedVoice:
    """A voice and where it is written."""

    voice: VoiceModel
    file: Path
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentSet:
    """What a file (or a folder) holds.

    Attributes
    ----------
    notes
        Documents that were skipped, for people.
    digests
        sha256 of each file's bytes: the precondition of `edit_yaml`.
    """

    voices: tuple[LocatedVoice, ...] = ()
    mistakes: tuple[InvalidVoiceModel, ...] = ()
    notes: tuple[str, ...] = ()
    digests: tuple[tuple[Path, str], ...] = ()


def load_documents(path: Path | str) -> list[VoiceModel]:
    """All voices of one file.

    Raises
    ------
    InvalidVoiceModel
        The first mistake, with file, line and field.
    """
    found = read_documents(path)
    if found.mistakes:
        raise found.mistakes[0]
    return [each.voice for each in found.voices]


def read_documents(path: Path | str) -> DocumentSet:
    """All voices of one file, beside everything that is wrong with the others."""
    path = Path(path)
    try:
        content = _read(path)
        text = content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        mistake = InvalidVoiceModel(f"cannot be read: {error}", file=str(path))
        return DocumentSet(mistakes=(mistake,))
    except InvalidVoiceModel as mistake:
        return DocumentSet(mistakes=(mistake,))
    digest = hashlib.sha256(content).hexdigest()
    parts = [_read_chunk(chunk, path) for chunk in split_documents(text.replace("\r\n", "\n"))]
    return _merge([*parts, DocumentSet(digests=((path, digest),))])


def read_folder(folder: Path | str) -> DocumentSet:
    """All voices of all YAML files of a folder (not of its subfolders; names that begin with a dot are skipped)."""
    paths = sorted(path for path in Path(folder).iterdir() if path.suffix in SUFFIXES and not path.name.startswith("."))
    return _merge(read_documents(path) for path in paths if path.is_file())


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(LARGEST_FILE_BYTES + 1)
    if len(content) > LARGEST_FILE_BYTES:
        raise InvalidVoiceModel(f"is larger than {LARGEST_FILE_BYTES} bytes: no VoiceModel", file=str(path))
    return content


def _read_chunk(chunk: Chunk, path: Path) -> DocumentSet:
    try:
        node = parse_chunk(chunk, file=str(path))
    except InvalidVoiceModel as mistake:
        return DocumentSet(mistakes=(mistake,))
    if node is None:
        return DocumentSet()
    try:
        document = plain(node)
    except ValueError as error:
        return _mistaken(path, chunk.first_line, str(error))
    if not isinstance(document, dict):
        return _mistaken(path, chunk.first_line, f"is no VoiceModel but {type(document).__name__}")
    return _by_kind(chunk, node, document, path)


def _by_kind(chunk: Chunk, node: Any, document: dict[str, Any], path: Path) -> DocumentSet:
    kind, version = document.get("kind"), document.get("apiVersion")
    line, _ = line_of(node, ("kind",), first_line=chunk.first_line)
    if kind is None or version is None:
        missing = "kind" if kind is None else "apiVersion"
        return _mistaken(path, line, f"is required: {KIND if kind is None else API_VERSION}", field=missing)
    if kind != KIND:
        return DocumentSet(notes=(f"{path}:{line}: kind {kind} is skipped; only {KIND} is read",))
    return _validate(chunk, node, document, path)


def _validate(chunk: Chunk, node: Any, document: dict[str, Any], path: Path) -> DocumentSet:
    document.pop("status", None)  # an exported object carries one; it is not asked for
    try:
        voice = VoiceModel.model_validate(document, by_alias=True, by_name=False)
    except ValidationError as error:
        mistakes = []
        for mistake in explain(error):
            line, column = line_of(node, mistake.path, first_line=chunk.first_line)
            message = f"{mistake.message} (column {column})"
            mistakes.append(InvalidVoiceModel(message, file=str(path), line=line, field=mistake.field))
        return DocumentSet(mistakes=tuple(mistakes))
    line, _ = line_of(node, ("metadata", "name"), first_line=chunk.first_line)
    return DocumentSet(voices=(LocatedVoice(voice=voice, file=path, line=line),))


def _mistaken(path: Path, line: int, message: str, *, field: str | None = None) -> DocumentSet:
    return DocumentSet(mistakes=(InvalidVoiceModel(message, file=str(path), line=line, field=field),))


def _merge(parts: Iterable[DocumentSet]) -> DocumentSet:
    """Everything together; a voice that is there twice is a mistake of its second place."""
    voices: dict[str, LocatedVoice] = {}
    mistakes: list[InvalidVoiceModel] = []
    notes: list[str] = []
    digests: list[tuple[Path, str]] = []
    for part in parts:
        mistakes += part.mistakes
        notes += part.notes
        digests += part.digests
        for located in part.voices:
            first = voices.setdefault(located.voice.key, located)
            if first is not located:
                mistakes.append(_twice(located, first))
    return DocumentSet(
        voices=tuple(voices.values()), mistakes=tuple(mistakes), notes=tuple(notes), digests=tuple(digests)
    )


def _twice(located: LocatedVoice, first: LocatedVoice) -> InvalidVoiceModel:
    message = f"{located.voice.key} is there already, at {first.file}:{first.line}; give it another name"
    return InvalidVoiceModel(message, file=str(located.file), line=located.line, field="metadata.name")
