"""So many at a time, in the order in which they came.

Not asyncio's semaphore: that looks, each time somebody leaves, through all who were told to come in and have not moved
yet, which for thousands of commands is a tenth of their time.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Places:
    """An async context manager that at most `count` are inside of; a place is handed on from one to the next."""

    __slots__ = ("_free", "_waiting")

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def __aenter__(self) -> None:
        if self._free:
            self._free -= 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # it was handed over in the same moment
                self._hand_on()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._hand_on()

    def _hand_on(self) -> None:
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._free += 1
