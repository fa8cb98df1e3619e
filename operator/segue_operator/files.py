"""Replacing a file so that a reader, or a crash, sees the old content or the new one and nothing between."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(path: Path, content: str, *, durable: bool = False, mode: int = 0o600) -> None:
    """Write a temporary file beside `path` and rename it over it; `durable` also outlives a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "w", encoding="utf-8") as stream:
        stream.write(content)
        if durable:
            stream.flush()
            os.fsync(fd)
    temporary.replace(path)
