"""What pods say that the control loop has no use for, and people have: pools, workers, counts of live requests.

Separate from the fleet, which keeps of every answer only what decisions need. A pool is a few numbers a pod; counts are
kept only while somebody looks, and of voices that are looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from segue.wire import PoolState, RevisionWindows, StateDocument, WindowsDocument
from segue_operator.fleet.listening import Listener


@dataclass(frozen=True, slots=True)
class PodNews:
    """A pod's own account; `at_s` in unix seconds."""

    pool: PoolState
    workers: int
    serving: int
    at_s: float


@dataclass(slots=True)
class News:
    """Listens to sidecars beside others."""

    others: tuple[Listener, ...] = ()
    now: Callable[[], float] = time.time
    pods: dict[str, PodNews] = field(default_factory=dict)
    looked_at: dict[str, int] = field(default_factory=dict)
    """How many streams look at a voice."""
    _counts: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)

    def saw_state(self, pod: str, state: StateDocument, *, only: frozenset[str] | None) -> None:
        """See `Listener`."""
        serving = sum(worker.phase == "serving" for worker in state.workers)
        self.pods[pod] = PodNews(state.pool, len(state.workers), serving, self.now())
        for other in self.others:
            other.saw_state(pod, state, only=only)

    def saw_windows(self, pod: str, windows: WindowsDocument) -> None:
        """See `Listener`."""
        if windows.voice in self.looked_at:
            self._counts[windows.voice, pod] = {name: _totals(each) for name, each in windows.revisions.items()}
        for other in self.others:
            other.saw_windows(pod, windows)

    def lost(self, pod: str) -> None:
        """See `Listener`."""
        self.pods.pop(pod, None)
        for other in self.others:
            other.lost(pod)

    def look_at(self, voice: str) -> None:
        """A stream begins to show this voice."""
        self.looked_at[voice] = self.looked_at.get(voice, 0) + 1

    def look_away(self, voice: str) -> None:
        """A stream shows it no more."""
        left = self.looked_at.pop(voice, 1) - 1
        if left > 0:
            self.looked_at[voice] = left
        else:
            self._counts = {key: counts for key, counts in self._counts.items() if key[0] != voice}

    def counts(self, voice: str) -> dict[str, dict[str, int]]:
        """Requests of the last hour by revision, over all pods that were read."""
        found: dict[str, dict[str, int]] = {}
        for (key, _), counts in self._counts.items():
            for revision, totals in counts.items() if key == voice else ():
                sums = found.setdefault(revision, {})
                for name, number in totals.items():
                    sums[name] = sums.get(name, 0) + number
        return found


def _totals(windows: RevisionWindows) -> dict[str, int]:
    return {
        "successes": sum(bucket.successes for bucket in windows.buckets),
        "errors": sum(bucket.error_count for bucket in windows.buckets),
        "shielded": sum(bucket.shielded for bucket in windows.buckets),
    }
