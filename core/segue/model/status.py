"""What Segue says about a `VoiceModel`: `status`, intent and deadlines, never a copy of what pods say.

These types cross a process boundary (the API server, or a file beside the folder), so they are pydantic; the rollout
engine reads one and writes the next. Every decision that must survive a crash of the operator is a field here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field, computed_field

from segue.model.base import StatusModel
from segue.model.scalars import Time, short
from segue.model.spec import Reference, Source

HISTORY_KEPT = 5
FAILURES_KEPT = 10
VERIFICATIONS_KEPT = 8


class Phase(StrEnum):
    """Where the voice stands.

    `Idle -> Preloading -> Verifying -> Canary -> Flipping -> Watching -> Idle`; any of them `-> RollingBack -> Idle`.
    """

    IDLE = "Idle"
    PRELOADING = "Preloading"
    VERIFYING = "Verifying"
    CANARY = "Canary"
    FLIPPING = "Flipping"
    WATCHING = "Watching"
    ROLLING_BACK = "RollingBack"


class RevisionSource(StatusModel):
    """All that is needed to have a revision again: what the spec said when it was made."""

    revision: str = Field(description="sha256 over what is heard; people see the first ten digits.")
    weights: dict[str, Source] = Field(description="Its files.")
    reference: Reference | None = Field(default=None, description="Its reference recording.")
    options: dict[str, Any] = Field(default_factory=dict, description="Its engine options.")


class HistoryEntry(RevisionSource):
    """A revision that was confirmed once; the first entry is the stable one."""

    since: Time = Field(description="When it was confirmed.")


class FailedRevision(RevisionSource):
    """A revision that is not tried again under the same terms, except by a new retry token."""

    key: str = Field(description="Hash of revision, verification, canary and watch: what it failed under.")
    reason: str = Field(description="Why, for machines.")
    message: str = Field(default="", description="Why, for people, with figures.")
    at: Time = Field(description="When it failed.")
    reverting: int | None = Field(
        default=None, description="Generation whose spec is (or was) reverted because of it; it is done once."
    )


class VerificationRecord(StatusModel):
    """A full verification that passed: valid for one engine build on one class of device."""

    revision: str = Field(description="What was verified.")
    key: str = Field(description="Hash of the terms it was verified under.")
    engine_build: str = Field(default="", description="Build of the engine.")
    device_class: str = Field(default="", description="Class of device.")
    similarity: float | None = Field(default=None, description="Speaker similarity that was measured.")
    pass_ratio: float | None = Field(default=None, description="Share of cases that passed.")
    drift: str = Field(default="", description="How it differs from the version before, where that is over a limit.")
    at: Time = Field(description="When.")


class RolloutStatus(StatusModel):
    """The open rollout."""

    source: RevisionSource = Field(description="The revision that is rolled out, as the spec had it at the start.")
    key: str = Field(description="Failure key: hash of revision, verification, canary and watch.")
    started_at: Time = Field(description="Pods created later are not waited for.")
    late: int = Field(default=0, ge=0, description="Pods that missed the progress deadline and are not waited for.")
    approved: bool = Field(default=False, description="promote was given after the verification.")
    step: int = Field(default=0, ge=0, description="Index of the canary step.")
    step_started_at: Time | None = Field(default=None, description="When that step began.")
    topping_up: bool = Field(default=False, description="Verification sentences make up for missing requests.")
    probe_round: int = Field(default=0, ge=0, description="How often a probe that could not run was asked for again.")
    flip_at: Time | None = Field(default=None, description="The instant of a together flip.")
    flipped_at: Time | None = Field(default=None, description="When every pod had flipped.")
    progress: int = Field(default=0, ge=0, description="A score that rises while pods get on.")


class RollbackStatus(StatusModel):
    """The open rollback."""

    from_revision: str = Field(description="What is withdrawn.")
    to_revision: str | None = Field(default=None, description="What is served instead.")
    reason: str = Field(description="Why, for machines.")
    message: str = Field(default="", description="Why, for people.")
    failed: bool = Field(description="Whether the withdrawn revision is remembered as failed.")
    started_at: Time = Field(description="When it began.")


class HandledTokens(StatusModel):
    """The last value of each annotation that was acted on: a value acts once."""

    retry: str | None = Field(default=None, description="segue.dev/retry")
    promote: str | None = Field(default=None, description="segue.dev/promote")
    rollback: str | None = Field(default=None, description="segue.dev/rollback")


class PodCounts(StatusModel):
    """Counters, refreshed every 10 s in a rollout and every 5 min when idle."""

    total: int = Field(default=0, description="Pods of the fleet that serve or will serve the voice.")
    ready: int = Field(default=0, description="Of those, ready and in reach.")
    updated: int = Field(default=0, description="Where the active revision is what it should be.")
    loaded: int = Field(default=0, description="Where the target is loaded.")
    verified: int = Field(default=0, description="Where the target was verified.")
    failed: int = Field(default=0, description="Where the target failed or is late.")
    summary: str = Field(default="", description="updated/total, for print columns.")
    at: Time | None = Field(default=None, description="When these were counted.")


class LastSwitch(StatusModel):
    """The latest flip."""

    from_revision: str | None = Field(default=None, description="What was active before.")
    to_revision: str = Field(description="What became active.")
    at: Time = Field(description="When every pod had flipped.")
    pods: int = Field(default=0, description="How many pods.")


class LastRollback(StatusModel):
    """The latest rollback."""

    from_revision: str = Field(description="What was withdrawn.")
    to_revision: str | None = Field(default=None, description="What is served instead.")
    reason: str = Field(description="Why, for machines.")
    message: str = Field(default="", description="Why, for people.")
    at: Time = Field(description="When.")
    reverted: bool = Field(default=False, description="Whether the spec was written back.")


class ConditionStatus(StrEnum):
    """Kubernetes' three values."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(StatusModel):
    """One kstatus-style condition."""

    type: str = Field(
        description="Ready, Reconciling, Stalled, Preloaded, Verified, Promoted or Watched.", max_length=316
    )
    status: ConditionStatus = Field(description="True, False or Unknown.")
    reason: str = Field(description="CamelCase, for machines.", max_length=1024)
    message: str = Field(default="", description="For people.", max_length=32_768)
    last_transition_time: Time = Field(description="When status last changed.")
    observed_generation: int = Field(default=0, description="The generation this was said about.", ge=0)


class Shown(StatusModel):
    """Revisions as people see them: a column of 64 digits helps nobody, and a print column cannot cut."""

    active: str = Field(description="First digits of activeRevision.")
    target: str = Field(description="First digits of targetRevision.")
    stable: str = Field(description="First digits of stableRevision.")


class Status(StatusModel):
    """What Segue says about a voice."""

    observed_generation: int = Field(default=0, description="The generation that was decided about.", ge=0)
    phase: Phase = Field(default=Phase.IDLE, description="Where the voice stands.")
    reason: str = Field(default="", description="Why it stands there, for machines.")
    message: str = Field(default="", description="Why it stands there, or what it waits for, for people.")
    active_revision: str | None = Field(default=None, description="What listeners shall hear.")
    stable_revision: str | None = Field(default=None, description="The last confirmed revision; new pods start on it.")
    target_revision: str | None = Field(default=None, description="What is rolled out.")
    attempt: int = Field(default=0, description="Counts rollouts.", ge=0)
    phase_started_at: Time | None = Field(default=None, description="When this phase began.")
    deadline: Time | None = Field(default=None, description="When lack of progress counts as failure; none: never.")
    rollout: RolloutStatus | None = Field(default=None, description="The open rollout or watch.")
    rollback: RollbackStatus | None = Field(default=None, description="The open rollback.")
    history: tuple[HistoryEntry, ...] = Field(
        default=(), description="Confirmed revisions, latest first.", max_length=HISTORY_KEPT
    )
    failed_revisions: tuple[FailedRevision, ...] = Field(
        default=(), description="Revisions that failed, latest first.", max_length=FAILURES_KEPT
    )
    verifications: tuple[VerificationRecord, ...] = Field(
        default=(), description="Full verifications that passed, latest first.", max_length=VERIFICATIONS_KEPT
    )
    handled_tokens: HandledTokens = Field(default=HandledTokens(), description="Annotations that were acted on.")
    pods: PodCounts = Field(default=PodCounts(), description="Counters.")
    last_switch: LastSwitch | None = Field(default=None, description="The latest flip.")
    last_rollback: LastRollback | None = Field(default=None, description="The latest rollback.")
    conditions: tuple[Condition, ...] = Field(
        default=(),
        description="kstatus conditions.",
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )

    @computed_field(description="Revisions as people see them, for print columns.")  # type: ignore[prop-decorator]
    @property
    def shown(self) -> Shown:
        """Derived whenever the status is written, never read back."""
        return Shown(
            active=short(self.active_revision), target=short(self.target_revision), stable=short(self.stable_revision)
        )

    def condition(self, kind: str) -> Condition | None:
        """The condition of that type, if it was ever set."""
        return next((each for each in self.conditions if each.type == kind), None)
