"""What a person asks for: `spec` of a `VoiceModel`.

The defaults are the policy of someone who wrote nothing but weights and a reference: verified in full, five in a
hundred listeners first, watched for ten minutes, taken back by itself. Every field has a description, because
`kubectl explain` shows nothing else.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import Field, StrictBool, StrictFloat, StrictInt, StringConstraints, field_validator, model_validator

from segue.model.base import SpecModel, cel
from segue.model.scalars import (
    Amount,
    Duration,
    LoudnessDelta,
    MinSimilarity,
    Option,
    Percent,
    PitchDelta,
    PodAmount,
    Rate,
    Sha256,
    format_duration,
)
from segue.model.window import Window

NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=63)]
"""An RFC 1123 label."""

Language = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$", max_length=35)]
"""A BCP 47 language tag."""

EVIDENCE_KEPT = timedelta(hours=1)
"""Sidecars keep buckets for an hour: no rule may look back further."""


def _between(value: timedelta, low: timedelta, high: timedelta) -> timedelta:
    if not low <= value <= high:
        raise ValueError(f"must be {format_duration(low)} to {format_duration(high)}, not {format_duration(value)}")
    return value


def _duration_rule(name: str, low: str, high: str) -> dict[str, Any]:
    rule = f"duration(self) >= duration('{low}') && duration(self) <= duration('{high}')"
    return cel((rule, f"{name} must be {low} to {high}"))


class Engine(StrEnum):
    """What turns weights and text into sound."""

    DEMO = "demo"
    GPT_SOVITS = "gpt-sovits"


class Source(SpecModel):
    """One file, named by where it is and by what is in it."""

    uri: str = Field(
        description="Where the file is: file:, s3:, gs:, http(s): or hf: URI; with segue up also a path beside the "
        "YAML. Not part of the revision: a moved file changes no voice.",
        min_length=1,
        max_length=2048,
    )
    sha256: Sha256 | None = Field(
        default=None,
        description="Digest of the file, 64 lower-case hex digits. Required in a cluster; segue up computes it for "
        "local files, segue pin writes it down.",
    )


class Reference(Source):
    """A recording of the speaker."""

    text: str | None = Field(default=None, description="What is said in the recording.", max_length=10_000)
    language: Language | None = Field(default=None, description="BCP 47 tag of the recording's language.")


class Case(SpecModel):
    """One sentence to prove a version on."""

    text: str = Field(description="What to say.", min_length=1, max_length=2000)
    language: Language = Field(default="en", description="BCP 47 tag of its language.")


class Signature(SpecModel):
    """Whether a signed manifest must vouch for the files. The keys belong to the fleet, never to a voice."""

    required: StrictBool = Field(default=False, description="Refuse files that no key of the fleet has signed.")
    uri: str | None = Field(
        default=None, description="The signed manifest; default: bundle.json beside the weights.", max_length=2048
    )


class Verification(SpecModel):
    """What a version must show before anybody hears it."""

    cases: tuple[Case, ...] = Field(
        default=(),
        description="Sentences to speak, each with three seeds; empty: a built-in set for the language.",
        max_length=64,
    )
    min_similarity: MinSimilarity = Field(
        default=0.9,
        description='Least speaker similarity of all cases together to the reference, 0 to 1; "auto": the calibrated '
        "value of the voice.",
    )
    min_pass_ratio: StrictFloat = Field(
        default=0.99, description="Least share of cases that pass every per-case gate, 0 to 1.", ge=0, le=1
    )
    max_text_error_rate: StrictFloat = Field(
        default=0.3, description="Highest phone error rate between what was asked and what is heard.", ge=0, le=1
    )
    signature: Signature = Field(default=Signature(), description="Signed provenance of the files.")


class ContinuityAction(StrEnum):
    """What a jump in loudness, pitch or pace leads to."""

    HOLD = "Hold"
    REFUSE = "Refuse"
    REPORT = "Report"


class Continuity(SpecModel):
    """How far a new version may sound from the active one."""

    max_loudness_delta: LoudnessDelta | None = Field(
        default=None, description="Largest difference in integrated loudness, such as 2LU."
    )
    max_pitch_delta: PitchDelta | None = Field(
        default=None, description="Largest difference in median pitch, such as 1st (semitones)."
    )
    max_pace_delta: Percent | None = Field(default=None, description="Largest difference in pace, such as 10%.")
    action: ContinuityAction = Field(
        default=ContinuityAction.HOLD,
        description="Hold: wait for promote. Refuse: roll back. Report: note it and go on.",
    )


class CanaryMode(StrEnum):
    """Who hears a candidate."""

    SPLIT = "Split"
    MIRROR = "Mirror"
    SKIP = "Skip"


class InsufficientTraffic(StrEnum):
    """What to do when too few requests came to judge by."""

    TOP_UP = "TopUp"
    HOLD = "Hold"
    PROCEED = "Proceed"


class Canary(SpecModel):
    """A part of the listeners first."""

    mode: CanaryMode = Field(
        default=CanaryMode.SPLIT,
        description="Split: a share of the listeners hears the candidate. Mirror: it gets copies of requests and its "
        "answers are thrown away. Skip: no canary.",
    )
    steps: tuple[Percent, ...] = Field(
        default=(0.05,),
        description="Shares of the listeners (or of the requests that are copied), one after the other, rising.",
        min_length=1,
        max_length=10,
    )
    successes: StrictInt = Field(
        default=100,
        description="Consecutive successes that a step needs. 100 only bound the error rate at about 3 % (rule of "
        "three, 95 %); 1,000 bound it at 0.3 %.",
        ge=1,
        le=1_000_000,
    )
    max_error_rate: Rate = Field(default=0.001, description="Error rate over which the candidate fails, 0.001 = 0.1 %.")
    max_errors: StrictInt = Field(
        default=3, description="Fewer errors than this never fail a candidate.", ge=1, le=100_000
    )
    timeout: Duration = Field(
        default=timedelta(minutes=30),
        description="How long a step waits for its successes before insufficientTraffic decides.",
        json_schema_extra=_duration_rule("timeout", "1s", "168h"),
    )
    insufficient_traffic: InsufficientTraffic = Field(
        default=InsufficientTraffic.TOP_UP,
        description="At the timeout: TopUp with verification sentences, Hold until promote, or Proceed.",
    )

    @field_validator("timeout")
    @classmethod
    def _timeout_in_bounds(cls, value: timedelta) -> timedelta:
        return _between(value, timedelta(seconds=1), timedelta(hours=168))

    @field_validator("steps")
    @classmethod
    def _steps_rise(cls, steps: tuple[float, ...]) -> tuple[float, ...]:
        if list(steps) != sorted(set(steps)) or 0 in steps:
            raise ValueError("must rise and be over 0%: 5% before 25%")
        return steps


class Consistency(StrEnum):
    """What keeps one version while two are live."""

    SESSION = "session"
    UTTERANCE = "utterance"


class Approval(StrEnum):
    """Who lets a verified version out."""

    AUTOMATIC = "Automatic"
    MANUAL = "Manual"


class Rollout(SpecModel):
    """How a version reaches the pods and the listeners."""

    preload_window: Window | None = Field(
        default=None, description="Rollouts begin only in this window; the first version and rollbacks ignore it."
    )
    switch_window: Window | None = Field(
        default=None, description="Listeners begin to change version only in this window; rollbacks ignore it."
    )
    preload_waves: tuple[PodAmount, ...] = Field(
        default=(Amount(1), Amount(25, percent=True), Amount(100, percent=True)),
        description="Pods that load the version, wave by wave: guards against one that kills pods. The first wave "
        "verifies it in full.",
        min_length=1,
        max_length=10,
    )
    canary: Canary = Field(default=Canary(), description="A part of the listeners first.")
    consistency: Consistency = Field(
        default=Consistency.SESSION,
        description="session: a listener changes version at most once. utterance: each request is drawn by itself.",
    )
    approval: Approval = Field(
        default=Approval.AUTOMATIC, description="Manual: wait for promote after the verification."
    )
    together: StrictBool = Field(default=False, description="Flip all pods at one instant.")
    max_failed_pods: PodAmount = Field(
        default=Amount(10, percent=True),
        description="Pods that may fail or be late, rounded down, before the rollout goes back.",
    )
    progress_deadline: Duration = Field(
        default=timedelta(minutes=10),
        description="Longest time without progress. Windows, pause, approval and queues do not count.",
        json_schema_extra=_duration_rule("progressDeadline", "1s", "24h"),
    )
    paused: StrictBool = Field(default=False, description="Begin nothing new; rollbacks still happen.")

    @field_validator("progress_deadline")
    @classmethod
    def _deadline_in_bounds(cls, value: timedelta) -> timedelta:
        return _between(value, timedelta(seconds=1), timedelta(hours=24))

    @field_validator("preload_waves")
    @classmethod
    def _waves_are_not_empty(cls, waves: tuple[Amount, ...]) -> tuple[Amount, ...]:
        if any(wave.number == 0 for wave in waves):
            raise ValueError("must name at least one pod in each wave, not 0")
        return waves


class Query(SpecModel):
    """A Prometheus query whose non-empty result means that the version is bad."""

    name: Name = Field(description="How status and events call it.")
    promql: str = Field(description="The query; an error or NaN is inconclusive.", min_length=1, max_length=4096)


class Watch(SpecModel):
    """How long, and by what, a flipped version is judged on live traffic."""

    duration: Duration = Field(
        default=timedelta(minutes=10),
        description="How long the watch lasts; it is extended until the last sustainedFor is clean.",
        json_schema_extra=_duration_rule("duration", "1s", "168h"),
    )
    max_error_rate: Rate = Field(default=0.01, description="Error rate over which the version goes back, 0.01 = 1 %.")
    sustained_for: Duration = Field(
        default=timedelta(minutes=5),
        description="How long the rate must stay over maxErrorRate; at most 1h.",
        json_schema_extra=_duration_rule("sustainedFor", "1s", "1h"),
    )
    min_requests: StrictInt = Field(default=50, description="Fewer requests are no evidence.", ge=1, le=1_000_000)
    min_errors: StrictInt = Field(default=3, description="Fewer errors never trip.", ge=1, le=1_000_000)
    insufficient_traffic: InsufficientTraffic = Field(
        default=InsufficientTraffic.TOP_UP,
        description="A quiet voice at the end of the watch: TopUp with verification sentences, Hold until promote "
        "(at most an hour), or Proceed.",
    )
    queries: tuple[Query, ...] = Field(default=(), description="Prometheus queries that can fail it.", max_length=16)

    @field_validator("duration")
    @classmethod
    def _duration_in_bounds(cls, value: timedelta) -> timedelta:
        return _between(value, timedelta(seconds=1), timedelta(hours=168))

    @field_validator("sustained_for")
    @classmethod
    def _sustained_in_bounds(cls, value: timedelta) -> timedelta:
        return _between(value, timedelta(seconds=1), EVIDENCE_KEPT)

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.sustained_for > self.duration:
            raise ValueError("sustainedFor must not be longer than duration")
        if self.min_errors > self.min_requests:
            raise ValueError("minErrors must not be more than minRequests")
        names = [query.name for query in self.queries]
        if len(set(names)) != len(names):
            raise ValueError("queries must have names of their own")
        return self


class RollbackMode(StrEnum):
    """What happens to the CR when its version went back."""

    AUTO = "Auto"
    REVERT_SPEC = "RevertSpec"
    STATUS_ONLY = "StatusOnly"


class Rollback(SpecModel):
    """The way back."""

    mode: RollbackMode = Field(
        default=RollbackMode.AUTO,
        description="RevertSpec: write the last good version back into the spec. StatusOnly: never touch the spec. "
        "Auto: RevertSpec, unless Argo CD, Flux, Helm or server-side apply owns the spec.",
    )
    keep_warm: Duration = Field(
        default=timedelta(hours=24),
        description="How long the previous version stays at hand after the watch.",
        json_schema_extra=_duration_rule("keepWarm", "0s", "168h"),
    )

    @field_validator("keep_warm")
    @classmethod
    def _warm_in_bounds(cls, value: timedelta) -> timedelta:
        return _between(value, timedelta(0), timedelta(hours=168))


class Tier(StrEnum):
    """Where a voice lives while nobody speaks with it."""

    HOT = "hot"
    WARM = "warm"
    COLD = "cold"


class Residency(SpecModel):
    """Where the voice is kept."""

    tier: Tier = Field(
        default=Tier.HOT,
        description="hot: in the serving device's memory. warm: prepared, in host memory. cold: on disk, brought up "
        "by the first request.",
    )


class VoiceSpec(SpecModel):
    """What a person asks for."""

    engine: Engine = Field(
        description="What turns weights and text into sound; cannot be changed.",
        json_schema_extra=cel(("self == oldSelf", "engine cannot be changed; make a new VoiceModel")),
    )
    fleet: Name = Field(
        default="default",
        description="The group of pods that serve the voice, as the operator names it; cannot be changed.",
        json_schema_extra=cel(("self == oldSelf", "fleet cannot be changed; make a new VoiceModel")),
    )
    options: dict[str, Option] = Field(
        default={},
        description="Engine options that change the sound, such as language or speed: strings, numbers, booleans.",
        max_length=32,
    )
    weights: dict[Name, Source] = Field(
        description="The files of the version, by the engine's names for them.", min_length=1, max_length=16
    )
    reference: Reference | None = Field(default=None, description="A recording of the speaker.")
    verification: Verification = Field(
        default=Verification(), description="What a version must show before anybody hears it."
    )
    continuity: Continuity = Field(
        default=Continuity(), description="How far a new version may sound from the active one."
    )
    rollout: Rollout = Field(default=Rollout(), description="How a version reaches the pods and the listeners.")
    watch: Watch = Field(default=Watch(), description="How a flipped version is judged on live traffic.")
    rollback: Rollback = Field(default=Rollback(), description="The way back.")
    residency: Residency = Field(default=Residency(), description="Where the voice is kept.")
