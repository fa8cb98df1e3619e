"""One snapshot at one moment, with the questions that every phase asks of it.

Separate from the snapshot because the snapshot is what was gathered and this is what follows from it: who belongs to
the rollout, which revision is wanted, what there is to go back to. Nothing here decides.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from segue.model.revision import source_of
from segue.model.spec import Tier, VoiceSpec
from segue.model.status import FailedRevision, HistoryEntry, RevisionSource, RolloutStatus, Status
from segue.model.voice import VoiceModel
from segue.rollout.snapshot import PodView, Snapshot
from segue.rollout.terms import failure_key


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A snapshot whose voice exists.

    Attributes
    ----------
    wanted
        What the spec asks for now.
    """

    snapshot: Snapshot
    voice: VoiceModel
    wanted: RevisionSource
    now: datetime

    @property
    def spec(self) -> VoiceSpec:
        """What a person asks for."""
        return self.voice.spec

    @property
    def status(self) -> Status:
        """What was persisted last."""
        return self.snapshot.status

    @property
    def rollout(self) -> RolloutStatus:
        """The open rollout; only asked for in phases that have one."""
        assert self.status.rollout is not None, f"phase {self.status.phase} without a rollout"
        return self.status.rollout

    @property
    def target(self) -> str:
        """The revision that is rolled out."""
        return self.rollout.source.revision

    @property
    def stable(self) -> HistoryEntry | None:
        """The last confirmed revision."""
        return self.status.history[0] if self.status.history else None

    @property
    def stable_revision(self) -> str | None:
        """Its name."""
        return self.stable.revision if self.stable else None

    @property
    def previous(self) -> HistoryEntry | None:
        """What was stable before, while it is kept warm: the way back after the watch."""
        switch = self.status.last_switch
        if len(self.status.history) < 2 or switch is None or switch.to_revision != self.status.history[0].revision:
            return None
        before = self.status.history[1]
        warm = self.now < switch.at + self.spec.rollback.keep_warm
        return before if warm and before.revision == switch.from_revision else None

    @property
    def pods(self) -> tuple[PodView, ...]:
        """Pods that can be commanded now."""
        return tuple(pod for pod in self.snapshot.pods if pod.in_reach and not pod.terminating)

    @property
    def failure(self) -> FailedRevision | None:
        """The memory that forbids the wanted revision, if there is one."""
        key = failure_key(self.spec, self.wanted.revision)
        return next((each for each in self.status.failed_revisions if each.key == key), None)

    def source(self, revision: str) -> RevisionSource | None:
        """Where a revision comes from, for those that may still be needed."""
        rollout = self.status.rollout
        known: list[RevisionSource] = [*self.status.history, self.wanted]
        if rollout is not None:
            known.insert(0, rollout.source)
        return next((each for each in known if each.revision == revision), None)


def look(snapshot: Snapshot, now: datetime) -> View | None:
    """The view of a snapshot, None when the voice is gone.

    Raises
    ------
    InvalidVoiceModel
        A file has no digest.
    """
    if snapshot.voice is None:
        return None
    return View(snapshot=snapshot, voice=snapshot.voice, wanted=source_of(snapshot.voice.spec), now=now)


def cohort(view: View, started_at: datetime) -> tuple[PodView, ...]:
    """The pods that a rollout waits for, in the order of its waves.

    Pods that were ready when it began; a pod that stopped being ready since then still belongs to it, so that a version
    that kills pods is noticed. When all of those are gone (a Deployment was replaced meanwhile), those that are there.
    """
    present = [pod for pod in view.snapshot.pods if not pod.terminating]
    old = [pod for pod in present if pod.created_at <= started_at and _was_ready(pod, started_at)]
    pods = sorted(old or [pod for pod in present if pod.ready], key=_order)
    resident = [pod for pod in pods if is_resident(view, pod)]
    return tuple(resident) or tuple(pods[: view.spec.rollout.preload_waves[0].at_least(len(pods))])


def is_resident(view: View, pod: PodView) -> bool:
    """Whether the voice lives on the pod. Hot voices live on all; others where somebody has asked for them lately."""
    return view.spec.residency.tier is Tier.HOT or not pod.sleeps


def is_redirectable(view: View, pod: PodView) -> bool:
    """Whether another revision can be made active by saying so: the next request loads it, nobody hears the voice."""
    undisturbed = pod.pointer.candidate is None and pod.watching is None and pod.armed is None
    return not is_resident(view, pod) and undisturbed


def wave_sizes(view: View, total: int) -> tuple[int, ...]:
    """How many pods each wave reaches, counted from the first; rises to `total`."""
    sizes: list[int] = []
    for wave in (*(wave.at_least(total) for wave in view.spec.rollout.preload_waves), total):
        if not sizes or wave > sizes[-1]:
            sizes.append(wave)
    return tuple(sizes)


def _was_ready(pod: PodView, started_at: datetime) -> bool:
    return pod.ready or (pod.ready_since is not None and pod.ready_since > started_at)


def _order(pod: PodView) -> bytes:
    """Spreads waves over nodes and zones: uids are random, their order of creation is not."""
    return hashlib.blake2b(pod.uid.encode(), digest_size=8).digest()
