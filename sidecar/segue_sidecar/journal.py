"""What the sidecar must still know after it was killed.

Separate from the books because it is only about bytes on disk: a log of (key, value) records in which the last value
of a key counts. Each line carries a checksum. A torn last line is what `kill -9` leaves and is dropped; a line that is
wrong in the middle is skipped and reported.

Appending is one `write` without fsync: it must not cost a flip anything, and what it describes (memfds, connections)
does not survive a crash of the machine anyway. What has to survive that, the highest fence, is ordered by time.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segue.errors import SegueError

_FORMAT = {"format": "segue.dev/sidecar-journal/v1"}
COMPACT_AT_BYTES = 4 << 20
"""A log this long is rewritten, unless what counts of it is itself half as long."""

Value = Mapping[str, Any]


class JournalError(SegueError):
    """A journal that cannot be read or written."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What was found on disk."""

    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    damaged_lines: int = 0
    torn: bool = False


class Journal:
    """One log file, opened for appending."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._size_bytes = 0
        self._live: dict[str, bytes] = {}

    def open(self) -> Replayed:
        """Read what is there and go on behind it.

        Raises
        ------
        JournalError
            The directory or file cannot be used.
        """
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            content = self._path.read_bytes() if self._path.exists() else b""
        except OSError as error:
            raise JournalError(f"the journal {self._path} cannot be read: {error.strerror}") from error
        replayed = replay(content)
        self._live = {key: _line(key, value) for key, value in replayed.records.items()}
        self.compact()
        return replayed

    def put(self, key: str, value: Value) -> None:
        """Record the value of `key`.

        Raises
        ------
        JournalError
            The disk is full or gone. What is on it still stands.
        """
        line = _line(key, value)
        self._append(line)
        self._live[key] = line

    def remove(self, key: str) -> None:
        """Record that `key` has no value any more. Idempotent. Raises as `put`."""
        if key in self._live:
            self._append(_line(key, None))
            del self._live[key]

    def compact(self) -> None:
        """Rewrite the log with what counts. Atomic: a kill leaves the old file or the new one. Raises as `put`."""
        temporary = self._path.with_suffix(".new")
        content = b"".join([_line("", _FORMAT), *self._live.values()])
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_APPEND, 0o600)
            try:
                _write_all(fd, content)
                temporary.replace(self._path)
            except BaseException:
                os.close(fd)
                raise
        except OSError as error:
            raise JournalError(f"the journal {self._path} cannot be rewritten: {error.strerror}") from error
        self.close()
        self._fd, self._size_bytes = fd, len(content)

    def wants_compacting(self) -> bool:
        """Whether the log has grown enough; ask between commands, not in one."""
        live_bytes = sum(map(len, self._live.values()))
        return self._size_bytes > COMPACT_AT_BYTES and self._size_bytes > 2 * live_bytes

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _append(self, line: bytes) -> None:
        try:
            _write_all(self._fd, line)
        except OSError as error:
            raise JournalError(
                f"the journal {self._path} cannot be written ({error.strerror}): nothing was changed; make room"
            ) from error
        self._size_bytes += len(line)


def replay(content: bytes) -> Replayed:
    """Read a log, whatever a crash or a bad disk did to it."""
    records: dict[str, dict[str, Any]] = {}
    damaged = 0
    lines = content.split(b"\n")
    torn = lines[-1] != b""
    for line in lines[:-1]:
        parsed = _parse(line)
        if parsed is None:
            damaged += 1
            continue
        key, value = parsed
        if value is None:
            records.pop(key, None)
        elif key:
            records[key] = value
    return Replayed(records, damaged, torn)


def _line(key: str, value: Value | None) -> bytes:
    body = json.dumps([key, value], separators=(",", ":"), ensure_ascii=False).encode()
    return b"%08x %b\n" % (zlib.crc32(body), body)


def _parse(line: bytes) -> tuple[str, dict[str, Any] | None] | None:
    checksum, _, body = line.partition(b" ")
    try:
        if int(checksum, 16) != zlib.crc32(body):
            return None
        key, value = json.loads(body)
    except (ValueError, TypeError):
        return None
    return (key, value) if isinstance(key, str) and isinstance(value, dict | None) else None


def _write_all(fd: int, content: bytes) -> None:
    """Append all of it, or put the file back to what it was: half a record in the middle would hide the next one."""
    start = os.fstat(fd).st_size
    done = 0
    try:
        while done < len(content):
            done += os.write(fd, content[done:])
    except OSError:
        os.ftruncate(fd, start)
        raise
