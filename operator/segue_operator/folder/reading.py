"""Reading the folder once: every voice that can be used, and every mistake with file, line and field.

Separate from the adapter because this only looks and never writes. It runs in a thread: hashing weights takes time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from segue.errors import InvalidVoiceModel, SegueError
from segue.model.documents import SUFFIXES, DocumentSet, LocatedVoice, read_documents
from segue.model.voice import KIND
from segue.model.yaml_text import line_of, parse_chunk, split_documents
from segue_operator.folder.digests import DigestCache, NotSettled
from segue_operator.folder.resolve import resolve
from segue_operator.folder.store import Record

SETTLE_S = 0.12
"""A YAML file younger than this may be half-written: it is read a moment later."""


class FolderUnreadable(SegueError):
    """The folder itself cannot be listed: nothing can be said about what it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A voice that can be used."""

    record: Record
    line: int


@dataclass(slots=True, kw_only=True)
class Reading:
    """What the folder holds.

    Attributes
    ----------
    files
        Every YAML file that is there, readable or not.
    unsettled
        Files that are being written, or name weights that are: nothing is said about their voices yet.
    """

    files: set[str] = field(default_factory=set)
    found: dict[str, Found] = field(default_factory=dict)
    mistakes: list[InvalidVoiceModel] = field(default_factory=list)
    unsettled: set[str] = field(default_factory=set)


@dataclass(slots=True)
class DocumentCache:
    """What files said, by their stamps: parsing 300 files with line numbers takes seconds, looking at them takes none.

    A file that a stamp may not tell apart (written to a moment ago) is not kept.
    """

    _known: dict[Path, tuple[tuple[int, ...], DocumentSet]] = field(default_factory=dict)

    def read(self, path: Path) -> DocumentSet:
        """The documents of a file."""
        stamp = _stamp(path)
        known = self._known.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        documents = read_documents(path)
        if stamp and stamp == _stamp(path):
            self._known[path] = (stamp, documents)
        return documents

    def keep_only(self, paths: list[Path]) -> None:
        """Forget files that are gone."""
        self._known = {path: self._known[path] for path in paths if path in self._known}


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def read_voices(
    folder: Path, *, digests: DigestCache, documents: DocumentCache, known: Mapping[str, Record]
) -> Reading:
    """Read every YAML file of the folder (not of folders in it: weights bring YAML files of their own).

    Parameters
    ----------
    known
        What was read before, by key: where two files claim one voice, the one it came from keeps it.

    Raises
    ------
    FolderUnreadable
        The folder is gone, unmounted or not ours to read.
    """
    reading = Reading()
    paths = _list(folder)
    reading.files = {str(path) for path in paths}
    located: list[tuple[LocatedVoice, str]] = []
    for path in paths:
        if _is_young(path):
            reading.unsettled.add(str(path))
            continue
        found = documents.read(path)
        reading.mistakes += found.mistakes or _emptiness(path, found)
        content = dict(found.digests).get(path, "")
        located += [(each, content) for each in found.voices]
    documents.keep_only(paths)
    for each, content in _one_per_key(located, reading, known):
        _take(each, content, reading, digests)
    return reading


def _list(folder: Path) -> list[Path]:
    try:
        entries = [path for path in folder.iterdir() if path.suffix in SUFFIXES and not path.name.startswith(".")]
        return sorted(path for path in entries if path.is_file())
    except OSError as error:
        raise FolderUnreadable(
            f"{folder} cannot be read: {error.strerror or error}; what runs stays as it is"
        ) from error


def _is_young(path: Path) -> bool:
    with suppress(OSError):
        return 0 <= time.time() - path.stat().st_mtime < SETTLE_S
    return True


def _emptiness(path: Path, documents: DocumentSet) -> list[InvalidVoiceModel]:
    """An emptied file is an accident or half a save, never a deletion."""
    if documents.voices or documents.notes:
        return []
    return [InvalidVoiceModel(f"holds no {KIND}; remove the file to delete its voice", file=str(path), line=1)]


def _one_per_key(
    located: list[tuple[LocatedVoice, str]], reading: Reading, known: Mapping[str, Record]
) -> list[tuple[LocatedVoice, str]]:
    chosen: dict[str, tuple[LocatedVoice, str]] = {}
    for each, content in located:
        key = each.voice.key
        first = chosen.get(key)
        if first is None:
            chosen[key] = (each, content)
            continue
        keeps_new = key in known and known[key].file == str(each.file)
        winner, loser = (each, first[0]) if keeps_new else (first[0], each)
        if keeps_new:
            chosen[key] = (each, content)
        message = f"{key} is there already, at {winner.file}:{winner.line}; give it another name"
        reading.mistakes.append(
            InvalidVoiceModel(message, file=str(loser.file), line=loser.line, field="metadata.name")
        )
    return list(chosen.values())


def _take(each: LocatedVoice, content: str, reading: Reading, digests: DigestCache) -> None:
    file = str(each.file)
    try:
        resolved = resolve(each.voice, folder=each.file.parent, digests=digests)
    except NotSettled:
        reading.unsettled.add(file)
    except InvalidVoiceModel as mistake:
        line = line_in(each.file, each.voice.key, mistake.field or "") or each.line
        reading.mistakes.append(InvalidVoiceModel(mistake.message, file=file, line=line, field=mistake.field))
    else:
        record = Record(
            voice=resolved.voice, file=file, content=content, origins=resolved.origins, spellings=resolved.spellings
        )
        reading.found[each.voice.key] = Found(record=record, line=each.line)


def line_in(file: Path, key: str, field: str) -> int | None:
    """The line of a field of one voice, as deep as it is written down."""
    with suppress(OSError, UnicodeDecodeError, InvalidVoiceModel):
        text = file.read_text(encoding="utf-8-sig").replace("\r\n", "\n")
        for chunk in split_documents(text):
            node = parse_chunk(chunk, file=str(file))
            metadata = node.get("metadata") if isinstance(node, Mapping) else None
            if not isinstance(metadata, Mapping):
                continue
            if f"{metadata.get('namespace', 'default')}/{metadata.get('name')}" == key:
                return line_of(node, tuple(field.split(".")), first_line=chunk.first_line)[0]
    return None
