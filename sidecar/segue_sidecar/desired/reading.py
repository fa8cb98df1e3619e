"""The desired set as it is mounted: one file per voice, changed under our feet.

Kubernetes shows a ConfigMap as a directory in which `..data` is a link to the files of now; an update replaces the link
in one step. So the files are read behind the link, and read again when it moved meanwhile. The shards may be mounted
into one directory (a projected volume) or each into a directory of its own below it. Nothing here raises: what cannot
be read is a problem of its own, and the other entries count.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from segue.desired import DesiredEntry, InvalidEntry, data_key
from segue.wire import DesiredProblem

MAX_FILE_BYTES = 64 << 10
"""An entry is about 0.7 kB; a file that is larger than this is none."""

_CURRENT = "..data"
_ATTEMPTS = 3

Signature = tuple[object, ...]
"""Two looks with the same one saw the same files."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """All that lay there at one time; entries by voice."""

    entries: Mapping[str, DesiredEntry] = field(default_factory=dict)
    problems: tuple[DesiredProblem, ...] = ()


def signature_of(directory: Path) -> Signature:
    """What changes whenever the files do; cheap where Kubernetes mounted them."""
    return tuple(_mark(root) for root in _roots(directory))


def read_shelf(directory: Path) -> Shelf:
    """Read everything; once more when it was replaced meanwhile."""
    shelf = Shelf()
    for _ in range(_ATTEMPTS):
        before = signature_of(directory)
        shelf = _read(directory)
        if signature_of(directory) == before:
            break
    return shelf


def _read(directory: Path) -> Shelf:
    if not directory.is_dir():
        return Shelf(problems=(DesiredProblem(source=str(directory), reason="Unreadable", message="no directory"),))
    entries: dict[str, DesiredEntry] = {}
    problems: list[DesiredProblem] = []
    for file in _files(directory):
        found = _read_file(file)
        if isinstance(found, DesiredProblem):
            problems.append(found)
        elif found.voice not in entries or entries[found.voice].order < found.order:
            entries[found.voice] = found
    return Shelf(entries, tuple(problems))


def _read_file(path: Path) -> DesiredEntry | DesiredProblem:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        return DesiredProblem(source=path.name, reason="Unreadable", message=error.strerror or str(error))
    if len(content) > MAX_FILE_BYTES:
        message = f"is larger than {MAX_FILE_BYTES} bytes: no entry is"
        return DesiredProblem(source=path.name, reason="Invalid", message=message)
    try:
        entry = DesiredEntry.from_json(content)
    except InvalidEntry as error:
        return DesiredProblem(source=path.name, reason="Invalid", message=str(error)[:500])
    if data_key(entry.voice) != path.name:
        message = f"is about {entry.voice}, which belongs under {data_key(entry.voice)}"
        return DesiredProblem(source=path.name, reason="Invalid", message=message)
    return entry


def _roots(directory: Path) -> Iterator[Path]:
    """The directory and those below it, each where its files are now."""
    base = _behind_link(directory)
    yield base
    yield from (_behind_link(path) for path in _listed(base) if path.is_dir())


def _files(directory: Path) -> Iterator[Path]:
    for root in _roots(directory):
        yield from (path for path in _listed(root) if not path.is_dir())


def _behind_link(directory: Path) -> Path:
    try:
        return directory / (directory / _CURRENT).readlink()
    except OSError:
        return directory


def _listed(directory: Path) -> list[Path]:
    """What lies in it; hidden names are Kubernetes' own."""
    try:
        return sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    except OSError:
        return []


def _mark(root: Path) -> object:
    """A directory behind `..data` is never changed, only replaced; in others each file counts."""
    if root.name.startswith(".."):
        return str(root)
    return (str(root), tuple(_stamp(path) for path in _listed(root)))


def _stamp(path: Path) -> object:
    try:
        found = os.stat(path)  # noqa: PTH116 - the path may vanish; one call says all
    except OSError:
        return path.name
    return (path.name, found.st_ino, found.st_mtime_ns, found.st_size)
