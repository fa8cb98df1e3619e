"""What must be read for the next decision, and how often: the operator polls no more than this.

Separate from the engine because it is asked before there is a snapshot.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from segue.model.spec import VoiceSpec
from segue.model.status import Phase, Status
from segue.wire import BUCKET_S

EVERY_BUCKET = timedelta(seconds=BUCKET_S)
RARELY = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What to read.

    Attributes
    ----------
    long_poll
        Follow the pods' states as they change; else read them every `every`.
    evidence
        Read buckets.
    queries
        Evaluate the Prometheus queries of the spec.
    holds_slot
        Whether the voice counts against `maxConcurrentRollouts`. A watch does not.
    """

    long_poll: bool
    evidence: bool
    queries: bool
    holds_slot: bool
    every: timedelta


def needs(spec: VoiceSpec, status: Status, now: datetime) -> Needs:
    """What to read for a voice that stands so."""
    phase = status.phase
    judged = phase in (Phase.FLIPPING, Phase.WATCHING)
    guarded = is_guarded(spec, status, now)
    return Needs(
        long_poll=phase is not Phase.IDLE,
        evidence=judged or phase is Phase.CANARY or guarded,
        queries=bool(spec.watch.queries) and (judged or (guarded and _can_be_asked(spec, status, now))),
        holds_slot=phase in (Phase.PRELOADING, Phase.VERIFYING, Phase.CANARY, Phase.FLIPPING),
        every=EVERY_BUCKET if phase is not Phase.IDLE or guarded else RARELY,
    )


def speaks(status: Status, *, active: str | None) -> bool:
    """Whether a pod whose word says `active` can tell of the revision that is judged.

    In mid-flip, only once it has flipped: the commit point must not wait for evidence of thousands of pods that have
    none.
    """
    return status.phase is not Phase.FLIPPING or active == status.target_revision


def is_guarded(spec: VoiceSpec, status: Status, now: datetime) -> bool:
    """Whether the guard after the watch still has somewhere to go back to."""
    switch = status.last_switch
    has_previous = len(status.history) > 1 and switch is not None
    return has_previous and switch is not None and now < switch.at + spec.rollback.keep_warm


def settled_at(spec: VoiceSpec, status: Status) -> datetime | None:
    """When Prometheus has forgotten the revision that was taken back last; None if none was.

    Alerts and queries look back over minutes: what they say shortly after a rollback is about the revision that went,
    and must not take the next one with it.
    """
    rollback = status.last_rollback
    return None if rollback is None else rollback.at + spec.watch.sustained_for


def _can_be_asked(spec: VoiceSpec, status: Status, now: datetime) -> bool:
    """Whether a query can only speak about the guarded revision: nothing else is heard, or was a moment ago."""
    settled = settled_at(spec, status)
    return status.phase is not Phase.CANARY and (settled is None or now >= settled)
