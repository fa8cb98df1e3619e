"""The child that asks each engine for its build id, so that the sidecar itself never imports one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from segue.errors import SegueError
from segue_sidecar.children.channel import Channel
from segue_sidecar.engines import load_engine


def run(job: Mapping[str, Any], fds: list[int], _channel: Channel) -> dict[str, Any]:
    """Engine name to build id; engines that cannot be loaded are left out."""
    for fd in fds:
        os.close(fd)
    found = {}
    for name, place in job["places"].items():
        try:
            found[name] = load_engine(place).build_id
        except SegueError:
            continue
    return {"builds": found}
