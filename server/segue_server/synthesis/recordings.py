"""Recordings that requests name: opened beneath configured roots, and nowhere else.

Separate from what measures them, because this is a border: a client chooses the path. A path is resolved once, then
walked from the root's own descriptor without following a single link, and what was opened is what is checked and read:
nobody can put another file in its place in between.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import weakref
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from segue.engine import ReferenceRecording
from segue_server.config import ReferenceRoot, References
from segue_server.synthesis.failures import QueueFull, ReferenceRefused, ReferencesDisabled

_BENEATH = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a FIFO must not keep anybody waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceAsk:
    """A recording as a request names it.

    Attributes
    ----------
    place
        A path beneath a root, absolute or relative to one, or a `file:` URI of one.
    text, language
        What is said in it; see `ReferenceRecording`.
    field
        Where the request says so, for messages.
    """

    place: str
    text: str = ""
    language: str = ""
    field: str = "options.reference"


class Shelf:
    """Reads recordings. Belongs to the loop; files are read in `executor`."""

    def __init__(self, references: References, *, executor: Executor) -> None:
        """`references.held_bytes` bounds all recordings that requests hold at one time."""
        self._references = references
        self._executor = executor
        self._held: weakref.WeakSet[ReferenceRecording] = weakref.WeakSet()

    async def take(self, asks: Sequence[ReferenceAsk], *, namespace: str) -> tuple[ReferenceRecording, ...]:
        """Read what a request of `namespace` names.

        Raises
        ------
        ReferencesDisabled
            No root is configured.
        ReferenceRefused
            No such file beneath a root, no regular file, or too large.
        QueueFull
            Requests hold too many recordings already.
        """
        if not asks:
            return ()
        roots = self._references.roots_of(namespace)
        if not roots:
            raise ReferencesDisabled(
                "this server takes no recordings from requests: name folders of recordings in its configuration "
                "(references.roots), or leave the reference out"
            )
        return tuple([await self._one(ask, roots) for ask in asks])

    async def _one(self, ask: ReferenceAsk, roots: Sequence[ReferenceRoot]) -> ReferenceRecording:
        limit, loop = self._references.max_bytes, asyncio.get_running_loop()
        recording = await loop.run_in_executor(self._executor, _read, ask, roots, limit)
        held_bytes = sum(len(other.audio) for other in self._held)
        if held_bytes + len(recording.audio) > self._references.held_bytes:
            raise QueueFull(f"unfinished requests hold {held_bytes} bytes of recordings already", retry_after_s=2.0)
        self._held.add(recording)
        return recording


def _read(ask: ReferenceAsk, roots: Sequence[ReferenceRoot], max_bytes: int) -> ReferenceRecording:
    path = _path_of(ask)
    for root in roots:
        descriptor = _open_beneath(root.path, path)
        if descriptor is not None:
            try:
                audio = _content(descriptor, ask, max_bytes)
            finally:
                os.close(descriptor)
            return ReferenceRecording(
                name=path.name,
                audio=audio,
                digest=hashlib.sha256(audio).hexdigest(),
                text=ask.text,
                language=ask.language,
            )
    raise ReferenceRefused(
        f"there is no recording {ask.place[:200]!r} beneath the reference roots of this server", field=ask.field
    )


def _path_of(ask: ReferenceAsk) -> PurePosixPath:
    place = ask.place
    if "://" in place or place.startswith("file:"):
        uri = urlsplit(place)
        if uri.scheme != "file" or uri.netloc not in ("", "localhost") or uri.query or uri.fragment:
            raise ReferenceRefused(
                f"{place[:200]!r} is no place of a recording: name a path or a file: URI beneath a reference root; "
                "nothing is fetched from elsewhere",
                field=ask.field,
            )
        place = unquote(uri.path)
    path = PurePosixPath(place)
    if not path.name or ".." in path.parts or "\0" in place:
        raise ReferenceRefused(f"{place[:200]!r} is no path of a recording: '..' is not taken", field=ask.field)
    return path


def _open_beneath(root: Path, path: PurePosixPath) -> int | None:
    """A descriptor of a file beneath `root`; None: there is none, or a link leads elsewhere."""
    try:
        real_root = root.resolve(strict=True)
        beneath = _relative_to(path, root, real_root)
        if beneath is None:
            return None
        real = real_root.joinpath(beneath).resolve(strict=True)
        if not real.is_relative_to(real_root) or real == real_root:
            return None
        return _walk(real_root, real.relative_to(real_root).parts)
    except (OSError, RuntimeError):  # no such file; links that lead in circles
        return None


def _relative_to(path: PurePosixPath, *roots: Path) -> PurePosixPath | None:
    if not path.is_absolute():
        return path
    return next((path.relative_to(root) for root in roots if path.is_relative_to(root)), None)


def _walk(root: Path, parts: Sequence[str]) -> int:
    """Open step by step, following no link: a name that became one since it was resolved is an error."""
    folder = os.open(root, _BENEATH | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            inner = os.open(part, _BENEATH | os.O_DIRECTORY, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(parts[-1], _BENEATH, dir_fd=folder)
    finally:
        os.close(folder)


def _content(descriptor: int, ask: ReferenceAsk, max_bytes: int) -> bytes:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise ReferenceRefused(f"{ask.place[:200]!r} is no regular file", field=ask.field)
    pieces: list[bytes] = []
    left = max_bytes + 1  # the file may have grown since
    while left > 0 and (piece := os.read(descriptor, min(left, 1 << 20))):
        pieces.append(piece)
        left -= len(piece)
    if found.st_size > max_bytes or left == 0:
        raise ReferenceRefused(
            f"{ask.place[:200]!r} has {max(found.st_size, max_bytes + 1)} bytes; a reference may have {max_bytes}",
            field=ask.field,
        )
    return b"".join(pieces)
