"""The child's end of laying parts into arenas: tell the plan, get memory for what is not resident, write and seal that.

Separate because voices and shared models are laid into memory in the same way by different children.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from segue.errors import DigestMismatch
from segue.memory.arena import ArenaPlan, seal
from segue.memory.memfd import SEALING_PATIENCE_S
from segue_sidecar.children.channel import Channel


def fill(plans: Mapping[str, ArenaPlan], channel: Channel) -> None:
    """Have every part of the plan in memory.

    Raises
    ------
    DigestMismatch
        A part changed under the hands of whoever wrote it.
    """
    told = [{"name": name, "digest": plan.digest, "size": plan.total_bytes} for name, plan in plans.items()]
    answer, fds = channel.ask({"plan": told})
    names = [str(name) for name in answer["fill"]]
    total = sum(plans[name].total_bytes for name in names)
    done = 0
    for name, fd in zip(names, fds, strict=True):
        plan, before = plans[name], done
        written = plan.write(fd, step=channel.steps("fill", before=before, total=total))
        seal(fd, patience_s=SEALING_PATIENCE_S)
        os.close(fd)
        done += plan.total_bytes
        if written != plan.digest:
            raise DigestMismatch(f"part {name} changed while it was written: {plan.digest} became {written}")
