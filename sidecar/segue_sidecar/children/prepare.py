"""The preparing child: the engine reads hostile files here, and what it makes is laid into arenas.

It first says which parts there are, with digest and size. The sidecar answers with memory for those that are not
resident yet: parts that revisions share are written once. This process seals what it wrote, since that takes the kernel
milliseconds; the sidecar checks the seals, and another child hashes it: nothing that this process says is believed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segue.engine import Engine, PreparedVoice, PrepareOptions, ReferenceInput
from segue.errors import DigestMismatch, WeightsError
from segue.memory.arena import ArenaPlan, Step, seal
from segue_sidecar.children.channel import Channel
from segue_sidecar.engines import load_engine


def run(job: Mapping[str, Any], fds: list[int], channel: Channel) -> dict[str, Any]:
    """Prepare one revision and fill its arenas.

    Returns
    -------
    dict
        `{"build": engine build id}`; the parts were told before.
    """
    for fd in fds:
        os.close(fd)
    engine = load_engine(job["place"])
    files = {name: Path(path) for name, path in job["files"].items()}
    prepared = _prepare(engine, files, _options(job))
    plans = {name: ArenaPlan.of(part) for name, part in prepared.parts.items()}
    _fill(plans, channel)
    return {"build": engine.build_id, "parts": len(prepared.parts)}


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


def _options(job: Mapping[str, Any]) -> PrepareOptions:
    reference = job["reference"]
    return PrepareOptions(
        options=job["options"],
        reference=ReferenceInput(path=Path(reference["path"]), text=reference["text"], language=reference["language"])
        if reference
        else None,
        max_tensor_bytes=job["tensorBytes"],
        max_total_bytes=job["voiceBytes"],
    )


def _fill(plans: Mapping[str, ArenaPlan], channel: Channel) -> None:
    """Tell the plan, get memory for the parts that need it, write those."""
    told = [{"name": name, "digest": plan.digest, "size": plan.total_bytes} for name, plan in plans.items()]
    answer, fds = channel.ask({"plan": told})
    names = [str(name) for name in answer["fill"]]
    total = sum(plans[name].total_bytes for name in names)
    done = 0
    for name, fd in zip(names, fds, strict=True):
        plan, before = plans[name], done
        written = plan.write(fd, step=_step(channel, before=before, total=total))
        seal(fd)
        os.close(fd)
        done += plan.total_bytes
        if written != plan.digest:
            raise DigestMismatch(f"part {name} changed while it was written: {plan.digest} became {written}")


def _step(channel: Channel, *, before: int, total: int) -> Step:
    return lambda done: channel.progress("fill", done=before + done, total=total)
