"""How long to wait before something that died is started again.

Separate because it is arithmetic: exponential with full jitter, and forgetful after a good run.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

FIRST_S = 0.2
LONGEST_S = 30.0
GOOD_RUN_S = 30.0


@dataclass(slots=True)
class Backoff:
    """Delays of 0.1–0.2 s, 0.2–0.4 s, … up to 15–30 s; from the start again after a run of `GOOD_RUN_S`."""

    random: random.Random = field(default_factory=random.Random)
    failures: int = 0

    def next_delay_s(self, *, ran_s: float) -> float:
        """Seconds to wait after a run of `ran_s` seconds."""
        if ran_s >= GOOD_RUN_S:
            self.failures = 0
        ceiling = min(LONGEST_S, FIRST_S * 2**self.failures)
        self.failures = min(self.failures + 1, 16)
        return self.random.uniform(ceiling / 2, ceiling)
