"""`RollingBack`: pods first, then the memory of the failure (persisted on entry), then the spec.

The spec is reverted at most once per failed revision: the generation that will be replaced is persisted before, so that
a crash in between reverts it still, and a tool that re-applies the bad version is not fought.
"""

from __future__ import annotations

from segue.model.revision import short
from segue.model.spec import RollbackMode
from segue.model.status import FailedRevision, LastRollback, Phase, RollbackStatus, Status
from segue.rollout.action import RevertSpec
from segue.rollout.back import back_commands, needs_way_back
from segue.rollout.step import Step, enter, note
from segue.rollout.view import View

_WAYS_ON = "change it, or set segue.dev/retry to a new value"


def roll_back(view: View) -> Step:
    """Go on with the open rollback."""
    open_rollback = view.status.rollback
    assert open_rollback is not None, "phase RollingBack without a record of it"
    return _pods_first(view, open_rollback) or _spec_then(view, open_rollback) or _finish(view, open_rollback)


def _pods_first(view: View, record: RollbackStatus) -> Step | None:
    if record.to_revision is None:
        return None
    bad, good = record.from_revision, record.to_revision
    waiting = [pod for pod in view.pods if needs_way_back(pod, bad=bad, good=good)]
    if not waiting or _gives_up(view):
        return None
    text = f"{short(bad)} is taken back to {short(good)}: {len(waiting)} pods to go; {record.message}"
    return Step(reason=record.reason, message=text, commands=back_commands(view, bad=bad, good=view.source(good)))


def _gives_up(view: View) -> bool:
    """Pods that cannot go back in time follow from Idle: they must not keep the failure out of the spec."""
    return view.status.deadline is not None and view.now >= view.status.deadline


def _spec_then(view: View, record: RollbackStatus) -> Step | None:
    entry = _memory(view, record)
    good = view.source(record.to_revision) if record.to_revision else None
    if entry is None or good is None or view.wanted.revision != record.from_revision or not may_revert(view):
        return None
    generation = view.voice.metadata.generation
    if entry.reverting is None:
        text = f"the spec of generation {generation} is written back to {short(good.revision)}"
        return Step(reason=record.reason, message=text, status=_marked(view, entry, generation))
    if entry.reverting != generation:
        return None  # it was reverted before, and came back
    text = f"{short(record.from_revision)} went back; the spec is written back to {short(good.revision)}"
    revert = RevertSpec(generation=generation, failed=record.from_revision, to=good)
    return Step(reason=record.reason, message=text, revert=revert)


def may_revert(view: View) -> bool:
    """Whether the spec is ours to write."""
    match view.spec.rollback.mode:
        case RollbackMode.AUTO:
            return view.snapshot.owner is None
        case RollbackMode.REVERT_SPEC:
            return True
        case RollbackMode.STATUS_ONLY:
            return False


def _memory(view: View, record: RollbackStatus) -> FailedRevision | None:
    if not record.failed:
        return None
    return next((each for each in view.status.failed_revisions if each.revision == record.from_revision), None)


def _marked(view: View, entry: FailedRevision, generation: int) -> Status:
    marked = entry.model_copy(update={"reverting": generation})
    failed = tuple(marked if each is entry else each for each in view.status.failed_revisions)
    return view.status.model_copy(update={"failed_revisions": failed})


def _finish(view: View, record: RollbackStatus) -> Step:
    entry = _memory(view, record)
    reverted = entry is not None and entry.reverting is not None and view.wanted.revision == record.to_revision
    history = view.status.history
    if record.failed:
        history = tuple(each for each in history if each.revision != record.from_revision)
    text = f"{short(record.from_revision)} went back to {short(record.to_revision)}: {record.message}"
    text += _outcome(view, record, reverted=reverted)
    last = LastRollback(
        from_revision=record.from_revision,
        to_revision=record.to_revision,
        reason=record.reason,
        message=record.message,
        at=view.now,
        reverted=reverted,
    )
    status = enter(
        view.status,
        Phase.IDLE,
        view.now,
        rollback=None,
        rollout=None,
        target_revision=None,
        active_revision=record.to_revision,
        stable_revision=record.to_revision,
        history=history,
        last_rollback=last,
    )
    events = note("RolledBack", text, warning=record.failed)
    return Step(reason="RolledBack", message=text, status=status, events=events)


def _outcome(view: View, record: RollbackStatus, *, reverted: bool) -> str:
    if reverted:
        return "; the spec was written back"
    if not record.failed or view.wanted.revision != record.from_revision:
        return ""
    if view.spec.rollback.mode is RollbackMode.AUTO and view.snapshot.owner is not None:
        return f"; the spec is left as it is, because {view.snapshot.owner} owns it: {_WAYS_ON}"
    return f"; the spec is left as it is: {_WAYS_ON}"
