"""When Python looks for cycles: seldom, and never over what lives as long as the process.

Separate because sidecar and operator both promise milliseconds: a full collection walks every object there is, which
takes a third of a second in an operator of 5,000 pods, and comes in the middle of a flip as likely as anywhere.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

YOUNG, MIDDLE, OLD = 50_000, 20, 100
"""Allocations until the youngest generation is looked through, and how many of those until the next ones are."""


def settle_garbage() -> None:
    """Call it once, when what has been imported and built is there to stay."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)


async def collect_in_quiet(is_quiet: Callable[[], bool], *, every_s: float = 60.0, at_the_latest: int = 10) -> None:
    """Full collections when nobody would notice the pause, until cancelled.

    Parameters
    ----------
    is_quiet
        Whether a pause would do no harm now.
    at_the_latest
        After so many rounds without a quiet moment there is one all the same: garbage must not grow for ever.
    """
    missed = 0
    while True:
        await asyncio.sleep(every_s)
        missed += 1
        if is_quiet() or missed >= at_the_latest:
            gc.collect()
            missed = 0
