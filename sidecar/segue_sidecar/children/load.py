"""The loading child: fills memory from prepared files, for a request that waits.

What it reads may be damaged, or somebody else's: it is hashed on its way, and a file that is not what the journal says
is removed. The preamble, without which memory is no arena, is written last.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

from segue.memory import memfd
from segue.memory.arena import seal
from segue_sidecar.children.channel import Channel, JobError
from segue_sidecar.children.prepared_files import PREAMBLE_BYTES, STEP_BYTES, PreparedFile, files_of


def run(job: Mapping[str, Any], fds: list[int], channel: Channel) -> dict[str, Any]:
    """Fill the memory of every part, and seal it.

    Raises
    ------
    JobError
        PreparedMissing, PreparedDamaged.
    """
    files = files_of(job)
    total = sum(file.size_bytes for file in files)
    done = 0
    for file, fd in zip(files, fds, strict=True):
        try:
            _fill(file, fd, before=done, total=total, channel=channel)
        except OSError as error:
            raise JobError("PreparedMissing", f"{file.name}: {file.path} cannot be read: {error.strerror}") from error
        seal(fd, patience_s=memfd.SEALING_PATIENCE_S)
        os.close(fd)
        done += file.size_bytes
    return {}


def _fill(file: PreparedFile, fd: int, *, before: int, total: int, channel: Channel) -> None:
    source = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        found_bytes = os.fstat(source).st_size
        if found_bytes != file.size_bytes:
            raise _damaged(file, f"has {found_bytes} bytes instead of {file.size_bytes}")
        os.utime(source)
        os.ftruncate(fd, file.size_bytes)
        preamble = os.pread(source, PREAMBLE_BYTES, 0)
        hasher = hashlib.sha256()
        position = PREAMBLE_BYTES
        while chunk := os.pread(source, min(STEP_BYTES, file.size_bytes - position), position):
            hasher.update(chunk)
            memfd.write_all(fd, memoryview(chunk), position)
            position += len(chunk)
            channel.progress("fill", done=before + position, total=total)
    finally:
        os.close(source)
    if hasher.hexdigest() != file.digest or position != file.size_bytes:
        raise _damaged(file, f"hashes to {hasher.hexdigest()}")
    memfd.write_all(fd, memoryview(preamble), 0)


def _damaged(file: PreparedFile, how: str) -> JobError:
    file.path.unlink(missing_ok=True)
    return JobError("PreparedDamaged", f"{file.name}: {file.path} {how}, not what the journal says: removed")
