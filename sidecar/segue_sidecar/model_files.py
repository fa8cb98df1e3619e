"""Have the files of an engine's shared models changed?

Separate because it only looks: names, sizes and times, no content. A gigabyte is not hashed before each preload to
learn that it is the same; who replaces a file gives it another time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def fingerprint(root: Path, names: Iterable[str], *, told: Mapping[str, Any], build: str) -> str:
    """What the prepared models depend on, as 64 hex digits.

    Parameters
    ----------
    names
        Files relative to the root; those that are not there count as absent.
    told
        What the engine is told beside the files.
    build
        The engine's build id.
    """
    found = {name: _seen(root / name) for name in sorted(names)}
    document = [str(root), found, dict(told), build]
    return hashlib.sha256(json.dumps(document, sort_keys=True, default=str).encode()).hexdigest()


def _seen(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns
