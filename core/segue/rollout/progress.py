"""Is a rollout getting on? The clock behind `progressDeadline`.

Separate because progress is a property of all pods together and must be bounded: the score rises at most to its maximum
and never falls, so that a pod that flaps cannot extend a deadline for ever.
"""

from __future__ import annotations

from datetime import datetime

from segue.model.status import Phase, Status
from segue.rollout.snapshot import PodView
from segue.rollout.step import changed_rollout
from segue.rollout.view import View, cohort
from segue.wire import ProbePhase, RevisionPhase

_ORDER = list(RevisionPhase)
_LOADED, _SPOKEN, _FLIPPED = 600, 300, 100
_PHASE_SCORE = {Phase.PRELOADING: 0, Phase.VERIFYING: 0, Phase.CANARY: 0, Phase.FLIPPING: 1000}


def score(view: View) -> int:
    """Mean progress of the cohort in thousandths, plus a thousand from Flipping on."""
    pods = cohort(view, view.rollout.started_at)
    mean = sum(_pod_score(pod, view.target) for pod in pods) // len(pods) if pods else 0
    return _PHASE_SCORE.get(view.status.phase, 0) + mean


def is_overdue(view: View) -> bool:
    """Whether the deadline passed and nothing got on since it was set."""
    deadline = view.status.deadline
    return deadline is not None and view.now >= deadline and score(view) <= view.rollout.progress


def wind_clock(view: View, status: Status, *, runs: bool) -> Status:
    """The status with its deadline moved on by progress, or taken off while time does not count."""
    if not runs:
        return status.model_copy(update={"deadline": None})
    reached = score(view)
    assert status.rollout is not None
    if status.deadline is not None and reached <= status.rollout.progress:
        return status
    deadline: datetime = view.now + view.spec.rollout.progress_deadline
    moved = changed_rollout(status, progress=max(reached, status.rollout.progress))
    return moved.model_copy(update={"deadline": deadline})


def _pod_score(pod: PodView, revision: str) -> int:
    if pod.pointer.active == revision:
        return _LOADED + _SPOKEN + _FLIPPED
    view = pod.revisions.get(revision)
    if view is None or view.failed:
        return 0
    if not view.ready:
        return int(_LOADED * (_ORDER.index(view.phase) + view.fraction) / len(_ORDER))
    report = view.report
    if report is None:
        return _LOADED
    if report.phase is ProbePhase.PASSED:
        return _LOADED + _SPOKEN
    return _LOADED + (_SPOKEN * report.done // report.total if report.total else 0)
