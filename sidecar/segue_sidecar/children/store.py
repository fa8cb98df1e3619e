"""The storing child: writes proven arenas into files, and keeps their folder within its bound."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from segue_sidecar.children.channel import Channel, JobError
from segue_sidecar.children.prepared_files import PARTIAL, STEP_BYTES, PreparedFile, files_of

Source = Callable[[int, int], bytes]
"""From position and count to the bytes of a part there."""

_ABANDONED_S = 3600.0
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def run(job: Mapping[str, Any], fds: list[int], channel: Channel) -> dict[str, Any]:
    """Have every part in its file.

    Returns
    -------
    dict
        `{"bytes": what the folder holds now}`

    Raises
    ------
    JobError
        DiskFull, OverBudget, CacheUnusable.
    """
    folder, most_bytes = Path(job["folder"]), int(job["mostBytes"])
    files = files_of(job)
    needed_bytes = sum(file.size_bytes for file in files)
    if needed_bytes > most_bytes:
        raise JobError("OverBudget", f"needs {needed_bytes} bytes of the {most_bytes} for prepared parts on disk")
    try:
        for file, source in zip(files, sources_of(job, files, fds), strict=True):
            _have(file, source, folder=folder, most_bytes=most_bytes, own={one.path for one in files}, channel=channel)
        return {"bytes": sum(size for _, size, _ in _listing(folder))}
    except OSError as error:
        raise _disk_error(folder, error) from error


def sources_of(job: Mapping[str, Any], files: Sequence[PreparedFile], fds: Sequence[int]) -> list[Source]:
    """What reads each part: its sealed file, or the device that it lies on. All live as long as the child."""
    if "cuda" not in job["memory"]:
        return [partial(_read_file, fd) for fd in fds]
    # Heavy, and needed on a device alone.
    from segue.memory.messages import PartRef
    from segue_sidecar.children.mapping import device_parts

    parts = [PartRef(name=file.name, digest=file.digest, size_bytes=file.size_bytes) for file in files]
    return [part.read for part in device_parts(parts, fds, job["memory"])]


def _read_file(fd: int, start: int, count: int) -> bytes:
    return os.pread(fd, count, start)


def _have(
    file: PreparedFile, source: Source, *, folder: Path, most_bytes: int, own: set[Path], channel: Channel
) -> None:
    """Write a part unless a file of its name and size is there; whoever reads it hashes it."""
    file.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        if file.path.stat().st_size == file.size_bytes:
            os.utime(file.path)
            return
    _make_room(folder, needed_bytes=file.size_bytes, most_bytes=most_bytes, own=own)
    unfinished = file.path.with_name(f"{file.path.name}.{os.getpid()}{PARTIAL}")
    target = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        _copy(source, target, file=file, channel=channel)
        unfinished.replace(file.path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    finally:
        os.close(target)


def _copy(source: Source, target: int, *, file: PreparedFile, channel: Channel) -> None:
    for start in range(0, file.size_bytes, STEP_BYTES):
        left = memoryview(source(start, min(STEP_BYTES, file.size_bytes - start)))
        while left:
            left = left[os.write(target, left) :]
        channel.progress("store", done=start, total=file.size_bytes)


def _make_room(folder: Path, *, needed_bytes: int, most_bytes: int, own: set[Path]) -> None:
    """Remove what was used longest ago, and what a child that was killed left half written."""
    used_bytes = 0
    entries = sorted(_listing(folder))
    for used_s, size, path in entries:
        if path.name.endswith(PARTIAL) and time.time() - used_s > _ABANDONED_S:
            path.unlink(missing_ok=True)
        else:
            used_bytes += size
    for _, size, path in entries:
        if used_bytes + needed_bytes <= most_bytes:
            return
        if path not in own and not path.name.endswith(PARTIAL):
            path.unlink(missing_ok=True)
            used_bytes -= size


def _listing(folder: Path) -> list[tuple[float, int, Path]]:
    found = []
    for path in folder.glob("*/*"):
        with suppress(FileNotFoundError):
            status = path.stat()
            found.append((status.st_mtime, status.st_size, path))
    return found


def _disk_error(folder: Path, error: OSError) -> JobError:
    if error.errno in _NO_ROOM:
        return JobError("DiskFull", f"{folder} has no room ({error.strerror}): make some, or lower tiers.diskBytes")
    return JobError("CacheUnusable", f"{folder} cannot be used: {error}")
