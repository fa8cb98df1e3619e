"""A counter that rises whenever something that is shown changed, and a way to wait for it.

Separate because three things raise it (events, records, sidecars' states) and every long-poll waits on it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field


@dataclass(slots=True)
class Changes:
    """Used from one event loop only."""

    version: int = 0
    closed: bool = False
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def bump(self) -> None:
        """Something changed."""
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def close(self) -> None:
        """Nobody waits any longer: the process stops."""
        self.closed = True
        self.bump()

    async def wait_after(self, version: int, *, timeout_s: float) -> None:
        """Return once the version is another one than `version`, or after `timeout_s`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.version == version and not self.closed:
                    await self._changed.wait()
