"""Prepared models as a worker sees them: in one read-only mapping each, with a digest."""

from __future__ import annotations

import mmap
from collections.abc import Mapping

from tests.unit.engine_gpt_sovits.builders import in_mapping

from segue.engine import PartView, PreparedPart


def plain(part: PreparedPart) -> PartView:
    """A part that lies in no arena."""
    return PartView(tensors=part.tensors, meta=part.meta)


def mapped(parts: Mapping[str, PreparedPart]) -> tuple[mmap.mmap, dict[str, PartView]]:
    """Parts in a mapping, each with a digest of its own."""
    mapping, voice = in_mapping(parts)
    return mapping, {
        name: PartView(tensors=view.tensors, meta=view.meta, digest=f"sha256:{name}")
        for name, view in voice.parts.items()
    }
