"""One revision's try at a request, and how it counts.

Separate from the flight, which may make two of them: when a revision on trial fails before the first byte, the one
known to be good is asked next, and the failure counts against the first.
"""

from __future__ import annotations

import time
from typing import Protocol

from segue.engine import SynthesisRequest
from segue.memory.stats_layout import Outcome
from segue_server.revisions.resident import Resident
from segue_server.synthesis.rows import EngineRow, Priority, RowEnd, Samples


class AttemptOwner(Protocol):
    """Told on the loop."""

    def on_audio(self, attempt: Attempt, samples: Samples) -> None:
        """Audio that passed inspection."""
        ...

    def on_end(self, attempt: Attempt, end: RowEnd) -> None:
        """The attempt is over, for better or worse. Not called for one that was given up."""
        ...


class Attempt:
    """Owns the pin on its revision, and gives it back when the engine has dropped the row."""

    def __init__(
        self,
        resident: Resident,
        request: SynthesisRequest,
        *,
        owner: AttemptOwner,
        priority: Priority = Priority.LIVE,
        arrived_s: float | None = None,
    ) -> None:
        """Take over a pin of `resident`. `arrived_s` is when the request was admitted (CLOCK_MONOTONIC s)."""
        self.resident = resident
        self.row = EngineRow(resident.synthesizer, request, group=resident.handle, priority=priority, sink=self)
        self._owner: AttemptOwner | None = owner
        self._mirror = priority is Priority.MIRROR
        self._arrived_s = time.monotonic() if arrived_s is None else arrived_s
        self._paused_s = 0.0
        self._paused_at_s: float | None = None
        self._heard = False
        self._counted = False
        resident.stats.admitted()
        if self._mirror:
            resident.stats.mirror_admitted()

    def on_audio(self, samples: Samples) -> None:
        """From the engine thread, by way of the loop."""
        if not self._heard:
            self._heard = True
            if not self._mirror:
                self.resident.stats.first_audio(time.monotonic() - self._arrived_s)
        if self._owner is not None:
            self._owner.on_audio(self, samples)

    def on_end(self, end: RowEnd) -> None:
        """From the engine thread, by way of the loop."""
        self._count(end.outcome, audio_s=end.audio_s)
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.on_end(self, end)

    def on_released(self) -> None:
        """From the engine thread, by way of the loop: nothing of the row is left."""
        self.resident.stats.released()
        self.resident.unpin()

    def give_up(self, outcome: Outcome) -> None:
        """Count it as `outcome` now; the owner hears no more. The caller cancels the row. Idempotent."""
        self._owner = None
        self._count(outcome, audio_s=self.row.audio_s)

    def pause(self) -> None:
        """The listener does not keep up: no further steps for now."""
        self.row.paused = True
        self._paused_at_s = time.monotonic()

    def resume(self) -> None:
        """Go on; the caller wakes the engine thread. The time in between is not the revision's."""
        if self._paused_at_s is not None:
            self._paused_s += time.monotonic() - self._paused_at_s
            self._paused_at_s = None
        self.row.paused = False

    def _count(self, outcome: Outcome, *, audio_s: float) -> None:
        if self._counted:
            return
        self._counted = True
        latency_s = max(0.0, time.monotonic() - self._arrived_s - self._paused_s)
        stats = self.resident.stats
        if self._mirror:
            stats.mirror_ended(outcome, latency_s=latency_s)
        else:
            stats.ended(outcome, latency_s=latency_s, audio_ms=int(audio_s * 1000))
        if outcome is Outcome.SUCCESS:
            stats.spoke(self.row.request.text)
