"""When does the sidecar go back by itself?

Pure. A flip hands over the terms of its watch. While the operator is out of reach, somebody must still hold the new
revision to them: the same bound and the same least evidence as the operator's own watch, so that the two cannot
disagree about figures that both see.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from segue.rollout.statistics import wilson_lower_bound
from segue.wire import BUCKET_S, Bucket, WatchTerms

FAST_WINDOW_S = 30.0
FAST_RATE, FAST_REQUESTS, FAST_ERRORS = 0.2, 20, 5


@dataclass(frozen=True, slots=True)
class Verdict:
    """The figures that say: go back."""

    requests: int
    errors: int
    message: str


def judge(buckets: Iterable[Bucket], terms: WatchTerms, *, flipped_s: float, now_s: float) -> Verdict | None:
    """Whether the watched revision fails its terms; `None` while it does not.

    It does when the lower Wilson bound of its error rate is over `maxErrorRate` for the whole of the last
    `sustainedFor` (which must lie behind the flip) and over its younger half as well, or when it fails fast: over 20 %
    of at least 20 requests in 30 s. `minRequests` and `minErrors` hold for both.

    Parameters
    ----------
    buckets
        Of the watched revision.
    flipped_s, now_s
        Unix seconds.
    """
    young = [bucket for bucket in buckets if bucket.start_s + BUCKET_S > flipped_s]
    fast = _tally(young, since_s=now_s - FAST_WINDOW_S)
    if fast.requests >= FAST_REQUESTS and fast.errors >= FAST_ERRORS and fast.errors > FAST_RATE * fast.requests:
        return _enough(fast, terms, f"within {FAST_WINDOW_S:g} s")
    if now_s - flipped_s < terms.sustained_for_s:
        return None
    whole = _tally(young, since_s=now_s - terms.sustained_for_s)
    late = _tally(young, since_s=now_s - terms.sustained_for_s / 2)
    if all(wilson_lower_bound(part.errors, part.requests) > terms.max_error_rate for part in (whole, late)):
        return _enough(whole, terms, f"over {terms.sustained_for_s:g} s")
    return None


@dataclass(frozen=True, slots=True)
class _Tally:
    requests: int
    errors: int


def _tally(buckets: Iterable[Bucket], *, since_s: float) -> _Tally:
    chosen = [bucket for bucket in buckets if bucket.start_s + BUCKET_S > since_s]
    errors = sum(bucket.error_count for bucket in chosen)
    return _Tally(errors + sum(bucket.successes for bucket in chosen), errors)


def _enough(tally: _Tally, terms: WatchTerms, span: str) -> Verdict | None:
    if tally.requests < terms.min_requests or tally.errors < terms.min_errors:
        return None
    rate = tally.errors / tally.requests
    return Verdict(
        tally.requests,
        tally.errors,
        f"{tally.errors} of {tally.requests} requests failed {span} ({rate:.1%}, allowed {terms.max_error_rate:.2%}) "
        "while the operator was out of reach",
    )
