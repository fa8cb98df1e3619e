"""When was the leader last heard? Contact is a request that carries the term of the latest leader."""

from __future__ import annotations

import time


class Contact:
    """The highest term seen, and the last time that somebody used it."""

    def __init__(self, *, term: int = 0) -> None:
        self.term = term
        self._heard_s = time.monotonic()

    def heard(self, term: int) -> None:
        """A request of the leader of this term came in; a deposed one's does not count, nor does 0: nobody's."""
        if term and term >= self.term:
            self.term = term
            self._heard_s = time.monotonic()

    def silent_s(self) -> float:
        """Seconds since then; since the start, while nobody was heard."""
        return time.monotonic() - self._heard_s
