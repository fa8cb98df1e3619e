"""The two pieces of statistics that decide a rollout.

Separate because they are checked against published values and know nothing of voices.
"""

from __future__ import annotations

import math

Z_95_ONE_SIDED = 1.6448536269514722
"""95 % quantile of the standard normal: the true rate lies below the bound in at most 5 % of cases."""

BITMAP_BITS = 512
"""Width of the bitmap of distinct texts on the wire."""


def wilson_lower_bound(errors: int, requests: int, *, z: float = Z_95_ONE_SIDED) -> float:
    """The least error rate that is still plausible (Wilson 1927, score interval, one-sided 95 % by default).

    0 when there were no requests. Unlike errors / requests it does not take 1 error in 1 request for a rate of 100 %.
    """
    if requests == 0:
        return 0.0
    rate, zz = errors / requests, z * z
    centre = rate + zz / (2 * requests)
    spread = z * math.sqrt(rate * (1 - rate) / requests + zz / (4 * requests * requests))
    return max(0.0, (centre - spread) / (1 + zz / requests))


def rate_allowed_by(successes: int) -> float:
    """The error rate that so many successes in a row cannot rule out (95 %; about 3 / successes, the rule of three)."""
    return 1.0 if successes == 0 else 1 - 0.05 ** (1 / successes)


def distinct_texts(bitmap: int, *, bits: int = BITMAP_BITS) -> float:
    """How many distinct texts set the bits of a bitmap (linear counting, Whang et al. 1990).

    A full bitmap says no more than "very many": infinity.
    """
    empty = bits - bitmap.bit_count()
    return math.inf if empty <= 0 else bits * math.log(bits / empty)
