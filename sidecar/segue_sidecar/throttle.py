"""How much of the machine preloading may take while somebody is being served.

The policy is pure. Niceness alone does nothing across containers, so children are stopped and continued: they run for
a short slice and rest, at a duty that starts at a tenth while any worker is busy, falls when listeners wait longer than
they did without children, grows slowly while they do not, and is everything on an idle machine. Stopping works on every
kind of child alike, also inside one long call of an engine.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass

from segue_sidecar.config import ThrottleSection

SLICE_S = 0.005
"""How long children run between two rests: short against a request, long against a context switch."""

_LATENCY_WORSE = 1.15
_LATENCY_FLAT = 1.05
_GROWTH = 1.04
_LEAST_ENDED = 8
"""Requests that a verdict needs: of an engine whose sentences take seconds, the mean of one or two is their length."""
_CALM = 0.8
"""Children that were held back run freely again only well below the limit: at the limit they would start and stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the stats pages said about the last interval.

    Attributes
    ----------
    busy
        Share of its time that the busiest worker spent computing, 0 to 1, over a few seconds: between two requests
        everybody is idle, and that is not the moment to begin.
    latency_ratio
        Mean latency over what it was while no child ran; `None` where nothing is known.
    rounds
        Over how many rounds `latency_ratio` was gathered; 0: too little has ended for a verdict, or no child runs just
        now, so the share stays.
    """

    busy: float = 0.0
    latency_ratio: float | None = None
    rounds: int = 1


class Gathered:
    """What ended beside children since the last verdict."""

    def __init__(self) -> None:
        self._ended = 0
        self._latency_s = 0.0
        self._rounds = 0

    def add(self, *, ended: int, latency_s: float) -> None:
        """One more round, in which so many requests ended that took so long together."""
        self._ended += ended
        self._latency_s += latency_s
        self._rounds += 1

    def verdict(self) -> tuple[float, int] | None:
        """The mean latency and the rounds it is of, once enough has ended; then it begins anew."""
        if self._ended < _LEAST_ENDED:
            return None
        found = self._latency_s / self._ended, self._rounds
        self.clear()
        return found

    def clear(self) -> None:
        """Begin anew."""
        self._ended, self._latency_s, self._rounds = 0, 0.0, 0


class Baseline:
    """What requests take while no child runs: the mean of about the last hundred.

    Weighed by requests, so that the first of them is one of many: a baseline that begins with one short sentence makes
    everything that follows look slow, and holds children back for as long as they run.
    """

    _KEPT = 100

    def __init__(self) -> None:
        self._ended = 0.0
        self._latency_s = 0.0

    def add(self, *, ended: int, latency_s: float) -> None:
        """So many requests ended, which took so long together."""
        self._ended += ended
        self._latency_s += latency_s
        if self._ended > self._KEPT:
            self._latency_s *= self._KEPT / self._ended
            self._ended = float(self._KEPT)

    @property
    def mean_s(self) -> float | None:
        """`None` until as many have ended as a verdict needs."""
        return self._latency_s / self._ended if self._ended >= _LEAST_ENDED else None


def next_duty(duty: float, load: Load, policy: ThrottleSection) -> float:
    """The share of time that children may run in the next interval.

    Parameters
    ----------
    duty
        Their share in the interval that `load` tells of.
    """
    if load.busy <= policy.busy * (1.0 if duty >= 1.0 else _CALM):
        return 1.0
    if duty >= 1.0:
        return policy.duty
    if load.rounds == 0:
        return duty
    if load.latency_ratio is None:
        return min(duty, policy.duty)
    if load.latency_ratio > _LATENCY_WORSE:
        return max(duty / 2, policy.min_duty)
    if load.latency_ratio < _LATENCY_FLAT:
        return min(duty * _GROWTH**load.rounds, policy.max_duty)
    return duty


class Pacer:
    """Stops and continues the children at a duty. One task of it runs for as long as the sidecar."""

    def __init__(self) -> None:
        self._duty = 1.0
        self._stopped_s: dict[int, float] = {}
        self._changed = asyncio.Event()

    @property
    def duty(self) -> float:
        """Share of time that children run now."""
        return self._duty

    @property
    def children(self) -> int:
        """How many there are."""
        return len(self._stopped_s)

    def set_duty(self, duty: float) -> None:
        """Change the share from the next slice on."""
        if duty != self._duty:
            self._duty = duty
            self._changed.set()

    def add(self, pid: int) -> None:
        """Pace this child, too."""
        self._stopped_s[pid] = 0.0
        self._changed.set()

    def remove(self, pid: int) -> None:
        """The child is about to be reaped: leave its pid alone from now on. Idempotent."""
        self._stopped_s.pop(pid, None)

    def stopped_s(self, pid: int) -> float:
        """How long the child was kept waiting so far: not its own fault, so no part of its deadline."""
        return self._stopped_s.get(pid, 0.0)

    async def run(self) -> None:
        """Pace until cancelled; then everybody runs."""
        try:
            while True:
                self._changed.clear()
                if self._duty >= 1.0 or not self._stopped_s:
                    await self._changed.wait()
                    continue
                await asyncio.sleep(SLICE_S)
                await self._rest(SLICE_S * (1 - self._duty) / self._duty)
        finally:
            self._signal(signal.SIGCONT)

    async def _rest(self, rest_s: float) -> None:
        self._signal(signal.SIGSTOP)
        began_s = time.monotonic()
        try:
            async with asyncio.timeout(rest_s):
                await self._changed.wait()
        except TimeoutError:
            pass
        finally:
            rested_s = time.monotonic() - began_s
            self._stopped_s = {pid: total + rested_s for pid, total in self._stopped_s.items()}
            self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._stopped_s:
            os.kill(pid, number)
