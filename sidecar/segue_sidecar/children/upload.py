"""The uploading child: sealed host arenas are copied into device memory, and hashed there.

A child because it needs a context on the device, which the sidecar shall not depend on, and because it can be paced and
stopped. It reads nothing but arenas that were sealed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segue.errors import MemoryError_
from segue.memory import memfd
from segue.memory.device.uploading import upload
from segue_sidecar.children.channel import Channel
from segue_sidecar.children.mapping import device_of, part_refs

_DESCRIPTORS = 3
"""Of each part: staging arena, token, device memory."""


def run(job: Mapping[str, Any], fds: list[int], channel: Channel) -> dict[str, Any]:
    """Upload every part of the job; raises for the first that does not arrive as promised."""
    parts = part_refs(job["parts"])
    total = sum(part.size_bytes for part in parts)
    done = 0
    try:
        if len(fds) != _DESCRIPTORS * len(parts):
            raise MemoryError_(f"{len(parts)} parts came with {len(fds)} descriptors, not {_DESCRIPTORS} each")
        device = device_of(job["memory"])
        for part in parts:
            own, fds = fds[:_DESCRIPTORS], fds[_DESCRIPTORS:]
            upload(device, own, part, step=channel.steps("upload", before=done, total=total))
            done += part.size_bytes
    finally:
        memfd.close_all(fds)
    return {}
