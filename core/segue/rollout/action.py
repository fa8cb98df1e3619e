"""What the rollout engine decides, as data.

An action is carried out in the order of its fields: commands to pods first, then the revert, then the status write
(with the resourceVersion of the snapshot), then the events. The one exception to "effects first" is the commit point,
and it needs no exception here: the action that persists `Flipping` has no commands.

Whoever carries it out drops everything and observes again after a conflict, and needs to remember nothing: commands are
idempotent, and no status ever assumes that the commands beside it succeeded.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from segue.model.status import RevisionSource, Status
from segue.wire import CanaryMode, Consistency, Expected, ProbeKind, ProbeTerms, WatchTerms


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsureRevision:
    """Have the revision resident as a shadow (`PUT …/revisions/{rev}`). `pods` are uids, here and below.

    Attributes
    ----------
    resident
        False: known is enough, its first request loads it.
    """

    pods: tuple[str, ...]
    source: RevisionSource
    resident: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProbe:
    """Prove a resident revision (`POST …/revisions/{rev}/probe`)."""

    pods: tuple[str, ...]
    revision: str
    kind: ProbeKind
    terms: ProbeTerms
    baseline: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPointer:
    """Store a word (`PUT …/pointer`).

    Attributes
    ----------
    weight
        Basis points of the candidate.
    at
        Instant of a together flip in the operator's clock; None: on arrival.
    withdrawn
        The revision that is taken back by this; the pod remembers it until the next pointer command.
    """

    pods: tuple[str, ...]
    active: str | None
    candidate: str | None = None
    mode: CanaryMode = CanaryMode.SPLIT
    weight: int = 0
    consistency: Consistency = Consistency.SESSION
    expected: Expected | None = None
    at: datetime | None = None
    watch: WatchTerms | None = None
    withdrawn: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmWatch:
    """Close the watch (`POST …/confirm`)."""

    pods: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DropRevision:
    """Let a revision go (`DELETE …/revisions/{rev}`)."""

    pods: tuple[str, ...]
    revision: str


Command = EnsureRevision | RunProbe | SetPointer | ConfirmWatch | DropRevision


@dataclass(frozen=True, slots=True, kw_only=True)
class RevertSpec:
    """Write the last good version back into the spec, whole subtrees, only while `generation` stands.

    The writer tests uid and resourceVersion of the snapshot in the same patch.
    """

    generation: int
    failed: str
    to: RevisionSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A line for people: a Kubernetes Event, or the log of `segue up`. Published after the status was written."""

    reason: str
    message: str
    warning: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One decision.

    Attributes
    ----------
    requeue_after
        Look again after this long even if nothing changes; None: only a change matters.
    """

    commands: tuple[Command, ...] = ()
    revert: RevertSpec | None = None
    status: Status | None = None
    events: tuple[Event, ...] = ()
    requeue_after: timedelta | None = None

    @property
    def waits(self) -> bool:
        """Whether there is nothing to do now but to look again later."""
        return not (self.commands or self.revert or self.status or self.events)
