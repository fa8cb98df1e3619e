"""A clock that stands still until it is told to go on: no test sleeps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class FakeClock:
    """Time for everything in a simulated world."""

    def __init__(self, start: datetime = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)) -> None:
        self._now = start

    def now(self) -> datetime:
        """UTC."""
        return self._now

    def unix_s(self) -> float:
        """Unix seconds."""
        return self._now.timestamp()

    def advance(self, seconds: float) -> None:
        """Go on."""
        self._now += timedelta(seconds=seconds)
