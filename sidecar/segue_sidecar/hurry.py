"""Ending a wait for news because the caller has something else to say.

Separate because two ends of the process meet here: the listener sees that another request has come in behind a
long-poll on the same connection, and the feed waits. So an operator needs one connection a pod for both, and its
command is not held up by its own long-poll.
"""

from __future__ import annotations

import asyncio

STATE_KEY = "hurry"
"""Where the `Hurry` of a request lies in the ASGI scope's `state`."""


class Hurry:
    """Of one request: whether another one waits behind it."""

    __slots__ = ("_deadline", "asked")

    def __init__(self) -> None:
        self.asked = False
        self._deadline: asyncio.Timeout | None = None

    def ask(self) -> None:
        """Another request waits: end the wait."""
        self.asked = True
        if self._deadline is not None and not self._deadline.expired():
            self._deadline.reschedule(asyncio.get_running_loop().time())

    def ends(self, deadline: asyncio.Timeout) -> None:
        """This is what the request waits in."""
        self._deadline = deadline

    def waits_no_more(self) -> None:
        """It goes on."""
        self._deadline = None
