"""Which revisions may leave memory, and who goes first.

Pure. What is promised stays: hot voices that speak, whatever a rollout, a watch or an armed flip names, and a voice
that was brought up for a request and has not spoken yet. The way back of a hot voice is kept from requests for other
voices, and goes last when a rollout needs its room (the pool's least budget has room for one way back, not for all).
"""

from __future__ import annotations

from dataclasses import dataclass

from segue.wire import RevisionPhase, Tier
from segue_sidecar.entries import RevisionEntry, VoiceEntry

_MAY_LEAVE = (RevisionPhase.READY, RevisionPhase.WARM)
_COUNTS = frozenset(RevisionPhase) - {RevisionPhase.FAILED, RevisionPhase.RETIRING}


@dataclass(frozen=True, slots=True)
class Standing:
    """What eviction must know of a revision: whether it stays, and if not, who goes before it."""

    protected: bool
    rank: int = 0


STAYS = Standing(protected=True)
NOBODY_ASKS, COMES_BACK_FAST, COMES_BACK_SLOWLY, WAY_BACK = (Standing(protected=False, rank=rank) for rank in range(4))


def standing(entry: RevisionEntry, voice: VoiceEntry, *, settling: bool, for_request: bool) -> Standing:
    """Where a revision stands.

    Parameters
    ----------
    settling
        It was brought up for a request a moment ago, and has not spoken yet.
    for_request
        The room is for a request that waits, not for a rollout.
    """
    if entry.phase not in _MAY_LEAVE or settling or _is_rolled_out(entry, voice):
        return STAYS
    is_active = entry is voice.active
    if entry.request.tier is Tier.HOT:
        return STAYS if is_active or for_request else WAY_BACK
    if not is_active:
        return NOBODY_ASKS
    return COMES_BACK_FAST if entry.stored else COMES_BACK_SLOWLY


def may_rest(entry: RevisionEntry, voice: VoiceEntry) -> bool:
    """Whether nothing but requests needs the revision in the workers."""
    return entry.request.tier is not Tier.HOT and not _is_rolled_out(entry, voice)


def is_in_rollout(voice: VoiceEntry) -> bool:
    """Whether somebody is about to change who speaks, or watches a change."""
    disturbed = voice.watch is not None or voice.armed is not None or voice.said.candidate is not None
    newest = _newest(voice)
    return disturbed or (newest is not None and newest is not voice.active)


def _is_rolled_out(entry: RevisionEntry, voice: VoiceEntry) -> bool:
    if not is_in_rollout(voice):
        return False
    return entry.revision in voice.protected or entry is _newest(voice)


def _newest(voice: VoiceEntry) -> RevisionEntry | None:
    """The one that was asked for last: it is active, or about to be."""
    counted = [entry for entry in voice.revisions.values() if entry.phase in _COUNTS]
    return max(counted, key=lambda entry: entry.asked_ns, default=None)
