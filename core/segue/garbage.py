"""When Python looks for cycles: seldom, and never over what lives as long as the process.

Separate because sidecar and operator both promise milliseconds: a full collection walks every object there is, which
takes a third of a second in an operator of 5,000 pods, and comes in the middle of a flip as likely as anywhere.
"""

from __future__ import annotations

import gc

YOUNG, MIDDLE, OLD = 50_000, 20, 100
"""Allocations until the youngest generation is looked through, and how many of those until the next ones are."""


def settle_garbage() -> None:
    """Call it once, when what has been imported and built is there to stay."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
