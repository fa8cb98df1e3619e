"""The fences of one tenure of a Lease: nothing is sent under them once another may hold it.

Separate from the election because this is what the loop holds in its hands: it only compares a clock, so that a process
that was stopped for a minute knows at its first instruction what the election will find out later.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from segue.wire import Fence
from segue_operator.leader import NotLeading, UnderWay


@dataclass(slots=True, kw_only=True)
class LeaseFences:
    """Fences of one tenure; see `leader.Fences`. Once ended it stays so.

    Attributes
    ----------
    valid_until_s
        On `clock`; the Lease cannot be taken before.
    ended, why
        Set as soon as somebody notices that it ended.
    """

    term: int
    clock: Callable[[], float]
    valid_until_s: float
    write_term: Callable[[LeaseFences, int], Awaitable[None]]
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    why: str = ""
    _sequence: int = 0
    _under_way: UnderWay = field(default_factory=UnderWay)

    def next(self) -> Fence:
        """See `leader.Fences`."""
        self.check()
        self._sequence += 1
        return Fence(self.term, self._sequence)

    def check(self) -> None:
        """See `leader.Fences`."""
        if not self.why and self.clock() >= self.valid_until_s:
            self.end("the Lease was not renewed in time")
        if self.why:
            raise NotLeading(self.why)

    @contextlib.contextmanager
    def under_way(self) -> Iterator[None]:
        """See `leader.Fences`."""
        self.check()
        with self._under_way.counted():
            yield

    async def outrun(self, term: int) -> None:
        """See `leader.Fences`."""
        self.check()
        if self.term <= term:
            await self.write_term(self, term)

    def extend(self, until_s: float) -> None:
        """The Lease was renewed. Raises `NotLeading` where that came to be known too late."""
        self.check()
        self.valid_until_s = max(self.valid_until_s, until_s)

    def end(self, why: str) -> None:
        """Send and write nothing more."""
        self.why = self.why or why
        self.ended.set()

    async def drained(self, *, within_s: float) -> None:
        """Wait until nothing is under way, or `within_s`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._under_way.none()
