"""When no command is on its way: the moment to read what the last ones did.

Separate because it is shared by all pods: a command to thousands of pods ends thousands of long-polls, and to look at
each of them, or to begin it anew, in the middle of it would take as long as the command itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

MOST_S = 2.0
"""Somebody is always commanded in a busy fleet: nobody waits longer than this."""

LEAST_S = 0.05
"""Where no command explains why a long-poll ended early, it must not begin anew at once, and so for ever."""


@dataclass(slots=True)
class Lull:
    """Counts commands that wait for their turn or for their answer."""

    _under_way: int = 0
    _quiet: asyncio.Event = field(default_factory=asyncio.Event)
    _later: list[Callable[[], None]] = field(default_factory=list)
    _timer: asyncio.TimerHandle | None = None

    @contextmanager
    def broken(self) -> Iterator[None]:
        """Around a command."""
        self._under_way += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._quiet.set()
                self._call_all()

    def call(self, act: Callable[[], None]) -> None:
        """Do it when no command is under way, or after a while; at once where none is."""
        if not self._under_way:
            act()
            return
        self._later.append(act)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(MOST_S, self._call_all)

    def _call_all(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        later, self._later = self._later, []
        for act in later:
            act()

    async def wait(self) -> None:
        """Until no command is under way, or for a while; a moment in any case."""
        if not self._under_way:
            await asyncio.sleep(LEAST_S)
        await self.quiet()

    async def quiet(self) -> None:
        """Until no command is under way, or for a while; not at all where none is."""
        if not self._under_way:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(MOST_S):
                await self._quiet.wait()
