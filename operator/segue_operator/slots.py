"""Which voices hold a rollout slot of the fleet, and who waits longest for one.

Separate because it is the one thing that voices share: the loop asks, lets the engine decide, and notes the outcome in
one synchronous step, so that two voices never both take the last slot. Each fleet has slots of its own.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from segue.rollout import Slots

QUEUED_REASON = "Queued"
"""`status.reason` of a voice that waits for a slot."""


@dataclass(slots=True)
class SlotBook:
    """Voices by key, each with its fleet.

    Attributes
    ----------
    limit
        Slots of each fleet.
    """

    limit: int
    _holding: dict[str, Hashable] = field(default_factory=dict)
    _queue: dict[str, Hashable] = field(default_factory=dict)

    def seen_by(self, voice: str, fleet: Hashable = None) -> Slots:
        """What the engine is told. Those who wait longer come first: a slot that is free is theirs."""
        waiting = _of(fleet, self._queue)
        ahead = waiting.index(voice) if voice in waiting else len(waiting)
        taken = len([each for each in _of(fleet, self._holding) if each != voice])
        return Slots(taken=taken + ahead, limit=self.limit, ahead=ahead)

    def note(self, voice: str, fleet: Hashable = None, *, holds: bool, queued: bool) -> frozenset[str]:
        """The outcome of a decision; returns who should look again because a place came free."""
        before = (voice in self._holding, voice in self._queue)
        if holds:
            self._holding[voice] = fleet
        else:
            self._holding.pop(voice, None)
        if queued and not holds:
            self._queue.setdefault(voice, fleet)
        else:
            self._queue.pop(voice, None)
        gave_up_a_place = (before[0] and not holds) or (before[1] and not queued)
        return frozenset(_of(fleet, self._queue)) - {voice} if gave_up_a_place else frozenset()

    def forget(self, voice: str) -> frozenset[str]:
        """The voice is gone; returns who should look again."""
        fleet = self._holding.get(voice, self._queue.get(voice))
        return self.note(voice, fleet, holds=False, queued=False)


def _of(fleet: Hashable, voices: dict[str, Hashable]) -> list[str]:
    return [voice for voice, its_fleet in voices.items() if its_fleet == fleet]
