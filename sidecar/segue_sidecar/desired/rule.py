"""What one entry of the desired set asks of this pod now.

Pure. The entry is a minute or more behind, and was written for a pod that nobody commands; a pod that somebody commands
knows better. Whoever is right about a voice is decided by the fences alone: the higher one of the entry and of what the
pod obeyed last about who speaks. The rest are the cases in which even the higher entry has to wait. See
docs/decisions/2026-11-22-following-the-desired-set.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from segue.desired import DesiredEntry
from segue.wire import Fence, RevisionPhase, Tier
from segue_sidecar.entries import VoiceEntry


class Step(StrEnum):
    """One thing to do, or none."""

    REST = "rest"  # the pod knows better, or speaks it already
    WAIT = "wait"  # not now: look again when something changed, or a second later
    AGREE = "agree"  # it is what the pod speaks: only its fence and uid are news
    LOAD = "load"  # have its revision resident; known is enough for a voice that is not hot, while nobody speaks it
    POINT = "point"  # it is resident and proven, or known and waits for its first request: point the voice at it


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far the operator is.

    Attributes
    ----------
    alone
        Nobody was heard for longer than an operator that is well ever leaves a quiet pod. The dead-man rule waits less,
        because the pods of an open watch are long-polled.
    settled
        The mount has said the same for longer than mounts lag: it is not on its way to say something else.
    """

    alone: bool
    settled: bool


def next_step(entry: DesiredEntry, voice: VoiceEntry | None, *, released: Fence | None, reach: Reach) -> Step:
    """What an entry asks for.

    Parameters
    ----------
    voice
        As this pod knows it; `None` where it does not.
    released
        The fence under which the pod let the voice go, where it did.
    """
    if voice is None:
        return Step.REST if released is not None and entry.order <= released else Step.LOAD
    if _is_outrun(entry, voice):
        return Step.REST
    if _is_disturbed(voice):
        return Step.WAIT
    if voice.said.active == entry.revision:
        return Step.REST if (entry.order, entry.uid) <= (voice.fence, voice.uid) else Step.AGREE
    if _was_taken_back(entry, voice):
        return Step.REST
    if voice.said.active is not None and not (reach.alone and reach.settled):
        return Step.WAIT
    return _towards(entry, voice)


def _is_outrun(entry: DesiredEntry, voice: VoiceEntry) -> bool:
    """Whether the pod obeyed a later command about who speaks.

    Having a revision resident says nothing about that: a pod that was told so much, of the same voice, and not yet
    more, goes by the last word that there is. Else its server would begin to serve while nobody speaks.
    """
    if entry.order == voice.fence:
        return entry.uid != voice.uid
    if entry.order > voice.fence:
        return False
    return voice.pointed or voice.released or voice.uid != entry.uid


def _is_disturbed(voice: VoiceEntry) -> bool:
    """Whether something is open that only a command, or the dead-man rule, may close."""
    return voice.watch is not None or voice.armed is not None or voice.said.candidate is not None


def _was_taken_back(entry: DesiredEntry, voice: VoiceEntry) -> bool:
    """Whether this pod, or its operator, found that very revision bad; only a command may bring it back."""
    reverted = voice.self_reverted
    return voice.withdrawn == entry.revision or (reverted is not None and reverted.from_revision == entry.revision)


def speaks(voice: VoiceEntry | None) -> bool:
    """Whether somebody hears the voice now, or would without a wait."""
    return voice is not None and voice.said.active is not None and (voice.active is None or not voice.active.rests)


def _towards(entry: DesiredEntry, voice: VoiceEntry) -> Step:
    revision = voice.revisions.get(entry.revision)
    if revision is None or revision.phase in (RevisionPhase.FAILED, RevisionPhase.RETIRING):
        return Step.LOAD
    if revision.rests:
        return Step.POINT if entry.request.tier is not Tier.HOT and not speaks(voice) else Step.LOAD
    return Step.POINT if revision.phase is RevisionPhase.READY else Step.WAIT
