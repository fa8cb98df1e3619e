"""What one rule says: an action before it has its conditions, counters and observed generation.

Separate from `Action` so that rules speak of what they decide and nothing else; `settle.py` does the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from segue.model.status import Phase, RollbackStatus, Status
from segue.rollout.action import Command, Event, RevertSpec

SOON = timedelta(seconds=1)
"""When to look again after a command whose effect nobody announces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One decision of one rule.

    Attributes
    ----------
    reason, message
        Why the voice stands where it stands; "why is it waiting".
    status
        What is persisted; None: as it was.
    clock_runs
        Whether lack of progress counts (not in windows, pauses, queues, approvals).
    again_in
        Look again after this long.
    """

    reason: str
    message: str
    commands: tuple[Command, ...] = ()
    revert: RevertSpec | None = None
    status: Status | None = None
    events: tuple[Event, ...] = ()
    clock_runs: bool = False
    again_in: timedelta | None = None

    def also(self, commands: tuple[Command, ...]) -> Step:
        """The same with more commands."""
        return replace(self, commands=(*self.commands, *commands)) if commands else self


def enter(status: Status, phase: Phase, now: datetime, **changes: Any) -> Status:
    """The status with a new phase that begins now; a deadline must be given or there is none."""
    update = {"phase": phase, "phase_started_at": now, "deadline": None, **changes}
    return status.model_copy(update=update)


def changed_rollout(status: Status, **changes: Any) -> Status:
    """The status with other figures of its open rollout."""
    assert status.rollout is not None
    return status.model_copy(update={"rollout": status.rollout.model_copy(update=changes)})


def handled(status: Status, **tokens: str) -> Status:
    """The status with these tokens marked as acted on."""
    return status.model_copy(update={"handled_tokens": status.handled_tokens.model_copy(update=tokens)})


def withdrawal(
    *, back_from: str, back_to: str | None, reason: str, message: str, failed: bool, now: datetime
) -> RollbackStatus:
    """The record of a rollback that begins now."""
    return RollbackStatus(
        from_revision=back_from, to_revision=back_to, reason=reason, message=message, failed=failed, started_at=now
    )


def note(reason: str, message: str, *, warning: bool = False) -> tuple[Event, ...]:
    """One event."""
    return (Event(reason=reason, message=message, warning=warning),)
