"""kstatus conditions: what `kubectl wait`, Argo CD and Flux read.

Separate because they are derived: from the phase, the memory and the counters, never the other way round.
"""

from __future__ import annotations

from segue.model.revision import short
from segue.model.status import Condition, ConditionStatus, Phase, Status
from segue.rollout.terms import failure_key
from segue.rollout.view import View

_LOADED = (Phase.CANARY, Phase.FLIPPING, Phase.WATCHING)
_TRUE, _FALSE = ConditionStatus.TRUE, ConditionStatus.FALSE
_NOT_A_FAILURE = ("Superseded", "SpecReverted")


def set_condition(
    view: View, status: Status, kind: str, value: ConditionStatus, reason: str, message: str
) -> tuple[Condition, ...]:
    """The conditions with one of them set; its transition time moves only when its value does."""
    old = status.condition(kind)
    since = old.last_transition_time if old is not None and old.status is value else view.now
    fresh = Condition(
        type=kind,
        status=value,
        reason=reason,
        message=message,
        last_transition_time=since,
        observed_generation=view.voice.metadata.generation,
    )
    kept = [each for each in status.conditions if each.type != kind]
    return tuple(sorted((*kept, fresh), key=lambda each: each.type))


def derive(view: View, status: Status) -> Status:
    """The status with all derived conditions brought up to date."""
    rules = (_ready, _reconciling, _stalled, _preloaded, _verified, _promoted)
    for rule in rules:
        kind, value, reason, message = rule(view, status)
        conditions = set_condition(view, status, kind, value, reason, message)
        status = status.model_copy(update={"conditions": conditions})
    return status


_Said = tuple[str, ConditionStatus, str, str]


def is_stalled(view: View, status: Status) -> bool:
    """Whether the spec asks for a revision that failed: only a person can help."""
    key = failure_key(view.spec, view.wanted.revision)
    failed = any(each.key == key for each in status.failed_revisions)
    return status.phase is Phase.IDLE and failed and view.wanted.revision != status.stable_revision


def _ready(view: View, status: Status) -> _Said:
    if status.active_revision is None:
        return "Ready", _FALSE, "NoActiveRevision", status.message or "no revision is served yet"
    if is_stalled(view, status):
        return "Ready", _FALSE, "RolledBack", status.message
    if status.pods.updated == 0:
        return "Ready", _FALSE, "NotServed", f"no pod in reach serves {short(status.active_revision)}"
    text = f"{status.pods.summary} pods serve {short(status.active_revision)}{_asleep(view, status)}"
    return "Ready", _TRUE, "Serving", text


def _asleep(view: View, status: Status) -> str:
    """How many of them would bring it up first; the reason stays the same, or each nap would be a write."""
    resting = sum(pod.sleeps and pod.pointer.active == status.active_revision for pod in view.pods)
    return f"; {resting} of them bring it up when somebody asks" if resting else ""


def _reconciling(view: View, status: Status) -> _Said:
    settled = status.phase is Phase.IDLE and view.wanted.revision == status.stable_revision
    if settled or is_stalled(view, status):
        return "Reconciling", _FALSE, "Settled", ""
    return "Reconciling", _TRUE, status.reason or "Progressing", status.message


def _stalled(view: View, status: Status) -> _Said:
    if is_stalled(view, status):
        return "Stalled", _TRUE, "RolledBack", status.message
    return "Stalled", _FALSE, "NotStalled", ""


def _preloaded(view: View, status: Status) -> _Said:
    if status.phase in (Phase.PRELOADING, Phase.VERIFYING):
        return "Preloaded", _FALSE, "Progressing", status.message
    if status.phase in _LOADED:
        return "Preloaded", _TRUE, "Loaded", f"{short(status.target_revision)} is loaded"
    return _kept(status, "Preloaded")


def _verified(view: View, status: Status) -> _Said:
    if status.phase in (Phase.PRELOADING, Phase.VERIFYING):
        return "Verified", _FALSE, "Progressing", status.message
    if status.phase in _LOADED:
        return "Verified", _TRUE, "Passed", f"{short(status.target_revision)} passed its verification"
    if status.phase is Phase.ROLLING_BACK and status.rollback is not None:
        old = status.condition("Verified")
        if old is None or old.status is not _TRUE:
            return "Verified", _FALSE, status.rollback.reason, status.rollback.message
    return _kept(status, "Verified")


def _kept(status: Status, kind: str) -> _Said:
    """As it was: in Idle and RollingBack it tells of the latest rollout."""
    old = status.condition(kind)
    if old is None:
        return kind, ConditionStatus.UNKNOWN, "NotRolledOut", ""
    return kind, old.status, old.reason, old.message


def _promoted(view: View, status: Status) -> _Said:
    last = status.last_rollback
    stable_since = status.history[0].since if status.history else None
    rolled_back = (
        last is not None and last.reason not in _NOT_A_FAILURE and (stable_since is None or last.at > stable_since)
    )
    if status.phase is Phase.ROLLING_BACK and status.rollback is not None:
        return "Promoted", _FALSE, "RollingBack", status.rollback.message
    if is_stalled(view, status):  # which may be about an older failure than the latest rollback
        return "Promoted", _FALSE, "RolledBack", status.message
    if status.phase is Phase.IDLE and rolled_back:
        return "Promoted", _FALSE, "RolledBack", last.message if last is not None else status.message
    if status.phase is Phase.IDLE and view.wanted.revision == status.stable_revision:
        return "Promoted", _TRUE, "Confirmed", f"{short(status.stable_revision)} is confirmed"
    return "Promoted", _FALSE, "Progressing", status.message
