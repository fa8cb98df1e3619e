"""sha256 of local weight files, computed once per content.

Separate because it is the slow part of reading a folder (190 ms for 290 MB) and must not be done again for files that
did not change: a digest is kept by inode, size and change times. A file that is still being written has no digest yet.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from segue.errors import SegueError

CHUNK_BYTES = 4 << 20
SETTLE_S = 0.5
"""A weight file that was written to within this time may still be growing."""

Stamp = tuple[int, int, int, int, int]


class NotSettled(SegueError):
    """The file changes while it is read: ask again a little later."""


class Unreadable(SegueError):
    """A local file that cannot be hashed."""


@dataclass(slots=True)
class DigestCache:
    """Digests by path and stamp, kept in a file so that a restart hashes nothing again."""

    file: Path
    now_ns: Callable[[], int] = time.time_ns
    _known: dict[str, tuple[Stamp, str]] = field(default_factory=dict)
    _loaded: bool = False

    def digest(self, path: Path) -> str:
        """The sha256 of a file, 64 hex digits.

        Raises
        ------
        NotSettled
            It was written to a moment ago, or while it was read.
        Unreadable
            It is missing, not a regular file, or not ours to read.
        """
        self._load()
        before = self._stamp(path)
        known = self._known.get(str(path))
        if known is not None and known[0] == before:
            return known[1]
        if 0 <= self.now_ns() - before[3] < SETTLE_S * 1e9:
            raise NotSettled(f"{path} was written to a moment ago")
        digest = _sha256(path)
        if self._stamp(path) != before:
            raise NotSettled(f"{path} changed while it was read")
        self._known[str(path)] = (before, digest)
        self._save()
        return digest

    def _stamp(self, path: Path) -> Stamp:
        try:
            status = path.stat()
        except OSError as error:
            raise Unreadable(f"{path} cannot be read: {error.strerror or error}") from error
        if not path.is_file():
            raise Unreadable(f"{path} is not a regular file")
        return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        with suppress(OSError, ValueError, TypeError, AttributeError, KeyError):
            for path, entry in json.loads(self.file.read_text(encoding="utf-8")).items():
                device, inode, size, mtime, ctime = entry["stamp"]
                self._known[path] = ((device, inode, size, mtime, ctime), str(entry["sha256"]))

    def _save(self) -> None:
        content = {path: {"stamp": list(stamp), "sha256": digest} for path, (stamp, digest) in self._known.items()}
        temporary = self.file.with_name(f".{self.file.name}.{os.getpid()}")
        with suppress(OSError):  # only a cache
            temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
            temporary.replace(self.file)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()
