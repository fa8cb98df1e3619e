"""How far a pod's clock is from ours, for flips at one instant.

Separate because it is a small estimate with rules of its own: of the last answers, the one with the shortest round trip
says most, half of that trip is what we do not know, and what was known a while ago is known less well by now.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_UNCERTAINTY_NS = 10_000_000
"""Beyond 10 ms a flip at an instant means nothing: it is stored on arrival."""

DRIFT = 50e-6
"""How fast two clocks may part; what a machine's oscillator does, and more than what NTP lets it do."""


@dataclass(frozen=True, slots=True)
class _Sample:
    taken_ns: int
    trip_ns: int
    offset_ns: int

    def uncertainty_ns(self, now_ns: int) -> int:
        return self.trip_ns // 2 + int(abs(now_ns - self.taken_ns) * DRIFT)

    def agrees_with(self, other: _Sample) -> bool:
        """Whether one offset can explain both."""
        room = self.uncertainty_ns(other.taken_ns) + other.uncertainty_ns(other.taken_ns)
        return abs(self.offset_ns - other.offset_ns) <= room


@dataclass(slots=True)
class ClockOffset:
    """Offset of a pod's CLOCK_REALTIME against ours, in nanoseconds."""

    _best: _Sample | None = None

    def add(self, *, sent_ns: int, received_ns: int, pod_ns: int) -> None:
        """Note one answer: our clock before and after, the pod's in between.

        It takes the place of what was known where it says more, and where it contradicts it: then one of the clocks
        was set.
        """
        trip_ns = received_ns - sent_ns
        if trip_ns < 0 or pod_ns <= 0:
            return
        sample = _Sample(received_ns, trip_ns, pod_ns - (sent_ns + trip_ns // 2))
        best = self._best
        if (
            best is None
            or sample.uncertainty_ns(received_ns) <= best.uncertainty_ns(received_ns)
            or not best.agrees_with(sample)
        ):
            self._best = sample

    @property
    def offset_ns(self) -> int:
        """Pod minus ours; 0 before the first answer."""
        return self._best.offset_ns if self._best is not None else 0

    def uncertainty_ns(self, now_ns: int) -> int | None:
        """What the offset may be wrong by at this time of ours; None before the first answer."""
        return self._best.uncertainty_ns(now_ns) if self._best is not None else None

    def usable(self, now_ns: int) -> bool:
        """Whether an instant can be named in the pod's clock."""
        uncertainty = self.uncertainty_ns(now_ns)
        return uncertainty is not None and uncertainty <= MAX_UNCERTAINTY_NS
