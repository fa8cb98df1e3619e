"""All that the rollout engine may look at: one voice, its pods, what was seen, gathered at one moment.

Separate from the wire types because those follow the sidecar's API and its versions; the engine reasons about these.
`observe.py` makes one from the other. Times are the operator's clock, in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from segue.model.status import Status
from segue.model.voice import VoiceModel
from segue.wire import RESTING, CanaryMode, ProbeReport, RevisionPhase, Tier


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Some seconds of one revision on one pod; cache hits are in none of these.

    Attributes
    ----------
    start_s
        Unix seconds in the operator's clock.
    mirrored
        Of successes and errors, those that came from copies.
    """

    start_s: float
    successes: int = 0
    errors: int = 0
    mirrored: int = 0

    @property
    def requests(self) -> int:
        """Successes and errors."""
        return self.successes + self.errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """What one pod counted in the last hour.

    Attributes
    ----------
    revisions
        Buckets by revision, oldest first.
    others
        All other voices of the pod together.
    texts
        Per revision the linear-counting bitmap of texts, as a number.
    """

    revisions: Mapping[str, tuple[Bucket, ...]] = field(default_factory=dict)
    others: tuple[Bucket, ...] = ()
    texts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PointerView:
    """What the word of the voice says on a pod."""

    active: str | None = None
    candidate: str | None = None
    mode: CanaryMode = CanaryMode.SPLIT
    weight: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionView:
    """One revision on one pod."""

    revision: str
    phase: RevisionPhase
    reason: str = ""
    message: str = ""
    fraction: float = 0.0
    report: ProbeReport | None = None
    tier: Tier | None = None

    @property
    def rests(self) -> bool:
        """Whether the pod knows it and does not have it ready: a request for the voice, or a command, brings it up."""
        return self.phase in RESTING

    @property
    def ready(self) -> bool:
        """Whether a word may name it."""
        return self.phase is RevisionPhase.READY

    @property
    def failed(self) -> bool:
        """Whether the pod gave up on it."""
        return self.phase is RevisionPhase.FAILED


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfRevertView:
    """The pod's dead-man rule went back by itself."""

    from_revision: str
    to_revision: str
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodView:
    """One pod of the fleet, as seen by Kubernetes (or the folder adapter) and as its sidecar describes itself.

    Attributes
    ----------
    ready_since
        When readiness last changed, either way.
    in_reach
        The sidecar answered, and its answer is not older than our last command to it. Nothing below `in_reach` is
        trusted otherwise, and no command is sent.
    watching
        `(previous, revision)` of an open watch.
    armed
        The revision that an armed flip would make active.
    withdrawn
        The revision that the latest pointer command took back; outlives the leader's crash before its status write.
    windows
        None: not asked for (see `needs.evidence`).
    """

    uid: str
    name: str
    created_at: datetime
    ready: bool = True
    ready_since: datetime | None = None
    terminating: bool = False
    in_reach: bool = True
    engine_build: str = ""
    device_class: str = "cpu"
    pointer: PointerView = PointerView()
    revisions: Mapping[str, RevisionView] = field(default_factory=dict)
    watching: tuple[str, str] | None = None
    armed: str | None = None
    self_reverted: SelfRevertView | None = None
    withdrawn: str | None = None
    windows: Windows | None = None

    @property
    def sleeps(self) -> bool:
        """Whether nobody has the voice ready here, and nobody loads it: a request would bring it up first."""
        return all(each.rests or each.phase is RevisionPhase.RETIRING for each in self.revisions.values())

    def has_ready(self, revision: str | None) -> bool:
        """Whether a word on this pod may name the revision."""
        view = self.revisions.get(revision) if revision is not None else None
        return view is not None and view.ready


class Verdict(StrEnum):
    """What a query says."""

    PASSING = "Passing"
    FAILING = "Failing"
    INCONCLUSIVE = "Inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryResult:
    """One of `watch.queries`, evaluated."""

    name: str
    verdict: Verdict
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A firing alert. It counts only with the labels `segue_namespace` and `segue_voice` of this voice."""

    name: str
    labels: Mapping[str, str]
    starts_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """Rollouts of the fleet that hold a slot: `maxConcurrentRollouts`.

    Attributes
    ----------
    taken
        By other voices. Whoever builds the snapshot reserves atomically: two voices must not both see the last one.
    ahead
        Voices that have waited longer than this one.
    """

    taken: int = 0
    limit: int = 10
    ahead: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One voice at one moment.

    Attributes
    ----------
    voice
        As read now; None after a direct GET said 404 or another uid, never because a list lacks it.
    status
        `voice.status`; apart because the folder adapter keeps it elsewhere.
    owner
        What would fight a revert of the spec ("Argo CD", "server-side apply by flux"), None if nothing; see
        `ownership.spec_owner`.
    """

    voice: VoiceModel | None
    status: Status
    pods: tuple[PodView, ...] = ()
    slots: Slots = Slots()
    owner: str | None = None
    alerts: tuple[Alert, ...] = ()
    queries: tuple[QueryResult, ...] = ()
