"""How often voices were switched and taken back since this operator began, for Prometheus.

Separate from the statuses, which say what happened last and not how often: a status that is written is held against the
one before it, so that each switch and each rollback counts once, whoever or whatever led to it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from segue.model import Status

REASONS = (
    "AlertFiring",
    "CanaryFailed",
    "ContinuityBroken",
    "ErrorRateExceeded",
    "ManualRollback",
    "ProbeUnavailable",
    "ProgressDeadlineExceeded",
    "QueryFailed",
    "SelfReverted",
    "SpecReverted",
    "Superseded",
    "VerificationFailed",
    "WatchFailed",
    "Withdrawn",
)
"""Told from the start, with 0: a rate knows nothing of a series that begins with 1. What pods could not load has the
pods' own reasons, which are told from the first time on."""

MOST_REASONS = 64
OTHER = "Other"


@dataclass(slots=True)
class Tallies:
    """Used from one event loop only. A voice that is gone is forgotten, and its series end."""

    switches: Counter[str] = field(default_factory=Counter)
    rollbacks: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(REASONS, 0)))

    def note(self, voice: str, before: Status, after: Status) -> None:
        """A status was written: what does it say that the one before did not?"""
        if after.last_switch is not None and after.last_switch != before.last_switch:
            self.switches[voice] += 1
        if after.last_rollback is not None and after.last_rollback != before.last_rollback:
            self.rollbacks[voice] += 1
            self.reasons[self._label(after.last_rollback.reason)] += 1

    def forget(self, voice: str) -> None:
        """The voice does not exist any more; its rollbacks stay in those by reason."""
        self.switches.pop(voice, None)
        self.rollbacks.pop(voice, None)

    def _label(self, reason: str) -> str:
        """Whoever may edit a status may write any reason into it."""
        known = reason in self.reasons or len(self.reasons) < MOST_REASONS
        return reason if known else OTHER
