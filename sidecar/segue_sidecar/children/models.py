"""The child that prepares the models which all voices of an engine share.

As `prepare`: what it reads is as hostile as a voice, and nothing that it says is believed before another child has
hashed what it wrote.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segue.engine import PreparedModels, PrepareOptions, SharesModels
from segue.errors import WeightsError
from segue.memory.arena import ArenaPlan
from segue.memory.voice_view import shared_part
from segue_sidecar.children.channel import Channel, JobError, cut
from segue_sidecar.children.filling import fill
from segue_sidecar.engines import load_engine

_MOST = 16
"""Of an engine's models: they share a message with the parts of a voice."""


def run(job: Mapping[str, Any], fds: list[int], channel: Channel) -> dict[str, Any]:
    """Prepare the shared models of one engine and fill their arenas.

    Returns
    -------
    dict
        `{"absent": {model: what is missing, and what that disables}}`; the parts were told before.
    """
    for fd in fds:
        os.close(fd)
    engine, root = load_engine(job["place"]), Path(job["root"])
    if not isinstance(engine, SharesModels):
        raise WeightsError("this engine has no models that voices share")
    if not root.is_dir():
        raise JobError("NoSuchFolder", f"{root} is not a folder that can be read here")
    options = PrepareOptions(
        options=job["options"], max_tensor_bytes=job["tensorBytes"], max_total_bytes=job["totalBytes"]
    )
    prepared = engine.prepare_models(root, options)
    _require_seen(engine, root, prepared)
    if len(prepared.parts) > _MOST:
        raise JobError(
            "TooManyModels", f"the engine shares {len(prepared.parts)} models; at most {_MOST} can be handed on"
        )
    plans = {shared_part(model): ArenaPlan.of(part) for model, part in prepared.parts.items()}
    fill(plans, channel)
    return {"absent": {model: cut(why, most=500) for model, why in prepared.absent.items()}}


def _require_seen(engine: SharesModels, root: Path, prepared: PreparedModels) -> None:
    """Refuse models from places that the engine did not name: nobody would notice that such a file changed."""
    for model in prepared.parts:
        files = engine.model_files.get(model, ())
        if not any((root / file).exists() for file in files):
            raise JobError(
                "FilesElsewhere",
                f"{model} was found below {root}, but not as {' or '.join(files) or 'a file that the engine names'}: "
                "configure the folder that holds it as that",
            )
