"""From what a rule decided to what is written: conditions, counters, the clock, and whether to write at all.

Intent is written at once; counters and messages every 10 s in a rollout and every 5 min when idle, or the API server
would hear of each sentence of each pod.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from segue.model.status import Phase, PodCounts, Status
from segue.rollout.action import Action
from segue.rollout.conditions import derive
from segue.rollout.progress import wind_clock
from segue.rollout.proof import Proof
from segue.rollout.snapshot import PodView
from segue.rollout.spread import survey
from segue.rollout.step import SOON, Step
from segue.rollout.tokens import use_up
from segue.rollout.view import View, is_resident

COUNTERS_IN_ROLLOUT = timedelta(seconds=10)
COUNTERS_WHEN_IDLE = timedelta(minutes=5)
_TIMED = (Phase.PRELOADING, Phase.VERIFYING, Phase.FLIPPING)


def settle(view: View, step: Step) -> Action | None:
    """Complete a step. None when there is nothing to do and no time to look again at."""
    status = _complete(view, step)
    status, unused = use_up(view, status)
    due, writes = _write_due(view, status)
    again_in = _earliest(step.again_in, due, SOON if step.commands or step.revert or writes else None)
    action = Action(
        commands=step.commands,
        revert=step.revert,
        # The revert changes the resourceVersion that a status write would test: the next look writes it.
        status=status if writes and step.revert is None else None,
        events=(*step.events, *unused),
        requeue_after=again_in,
    )
    return None if action.waits and again_in is None else action


def _complete(view: View, step: Step) -> Status:
    status = step.status or view.status
    said = {"reason": step.reason, "message": step.message, "observed_generation": view.voice.metadata.generation}
    status = status.model_copy(update=said)
    if status.phase in _TIMED and status.phase is view.status.phase:
        status = wind_clock(view, status, runs=step.clock_runs)
    status = status.model_copy(update={"pods": _count(view, status)})
    return derive(view, status)


def _count(view: View, status: Status) -> PodCounts:
    present = [pod for pod in view.snapshot.pods if not pod.terminating and _knows(view, pod)]
    serving = [pod for pod in present if pod.in_reach and pod.pointer.active == status.active_revision is not None]
    counts = {"total": len(present), "ready": sum(pod.ready and pod.in_reach for pod in present)}
    counts |= {"updated": len(serving), **_target_counts(view, status)}
    same = view.status.pods.model_dump(include=set(counts)) == counts
    at = view.status.pods.at if same and view.status.pods.at else view.now
    return PodCounts(**counts, summary=f"{len(serving)}/{len(present)}", at=at)


def _knows(view: View, pod: PodView) -> bool:
    """Whether somebody who asks this pod for the voice is, or will be, served."""
    return is_resident(view, pod) or pod.pointer.active is not None


def _target_counts(view: View, status: Status) -> dict[str, int]:
    if view.status.rollout is None or status.rollout is None:
        return {"loaded": 0, "verified": 0, "failed": 0}
    spread = survey(view)
    proofs = list(spread.proofs.values())
    return {
        "loaded": sum(pod.has_ready(view.target) for pod in spread.pods),
        "verified": proofs.count(Proof.PROVEN),
        "failed": proofs.count(Proof.POD_FAILED) + view.rollout.late,
    }


def _write_due(view: View, status: Status) -> tuple[timedelta | None, bool]:
    """When a pending write of counters falls due, and whether something is written now."""
    if _intent(status) != _intent(view.status):
        return None, True
    if _all(status) == _all(view.status):
        return None, False
    every = COUNTERS_WHEN_IDLE if status.phase is Phase.IDLE else COUNTERS_IN_ROLLOUT
    written = view.status.pods.at
    if written is None or view.now - written >= every:
        return None, True
    return every - (view.now - written), False


def _all(status: Status) -> dict[str, Any]:
    return status.model_dump(exclude={"pods": {"at"}})


def _intent(status: Status) -> dict[str, Any]:
    """What must be on disk before anything else happens: all but figures, texts and the clock."""
    volatile = {"pods": True, "message": True, "deadline": True, "rollout": {"progress"}}
    dumped = status.model_dump(exclude=volatile)  # type: ignore[arg-type]
    for condition in dumped["conditions"]:
        del condition["message"], condition["last_transition_time"]
    return dumped


def _earliest(*times: timedelta | None) -> timedelta | None:
    known = [each for each in times if each is not None]
    return min(known) if known else None
