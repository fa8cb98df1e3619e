"""A status that no decision of ours could have left: a phase without the record that it works on.

People edit status subresources, restore objects from backups without all of their status, and run older operators on
newer objects. What the record said is lost, the history is not: the voice stands on its stable revision, and what the
spec asks for begins anew. Separate from the phases, so that each of them may rely on its record.
"""

from __future__ import annotations

from segue.model.revision import short
from segue.model.status import Phase, Status
from segue.rollout.step import Step, enter, note
from segue.rollout.view import View


def mend(view: View) -> Step | None:
    """Back to `Idle` where the phase has lost its record; None where it has it."""
    lost = _lost_record(view.status)
    if lost is None:
        return None
    status = enter(
        view.status,
        Phase.IDLE,
        view.now,
        rollout=None,
        rollback=None,
        target_revision=None,
        active_revision=view.stable_revision,
        stable_revision=view.stable_revision,
    )
    text = (
        f"the status said {view.status.phase} and had no {lost}: somebody else wrote it; "
        f"starts again from {short(view.stable_revision)}"
    )
    return Step(reason="StatusMended", message=text, status=status, events=note("StatusMended", text, warning=True))


def _lost_record(status: Status) -> str | None:
    """The field of the status that its phase works on and that is not there."""
    if status.phase is Phase.IDLE:
        return None
    if status.phase is Phase.ROLLING_BACK:
        return "rollback" if status.rollback is None else None
    return "rollout" if status.rollout is None else None
