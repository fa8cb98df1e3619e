"""Prepared parts as files: what the storing and the loading child agree on.

Separate because both must be light: the loading child is what a request waits for, so nothing here imports numpy. A
file holds the bytes of an arena, preamble and all; its digest covers everything behind the preamble
(`segue.memory.arena_header`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STEP_BYTES = 4 << 20
PREAMBLE_BYTES = 64
PARTIAL = ".partial"


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedFile:
    """One part and its file."""

    name: str
    digest: str
    size_bytes: int
    path: Path


def files_of(job: Mapping[str, Any]) -> list[PreparedFile]:
    """The parts of a job, in the order of its descriptors."""
    return [
        PreparedFile(name=each["name"], digest=each["digest"], size_bytes=each["size"], path=Path(each["path"]))
        for each in job["parts"]
    ]
