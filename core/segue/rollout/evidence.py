"""What live requests say about a revision, summed over pods.

Separate from the phases because canary, watch and the guard after it ask the same questions of the same buckets, and
because each answer here is a pure function of figures that a test can write down.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from operator import or_

from typing_extensions import override

from segue.model.spec import EVIDENCE_KEPT, Canary, Watch
from segue.rollout.snapshot import Bucket, PodView
from segue.rollout.statistics import distinct_texts, wilson_lower_bound
from segue.wire import BUCKET_S

DISTINCT_TEXTS = 20
"""Fewer texts than this are one listener with one sentence, not evidence."""

SLICES = 3
"""A rate "stays" over its limit when it is over it in every third of the window that saw requests."""

FAST_WINDOW = timedelta(seconds=30)
FAST_RATE, FAST_REQUESTS, FAST_ERRORS = 0.2, 20, 5
KNOWN_REQUESTS = 50
"""Fewer requests of the previous revision, or of other voices, are not known well enough to share the blame."""
BLAME_FACTOR = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Requests and errors of some span."""

    requests: int = 0
    errors: int = 0

    @property
    def rate(self) -> float:
        """Errors per request; 0 without requests."""
        return self.errors / self.requests if self.requests else 0.0

    @override
    def __str__(self) -> str:
        return f"{self.errors} of {self.requests} requests failed ({self.rate:.1%})"


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryEvidence:
    """What a canary showed.

    Attributes
    ----------
    total
        Since the canary began.
    successes
        Of this step, in buckets that begin after the latest error on any pod.
    mirrored
        Of `successes`' buckets, requests that were copies.
    texts
        Estimate of distinct texts.
    """

    total: Tally
    successes: int
    mirrored: int
    texts: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trip:
    """A revision does badly on live requests."""

    reason: str
    message: str
    blamed: bool


def is_known(pods: Iterable[PodView]) -> bool:
    """Whether any pod's buckets were read at all."""
    return any(pod.windows is not None for pod in pods)


def buckets_of(pods: Iterable[PodView], revision: str) -> list[Bucket]:
    """All buckets of a revision on all pods."""
    return [bucket for pod in pods if pod.windows for bucket in pod.windows.revisions.get(revision, ())]


def tally(buckets: Iterable[Bucket], *, since_s: float, until_s: float = float("inf")) -> Tally:
    """Sum of the buckets that end after `since_s` and begin before `until_s`."""
    chosen = [each for each in buckets if each.start_s + BUCKET_S > since_s and each.start_s < until_s]
    return Tally(requests=sum(each.requests for each in chosen), errors=sum(each.errors for each in chosen))


def canary_evidence(pods: Iterable[PodView], revision: str, *, began: datetime, step_began: datetime) -> CanaryEvidence:
    """Gather what a canary showed."""
    pods = tuple(pods)
    buckets = buckets_of(pods, revision)
    canary = [each for each in buckets if each.start_s + BUCKET_S > began.timestamp()]
    last_error_s = max((each.start_s for each in canary if each.errors), default=float("-inf"))
    step_s = step_began.timestamp()
    good = [each for each in canary if each.start_s > last_error_s and each.start_s + BUCKET_S > step_s]
    bitmap = reduce(or_, (pod.windows.texts.get(revision, 0) for pod in pods if pod.windows), 0)
    return CanaryEvidence(
        total=tally(canary, since_s=began.timestamp()),
        successes=sum(each.successes for each in good),
        mirrored=sum(each.mirrored for each in good),
        texts=distinct_texts(bitmap),
    )


def canary_fails(evidence: CanaryEvidence, policy: Canary) -> str | None:
    """Why a canary failed, None if it did not: enough errors, and a rate that is surely over the limit."""
    total = evidence.total
    if total.errors < policy.max_errors:
        return None
    bound = wilson_lower_bound(total.errors, total.requests)
    if bound <= policy.max_error_rate:
        return None
    return f"{total}; at least {bound:.2%} with 95 % confidence, allowed are {policy.max_error_rate:.2%}"


def canary_passes(evidence: CanaryEvidence, policy: Canary) -> bool:
    """Whether a step has its successes, on enough different texts."""
    needed_texts = min(DISTINCT_TEXTS, policy.successes)
    # Linear counting is off by a few per cent; half a text keeps 20 of 20 from reading as 19.6.
    return evidence.successes >= policy.successes and evidence.texts >= needed_texts - 0.5


def find_trip(
    pods: Iterable[PodView], revision: str, *, previous: str | None, flipped_at: datetime, policy: Watch, now: datetime
) -> Trip | None:
    """Whether a flipped revision does badly, and whether it is to blame.

    A dying machine or hostile texts fail other voices, or failed the previous revision, as well: then the trip is not
    blamed on the revision.
    """
    pods = tuple(pods)
    buckets = buckets_of(pods, revision)
    found = _fast_trip(buckets, flipped_at=flipped_at, now=now)
    window = FAST_WINDOW
    if found is None:
        found, window = _sustained_trip(buckets, flipped_at=flipped_at, policy=policy, now=now), policy.sustained_for
    if found is None:
        return None
    excuse = _excuse(pods, found, revision=revision, previous=previous, flipped_at=flipped_at, since=now - window)
    reason = "ErrorRateExceeded" if excuse is None else "ErrorsElsewhereToo"
    return Trip(reason=reason, message=f"{found}{excuse or ''}", blamed=excuse is None)


def recent(pods: Iterable[PodView], revision: str, *, policy: Watch, now: datetime) -> Tally:
    """The revision's requests of the last `sustainedFor`."""
    return tally(buckets_of(pods, revision), since_s=(now - policy.sustained_for).timestamp())


def _fast_trip(buckets: list[Bucket], *, flipped_at: datetime, now: datetime) -> Tally | None:
    since = max(flipped_at, now - FAST_WINDOW)
    found = tally(buckets, since_s=since.timestamp())
    bad = found.rate > FAST_RATE and found.requests >= FAST_REQUESTS and found.errors >= FAST_ERRORS
    return found if bad else None


def _sustained_trip(buckets: list[Bucket], *, flipped_at: datetime, policy: Watch, now: datetime) -> Tally | None:
    since = now - policy.sustained_for
    if since < flipped_at:
        return None  # it has not been heard for that long yet
    whole = tally(buckets, since_s=since.timestamp())
    if whole.requests < policy.min_requests or whole.errors < policy.min_errors:
        return None
    if wilson_lower_bound(whole.errors, whole.requests) <= policy.max_error_rate:
        return None
    return whole if _stays_over(buckets, since=since, now=now, limit=policy.max_error_rate) else None


def _stays_over(buckets: list[Bucket], *, since: datetime, now: datetime, limit: float) -> bool:
    """Whether the rate is over the limit in every slice that saw requests: a burst is not a trend."""
    length_s = max(float(BUCKET_S), (now - since).total_seconds() / SLICES)
    slices: dict[int, Tally] = {}
    for bucket in buckets:
        if bucket.start_s + BUCKET_S <= since.timestamp():
            continue
        index = int((bucket.start_s - since.timestamp()) // length_s)
        seen = slices.get(index, Tally())
        slices[index] = Tally(requests=seen.requests + bucket.requests, errors=seen.errors + bucket.errors)
    return all(each.rate > limit for each in slices.values() if each.requests)


def _excuse(
    pods: tuple[PodView, ...],
    found: Tally,
    *,
    revision: str,
    previous: str | None,
    flipped_at: datetime,
    since: datetime,
) -> str | None:
    """Who else fails as much; None when the revision stands alone."""
    if previous is not None:
        hour_s = (flipped_at - EVIDENCE_KEPT).timestamp()
        before = tally(buckets_of(pods, previous), since_s=hour_s, until_s=flipped_at.timestamp())
        if before.requests >= KNOWN_REQUESTS and found.rate <= BLAME_FACTOR * before.rate:
            return f"; but so did the previous revision: {before}"
    serving = [pod for pod in pods if pod.windows and revision in pod.windows.revisions]
    others = tally(
        (bucket for pod in serving if pod.windows for bucket in pod.windows.others), since_s=since.timestamp()
    )
    if others.requests >= KNOWN_REQUESTS and found.rate <= BLAME_FACTOR * others.rate:
        return f"; but so did other voices on the same pods: {others}"
    return None
