"""Bringing up a cold voice for a request that waits.

Separate from the desk because it waits, which the desk must never do. One attempt serves everybody who asks for the
voice meanwhile.
"""

from __future__ import annotations

import asyncio

from segue.memory.messages import Unavailable, VoiceName
from segue_server.revisions.link import SidecarLink
from segue_server.revisions.roster import Roster, until_warm
from segue_server.synthesis.failures import VoiceCold


class ColdStart:
    """Asks the sidecar for cold voices."""

    def __init__(self, roster: Roster, link: SidecarLink, *, wait_s: float) -> None:
        """Nobody waits longer than `wait_s`."""
        self._roster = roster
        self._link = link
        self._wait_s = wait_s
        self._rising: dict[VoiceName, asyncio.Task[None]] = {}

    async def bring_up(self, voice: VoiceName) -> None:
        """Return when the voice can be spoken with.

        Raises
        ------
        VoiceCold
            Not in time, or not at all; says when to try again.
        """
        task = self._rising.get(voice)
        if task is None:
            task = self._rising[voice] = asyncio.create_task(self._rise(voice))
            task.add_done_callback(lambda _: self._rising.pop(voice, None))
        await asyncio.shield(task)

    async def _rise(self, voice: VoiceName) -> None:
        refused = asyncio.create_task(self._link.refused(voice))
        warm = asyncio.create_task(until_warm(self._roster, voice, timeout_s=self._wait_s))
        try:
            await asyncio.wait((refused, warm), return_when=asyncio.FIRST_COMPLETED)
            if warm.done() and warm.result():
                return
            if refused.done():
                raise _unavailable(refused.result())
            raise VoiceCold(f"{voice} is being brought up; it is not ready after {self._wait_s:g} s", retry_after_s=5.0)
        finally:
            refused.cancel()
            warm.cancel()


def _unavailable(answer: Unavailable) -> VoiceCold:
    detail = f": {answer.message}" if answer.message else ""
    return VoiceCold(
        f"{answer.voice} cannot be brought up now ({answer.reason}){detail}", retry_after_s=answer.retry_after_s
    )
