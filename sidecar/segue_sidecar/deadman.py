"""When does the sidecar go back by itself?

Pure. A flip hands over the terms of its watch. While the operator is out of reach, somebody must still hold the new
revision to them: the same bound, the same least evidence and the same question of blame as in the operator's own watch,
so that the two cannot disagree about figures that both see. One pod sees less: only its own requests.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from segue.rollout.evidence import BLAME_FACTOR, FAST_ERRORS, FAST_RATE, FAST_REQUESTS, FAST_WINDOW, KNOWN_REQUESTS
from segue.rollout.statistics import wilson_lower_bound
from segue.wire import BUCKET_S, Bucket, OthersWindow, WatchTerms

FAST_WINDOW_S = FAST_WINDOW.total_seconds()


@dataclass(frozen=True, slots=True)
class Heard:
    """What this pod heard.

    Attributes
    ----------
    watched
        Buckets of the revision under watch.
    previous
        Of the one before it, up to an hour before the flip.
    others
        Of all other voices on the pod.
    """

    watched: tuple[Bucket, ...]
    previous: tuple[Bucket, ...] = ()
    others: tuple[OthersWindow, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The figures that say: it fails its terms.

    Attributes
    ----------
    blamed
        Whether it stands alone. A dying machine, or texts that nothing can speak, fail the others as well: then the
        revision is not taken back for it.
    """

    requests: int
    errors: int
    message: str
    blamed: bool = True


def judge(heard: Heard, terms: WatchTerms, *, flipped_s: float, now_s: float) -> Verdict | None:
    """Whether the watched revision fails its terms; `None` while it does not.

    It does when the lower Wilson bound of its error rate is over `maxErrorRate` for the whole of the last
    `sustainedFor` (which must lie behind the flip) and over its younger half as well, or when it fails fast: over 20 %
    of at least 20 requests in 30 s. `minRequests` and `minErrors` hold for both.

    Parameters
    ----------
    flipped_s, now_s
        Unix seconds.
    """
    young = [bucket for bucket in heard.watched if bucket.start_s + BUCKET_S > flipped_s]
    fast = _tally(young, since_s=now_s - FAST_WINDOW_S)
    if fast.requests >= FAST_REQUESTS and fast.errors >= FAST_ERRORS and fast.errors > FAST_RATE * fast.requests:
        return _verdict(fast, heard, terms, span_s=FAST_WINDOW_S, flipped_s=flipped_s, now_s=now_s)
    if now_s - flipped_s < terms.sustained_for_s:
        return None
    whole = _tally(young, since_s=now_s - terms.sustained_for_s)
    late = _tally(young, since_s=now_s - terms.sustained_for_s / 2)
    if all(wilson_lower_bound(part.errors, part.requests) > terms.max_error_rate for part in (whole, late)):
        return _verdict(whole, heard, terms, span_s=terms.sustained_for_s, flipped_s=flipped_s, now_s=now_s)
    return None


@dataclass(frozen=True, slots=True)
class _Tally:
    requests: int
    errors: int

    @property
    def rate(self) -> float:
        return self.errors / self.requests if self.requests else 0.0


def _tally(buckets: Iterable[Bucket], *, since_s: float, until_s: float = float("inf")) -> _Tally:
    chosen = [bucket for bucket in buckets if bucket.start_s + BUCKET_S > since_s and bucket.start_s < until_s]
    errors = sum(bucket.error_count for bucket in chosen)
    return _Tally(errors + sum(bucket.successes for bucket in chosen), errors)


def _verdict(
    tally: _Tally, heard: Heard, terms: WatchTerms, *, span_s: float, flipped_s: float, now_s: float
) -> Verdict | None:
    if tally.requests < terms.min_requests or tally.errors < terms.min_errors:
        return None
    excuse = _excuse(tally, heard, flipped_s=flipped_s, since_s=now_s - span_s)
    return Verdict(
        tally.requests,
        tally.errors,
        f"{tally.errors} of {tally.requests} requests failed within {span_s:g} s ({tally.rate:.1%}, allowed "
        f"{terms.max_error_rate:.2%}) while the operator was out of reach{excuse or ''}",
        blamed=excuse is None,
    )


def _excuse(tally: _Tally, heard: Heard, *, flipped_s: float, since_s: float) -> str | None:
    """Who else fails at least half as often; `None` when the revision stands alone, or nobody else is known."""
    before = _tally(heard.previous, since_s=0, until_s=flipped_s)
    if before.requests >= KNOWN_REQUESTS and tally.rate <= BLAME_FACTOR * before.rate:
        return f"; but so did the previous revision ({before.rate:.1%})"
    chosen = [window for window in heard.others if window.start_s + BUCKET_S > since_s]
    others = _Tally(sum(window.requests for window in chosen), sum(window.errors for window in chosen))
    if others.requests >= KNOWN_REQUESTS and tally.rate <= BLAME_FACTOR * others.rate:
        return f"; but so did other voices on this pod ({others.rate:.1%})"
    return None
