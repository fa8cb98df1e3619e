"""Waking a voice at once, and then at most once in a while, however many alerts say the same.

Separate because both kinds of triggers wake, and each time a voice looks it asks the API server and its pods.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Waker:
    """Used from one event loop only."""

    wake: Callable[[frozenset[str]], None]
    rest_s: float = 1.0
    _resting: dict[str, bool] = field(default_factory=dict)
    """Voices that were woken less than `rest_s` ago, and whether they are to be woken once more afterwards."""

    def __call__(self, keys: frozenset[str]) -> None:
        """Something new about these voices."""
        for key in keys:
            if key in self._resting:
                self._resting[key] = True
            else:
                self._wake(key)

    def _wake(self, key: str) -> None:
        self._resting[key] = False
        asyncio.get_running_loop().call_later(self.rest_s, self._rested, key)
        self.wake(frozenset({key}))

    def _rested(self, key: str) -> None:
        if self._resting.pop(key):
            self._wake(key)
