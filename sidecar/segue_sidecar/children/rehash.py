"""The re-hashing child: are the arenas that workers gave back after a restart still what the journal says?"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from segue_sidecar.children.channel import Channel
from segue_sidecar.children.mapping import hash_all, part_refs


def run(job: Mapping[str, Any], fds: list[int], channel: Channel) -> dict[str, Any]:
    """Hash every part of the job; raises `DigestMismatch` for the first that does not hold."""
    try:
        hash_all(part_refs(job["parts"]), fds, job["memory"], channel)
    finally:
        for fd in fds:
            os.close(fd)
    return {}
