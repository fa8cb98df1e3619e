"""One trace for each rollout: a span for each phase, and whatever pods did for it.

Separate from the loop, which decides the same with and without it. A rollout outlives operators, so nothing of its
trace may be in memory alone: its identity follows from the voice's uid and the number of the attempt, and times are
those of the status. Spans are told when a phase is over; the root, when the rollout is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from segue.model import Status, VoiceModel
from segue.model.status import Phase
from segue.tracing import Identity, Tracing


@dataclass(frozen=True, slots=True)
class RolloutTraces:
    """What is told of rollouts."""

    tracing: Tracing

    def traceparent(self, voice: VoiceModel) -> str | None:
        """What commands of the open rollout carry; None: there is none."""
        return _identity(voice, voice.status).traceparent if voice.status.phase is not Phase.IDLE else None

    def note(self, voice: VoiceModel, after: Status) -> None:
        """A status was written: is a phase over, or all of it?"""
        before = voice.status
        if before.phase is Phase.IDLE or before.phase is after.phase or before.phase_started_at is None:
            return
        ended = after.phase_started_at or before.phase_started_at
        identity = _identity(voice, before)
        attributes = {"segue.voice": voice.key, "segue.revision": before.target_revision or ""}
        self.tracing.tell(
            before.phase.value,
            identity,
            start_ns=_ns(before.phase_started_at),
            end_ns=_ns(ended),
            attributes={**attributes, "segue.reason": after.reason},
        )
        if after.phase is Phase.IDLE:
            back = after.last_rollback if before.phase is Phase.ROLLING_BACK else None
            self.tracing.tell(
                "rollout",
                identity,
                start_ns=_ns(_began(before)),
                end_ns=_ns(ended),
                attributes=attributes,
                is_root=True,
                error=f"{back.reason}: {back.message}" if back is not None else "",
            )


def _identity(voice: VoiceModel, status: Status) -> Identity:
    return Identity.of("rollout", voice.metadata.uid, str(status.attempt))


def _began(status: Status) -> datetime:
    """Of the rollout; of its way back, where that is all that the status still knows."""
    assert status.phase_started_at is not None
    return status.rollout.started_at if status.rollout is not None else status.phase_started_at


def _ns(at: datetime) -> int:
    return int(at.timestamp() * 1e9)
