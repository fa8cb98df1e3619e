"""The rollout engine: one pure function from what is seen to the one thing to do next.

    Idle -> Preloading -> Verifying -> Canary -> Flipping -> Watching -> Idle
    any of them -> RollingBack -> Idle

Whoever calls it observes everything, asks, carries out the one action, writes the status with the resourceVersion that
was observed, and on a conflict drops all and observes again. Nothing is remembered between calls: a crash at any point
is one more observation.
"""

from __future__ import annotations

from datetime import datetime
from typing import assert_never

from segue.model.status import Phase
from segue.rollout.action import Action
from segue.rollout.canary import canary
from segue.rollout.commands import serve_stable
from segue.rollout.flipping import flip
from segue.rollout.idle import idle
from segue.rollout.loading import preload, verify
from segue.rollout.mend import mend
from segue.rollout.release import release
from segue.rollout.rolling_back import roll_back
from segue.rollout.settle import settle
from segue.rollout.snapshot import Snapshot
from segue.rollout.step import Step
from segue.rollout.view import View, look
from segue.rollout.watching import watch


def next_action(snapshot: Snapshot, now: datetime) -> Action | None:
    """Decide what to do next.

    Parameters
    ----------
    now
        The operator's clock, in UTC, read before the observation began.

    Returns
    -------
    Action or None
        None: nothing until something changes. An action that only has `requeue_after` waits.

    Raises
    ------
    InvalidVoiceModel
        The spec has a file without a digest.
    """
    view = look(snapshot, now)
    if view is None:
        return release(snapshot)
    return settle(view, mend(view) or _decide(view))


def _while_serving(view: View, step: Step) -> Step:
    """Until the flip, listeners are on the stable revision, whatever happens to a pod meanwhile."""
    goes_back = step.status is not None and step.status.phase is Phase.ROLLING_BACK
    return step if goes_back else step.also(serve_stable(view))


def _decide(view: View) -> Step:
    match view.status.phase:
        case Phase.IDLE:
            return idle(view)
        case Phase.PRELOADING:
            return _while_serving(view, preload(view))
        case Phase.VERIFYING:
            return _while_serving(view, verify(view))
        case Phase.CANARY:
            return _while_serving(view, canary(view))
        case Phase.FLIPPING:
            return flip(view)
        case Phase.WATCHING:
            return watch(view)
        case Phase.ROLLING_BACK:
            return roll_back(view)
        case _:
            assert_never(view.status.phase)
