"""Which voices hold a rollout slot of the fleet, and who waits longest for one.

Separate because it is the one thing that voices share: the loop asks, lets the engine decide, and notes the outcome in
one synchronous step, so that two voices never both take the last slot.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from segue.rollout import Slots

QUEUED_REASON = "Queued"
"""`status.reason` of a voice that waits for a slot."""


@dataclass(slots=True)
class SlotBook:
    """Voices by key."""

    limit: int
    _holding: set[str] = field(default_factory=set)
    _queue: dict[str, None] = field(default_factory=dict)

    def seen_by(self, voice: str) -> Slots:
        """What the engine is told. Those who wait longer come first: a slot that is free is theirs."""
        waiting = list(self._queue)
        ahead = waiting.index(voice) if voice in self._queue else len(waiting)
        return Slots(taken=len(self._holding - {voice}) + ahead, limit=self.limit, ahead=ahead)

    def note(self, voice: str, *, holds: bool, queued: bool) -> frozenset[str]:
        """The outcome of a decision; returns who should look again because a place came free."""
        before = (voice in self._holding, voice in self._queue)
        if holds:
            self._holding.add(voice)
        else:
            self._holding.discard(voice)
        if queued and not holds:
            self._queue.setdefault(voice)
        else:
            self._queue.pop(voice, None)
        gave_up_a_place = (before[0] and not holds) or (before[1] and not queued)
        return frozenset(self._queue) - {voice} if gave_up_a_place else frozenset()

    def forget(self, voice: str) -> frozenset[str]:
        """The voice is gone; returns who should look again."""
        return self.note(voice, holds=False, queued=False)
