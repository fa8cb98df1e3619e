"""How far a pod's clock is from ours, for flips at one instant.

Separate because it is a small estimate with a rule of its own: of the last answers, the one with the shortest round
trip says most, and half of that trip is what we do not know.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

KEPT = 16
MAX_UNCERTAINTY_NS = 10_000_000
"""Beyond 10 ms a flip at an instant means nothing: it is stored on arrival."""


@dataclass(slots=True)
class ClockOffset:
    """Offset of a pod's CLOCK_REALTIME against ours, in nanoseconds."""

    _samples: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=KEPT))

    def add(self, *, sent_ns: int, received_ns: int, pod_ns: int) -> None:
        """Note one answer: our clock before and after, the pod's in between."""
        trip = received_ns - sent_ns
        if trip >= 0 and pod_ns > 0:
            self._samples.append((trip, pod_ns - (sent_ns + trip // 2)))

    @property
    def offset_ns(self) -> int:
        """Pod minus ours, from the shortest round trip; 0 before the first."""
        return min(self._samples)[1] if self._samples else 0

    @property
    def uncertainty_ns(self) -> int | None:
        """Half the shortest round trip; None before the first."""
        return min(self._samples)[0] // 2 if self._samples else None

    def usable(self) -> bool:
        """Whether an instant can be named in the pod's clock."""
        uncertainty = self.uncertainty_ns
        return uncertainty is not None and uncertainty <= MAX_UNCERTAINTY_NS
