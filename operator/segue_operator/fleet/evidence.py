"""What live requests say, read from the pods no more often than a fleet of this size can bear.

Separate because this is the one read whose number is pods times voices: with a few pods every look reads anew; with
thousands, what was read a moment ago is judged again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from segue.errors import NotFound, SegueError
from segue.rollout.observe import view_windows
from segue.rollout.snapshot import Windows
from segue_operator.fleet.listening import Listener
from segue_operator.fleet.places import Places
from segue_operator.fleet.pod import Pod

WINDOW_S = 3600
READS_PER_S = 250
"""Of all voices in a canary or watch on all pods together: more than that, and each pod is read less often."""

GUARD_READS_PER_S = 25
"""And of all those that are only guarded: their pods keep no connection, so that each read shakes hands first."""

KEPT_S = 180.0
"""A voice whose evidence nobody asked for so long is forgotten."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Known:
    asked_at: float = 0.0
    closely: bool = False
    windows: dict[str, tuple[float, Windows | None]] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Evidence:
    """Buckets by voice and pod. Times are CLOCK_MONOTONIC seconds."""

    listener: Listener
    reads: Places
    _known: dict[str, _Known] = field(default_factory=dict)

    async def of(self, voice: str, pods: Sequence[Pod], *, closely: bool) -> dict[str, Windows]:
        """By uid, of the pods that have any; those that cannot be read now have none.

        Parameters
        ----------
        closely
            A canary or a watch is open; else the voice is only guarded.
        """
        known = self._asked(voice, time.monotonic())
        known.closely = closely
        here = {pod.uid for pod in pods}
        known.windows = {uid: found for uid, found in known.windows.items() if uid in here}
        oldest = time.monotonic() - self._lasts_s(len(pods), closely=closely)
        due = [pod for pod in pods if known.windows.get(pod.uid, (-1.0, None))[0] <= oldest]
        await asyncio.gather(*(self._read(voice, pod, known) for pod in due))
        return {uid: windows for uid, (_, windows) in known.windows.items() if windows is not None}

    def _asked(self, voice: str, now: float) -> _Known:
        for key in [key for key, known in self._known.items() if now - known.asked_at > KEPT_S]:
            del self._known[key]
        known = self._known.setdefault(voice, _Known())
        known.asked_at = now
        return known

    def _lasts_s(self, pods: int, *, closely: bool) -> float:
        """How long what was read is good enough; nothing while there is little to read."""
        total = max(pods, sum(len(known.windows) for known in self._known.values() if known.closely is closely))
        per_s = READS_PER_S if closely else GUARD_READS_PER_S
        return total / per_s if total > READS_PER_S else 0.0

    async def _read(self, voice: str, pod: Pod, known: _Known) -> None:
        client, ahead_s = pod.client, pod.offset.offset_ns / 1e9
        if client is None:
            return
        since_s = max(0, int(time.time() + ahead_s) - WINDOW_S)
        async with self.reads:
            try:
                found = await client.windows(voice, since_s=since_s, term=pod.company.term())
            except NotFound:
                known.windows.pop(pod.uid, None)
                return
            except SegueError as error:
                known.windows.pop(pod.uid, None)
                extra = {"voice": voice, "pod": pod.uid}
                logger.warning("evidence of %s on pod %s is missing: %s", voice, pod.name, error, extra=extra)
                return
        self.listener.saw_windows(pod.uid, found)
        known.windows[pod.uid] = (time.monotonic(), view_windows(found, clock_ahead_s=ahead_s))
