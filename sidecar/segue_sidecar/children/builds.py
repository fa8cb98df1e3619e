"""The child that asks each engine who it is and which files it shares, so that the sidecar itself never imports one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from segue.engine import SharesModels
from segue.errors import SegueError
from segue_sidecar.children.channel import Channel, cut
from segue_sidecar.engines import load_engine


def run(job: Mapping[str, Any], fds: list[int], _channel: Channel) -> dict[str, Any]:
    """Ask all of them.

    Returns
    -------
    dict
        `{"builds": {engine: build id}, "models": {engine: [files of its shared models]}, "errors": {engine: message}}`;
        engines that cannot be loaded are in `errors` alone.
    """
    for fd in fds:
        os.close(fd)
    builds: dict[str, str] = {}
    models: dict[str, list[str]] = {}
    errors: dict[str, str] = {}
    for name, place in job["places"].items():
        try:
            engine = load_engine(place)
        except SegueError as error:
            errors[name] = cut(str(error))
            continue
        builds[name] = engine.build_id
        if isinstance(engine, SharesModels):
            models[name] = sorted({file for files in engine.model_files.values() for file in files})
    return {"builds": builds, "models": models, "errors": errors}
