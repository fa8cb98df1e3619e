"""The preparing child: the engine reads hostile files here, and what it makes is laid into arenas.

Models that the voices of an engine share are mapped here read-only, as a worker maps them.

It first says which parts there are, with digest and size. The sidecar answers with memory for those that are not
resident yet: parts that revisions share are written once. This process seals what it wrote, since that takes the kernel
milliseconds; the sidecar checks the seals, and another child hashes it: nothing that this process says is believed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segue.engine import Engine, PartView, PreparedVoice, PrepareOptions, ReferenceInput
from segue.errors import WeightsError
from segue.memory.arena import ArenaPlan
from segue.memory.voice_view import is_shared, voice_view
from segue_sidecar.children.channel import Channel
from segue_sidecar.children.filling import fill
from segue_sidecar.children.mapping import grouped, mapper_of, part_refs
from segue_sidecar.engines import load_engine


def run(job: Mapping[str, Any], fds: list[int], channel: Channel) -> dict[str, Any]:
    """Prepare one revision and fill its arenas.

    Returns
    -------
    dict
        `{"build": engine build id}`; the parts were told before.
    """
    engine = load_engine(job["place"])
    files = {name: Path(path) for name, path in job["files"].items()}
    # Never unmapped: the engine may keep views of them, and this process ends soon.
    mapper = mapper_of(job["memory"])
    shared = [mapper.map(own, part) for part, own in grouped(part_refs(job["shared"]), fds, job["memory"])]
    plans = _plans(_prepare(engine, files, _options(job, voice_view(shared, options={}).shared)))
    fill(plans, channel)
    return {"build": engine.build_id, "parts": len(plans)}


def _prepare(engine: Engine, files: Mapping[str, Path], options: PrepareOptions) -> PreparedVoice:
    """Let the engine read; a refusal names a file as the spec does, not by the digest that the cache knows it by."""
    try:
        return engine.prepare(files, options)
    except WeightsError as error:
        message = str(error)
        for name, path in files.items():
            for shown in (f"{name} ({path.name})", str(path), path.name):
                message = message.replace(shown, name)
        raise type(error)(message) from error


def _plans(prepared: PreparedVoice) -> dict[str, ArenaPlan]:
    """Raises `WeightsError` where an engine gives a part the name of a shared model."""
    taken = [name for name in prepared.parts if is_shared(name)]
    if taken:
        raise WeightsError(f"the engine calls a voice's part {taken[0]!r}, which is how shared models are named")
    return {name: ArenaPlan.of(part) for name, part in prepared.parts.items()}


def _options(job: Mapping[str, Any], shared: Mapping[str, PartView]) -> PrepareOptions:
    reference = job["reference"]
    return PrepareOptions(
        options=job["options"],
        reference=ReferenceInput(path=Path(reference["path"]), text=reference["text"], language=reference["language"])
        if reference
        else None,
        max_tensor_bytes=job["tensorBytes"],
        max_total_bytes=job["voiceBytes"],
        shared=shared,
    )
