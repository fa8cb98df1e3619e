"""What operator and sidecar say to each other over the control API.

Separate from the domain types because these cross a process boundary and a version boundary: an operator one version
ahead of a sidecar, or one behind, must still understand it. So unknown fields are ignored, new ones have defaults and
say since which version they are there, values of an enum that only a newer sidecar says are read as the nearest known
one, and nothing is ever renamed. A sidecar obeys clients from one version behind it to one ahead (`understands`);
others get `UnsupportedWire`. What version 1 said is recorded in `tests/contract/wire/recorded`.

Headers on every call: `Segue-Wire` (version), `Segue-Pod` (uid of the pod that is meant; another one answers 421).
Reads carry `Segue-Term` (the leader's term: contact for the dead-man rule); every mutating call carries `Segue-Fence`
(`term.sequence`) and `Segue-Voice-Uid`. A lower fence than the highest seen for the voice gets 409 and changes nothing.

Times: `*_ns` are CLOCK_REALTIME nanoseconds of the sidecar unless the name says monotonic; `*_s` are seconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel
from typing_extensions import override

WIRE_VERSION = 2
"""2 added `Segue-Now`, `GET /v1/state?voice=`, what became of an armed flip, lateness, the desired set, shared models,
and that a request which comes in behind a long-poll, on the same connection, ends its wait."""

HEADER_WIRE = "Segue-Wire"
HEADER_POD = "Segue-Pod"
HEADER_TERM = "Segue-Term"
HEADER_FENCE = "Segue-Fence"
HEADER_VOICE_UID = "Segue-Voice-Uid"
HEADER_NOW = "Segue-Now"
"""On every answer: CLOCK_REALTIME nanoseconds of the sidecar as it began to answer. Since version 2."""

WEIGHT_WHOLE = 10_000
"""A canary weight of 10,000 basis points is everything."""

BUCKET_S = 10
"""Length of one bucket of `WindowsDocument`."""

_HEX64 = r"^[0-9a-f]{64}$"
Revision = Annotated[str, StringConstraints(pattern=_HEX64)]
"""sha256 over the versioned projection of a spec, lower-case hex; people see the first ten digits."""

Digest = Annotated[str, StringConstraints(pattern=_HEX64)]

FENCE_PATTERN = r"^[0-9]{1,18}\.[0-9]{1,18}$"
_FENCE = re.compile(r"([0-9]{1,18})\.([0-9]{1,18})")


@dataclass(frozen=True, slots=True, order=True)
class Fence:
    """Orders all commands of all leaders: by term, then by the leader's own counter."""

    term: int
    sequence: int

    @override
    def __str__(self) -> str:
        return f"{self.term}.{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> Fence:
        """Read `term.sequence`; raises `ValueError` naming the text."""
        match = _FENCE.fullmatch(text)
        if match is None:
            raise ValueError(f"a fence is TERM.SEQUENCE, two whole numbers, not {text!r}")
        return cls(int(match[1]), int(match[2]))


def understands(version: int) -> bool:
    """Whether we and a peer of this version understand each other."""
    return WIRE_VERSION - 1 <= version <= WIRE_VERSION + 1


def _else(fallback: StrEnum) -> BeforeValidator:
    """In what a sidecar says: a value of a newer version is read as this one, which claims the least."""
    known = {member.value for member in type(fallback)}

    def read(value: object) -> object:
        return fallback if isinstance(value, str) and value not in known else value

    return BeforeValidator(read)


class WireModel(BaseModel):
    """Base of all wire types: camelCase outside, frozen inside, unknown fields ignored (see module docstring)."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")


# --- having a revision resident -------------------------------------------------------------------------------------


class FileSource(WireModel):
    """One file of a revision."""

    uri: str = Field(description="file:, s3:, gs:, http(s): or hf: URI.", max_length=2048)
    sha256: Digest
    size_bytes: int | None = Field(default=None, ge=0, description="Expected size, where the source states it.")


class ReferenceSource(FileSource):
    """The reference recording, with what is said in it."""

    text: str = Field(default="", max_length=10_000)
    language: str = Field(default="en", max_length=35)


class ProbeCase(WireModel):
    """One sentence to prove a revision on."""

    text: str = Field(min_length=1, max_length=2000)
    language: str = Field(default="en", max_length=35)


class ContinuityLimits(WireModel):
    """How far a new revision may be from the active one before it is held (absent: not limited)."""

    max_loudness_delta_lu: float | None = Field(default=None, gt=0)
    max_pitch_delta_st: float | None = Field(default=None, gt=0)
    max_pace_delta: float | None = Field(default=None, gt=0, description="Fraction: 0.1 is 10 %.")


class ProbeTerms(WireModel):
    """What a revision must show. `key` identifies the terms: a report made under another key proves nothing."""

    key: str = Field(max_length=64)
    cases: tuple[ProbeCase, ...] = Field(default=(), max_length=64, description="Empty: the built-in set.")
    seeds: int = Field(default=3, ge=1, le=16)
    min_similarity: float | None = Field(default=0.9, ge=0, le=1, description="None: calibrated value of the voice.")
    min_pass_ratio: float = Field(default=0.99, ge=0, le=1)
    max_text_error_rate: float = Field(default=0.3, ge=0, le=1)
    continuity: ContinuityLimits = ContinuityLimits()


class SignatureDemand(WireModel):
    """Whether a signed bundle manifest must vouch for the files. The keys are the fleet's, never the voice's."""

    required: bool = False
    uri: str | None = Field(
        default=None, max_length=2048, description="Manifest; default: bundle.json beside the files."
    )


class Tier(StrEnum):
    """Where a voice lives while nobody speaks with it."""

    HOT = "hot"
    WARM = "warm"
    COLD = "cold"


class RevisionRequest(WireModel):
    """Body of `PUT /v1/voices/{ns}/{name}/revisions/{rev}`: have it resident as a shadow."""

    engine: str = Field(max_length=63)
    options: dict[str, Any] = Field(default_factory=dict)
    weights: dict[str, FileSource] = Field(min_length=1, max_length=16)
    reference: ReferenceSource | None = None
    signature: SignatureDemand = SignatureDemand()
    tier: Tier = Tier.HOT
    resident: bool = Field(
        default=True,
        description="False, for a voice that is not hot: remember the revision, and load it when somebody asks for "
        "the voice. Since version 2.",
    )


class RevisionPhase(StrEnum):
    """Where a revision stands in one pod."""

    QUEUED = "Queued"  # waits for room or for its turn; `reason` says which
    FETCHING = "Fetching"
    VERIFYING = "Verifying"  # digests, signature
    PREPARING = "Preparing"  # unpickle, fold, pack, lay into arenas
    PROVING = "Proving"  # a prover child builds, warms up and speaks
    OFFERING = "Offering"  # waits for every serving worker to answer ready
    READY = "Ready"  # may be stored in a word
    FAILED = "Failed"
    RETIRING = "Retiring"  # workers are letting go; memory is not free yet
    WARM = "Warm"  # prepared, in memory, not in the workers; offered to them by the first request. Since version 2
    COLD = "Cold"  # on disk, prepared or as its source; brought up by the first request. Since version 2


RESTING = frozenset({RevisionPhase.WARM, RevisionPhase.COLD})
"""Phases of a revision that a word names without anybody having it ready: its first request brings it up."""


class Progress(WireModel):
    """How far a phase is. Coarse on purpose (5 % steps), so that a state long-poll does not spin."""

    done_bytes: int = Field(default=0, ge=0)
    total_bytes: int = Field(default=0, ge=0)
    fraction: float = Field(default=0.0, ge=0, le=1)


class PartState(WireModel):
    """One arena of a revision; the same digest in two revisions is the same memory."""

    name: str
    digest: str
    size_bytes: int = Field(ge=0)
    shared: bool = Field(
        default=False, description="A model that all voices of the engine share: no revision's own. Since version 2."
    )


class ProbeKind(StrEnum):
    """How much of the verification a probe runs."""

    FULL = "full"
    SENTENCE = "sentence"


class ProbePhase(StrEnum):
    """Where a probe stands."""

    RUNNING = "Running"
    PASSED = "Passed"
    FAILED = "Failed"
    ERROR = "Error"  # the prover itself could not run; says nothing about the revision


class Gate(WireModel):
    """One figure against its limit."""

    name: str = Field(
        description="similarity, textMatch, duration, loops, silence, clipping, bandwidth, finite, cap, …"
    )
    passed: bool | None = Field(description="None: not measured.")
    figure: float | None = None
    limit: float | None = None
    unit: str = ""
    message: str = ""


class ProbeReport(WireModel):
    """What a probe found. `details` (per case and seed) only in `GET …/revisions/{rev}/report`."""

    key: str = Field(description="ProbeTerms.key that it was made under.")
    kind: Annotated[ProbeKind, _else(ProbeKind.SENTENCE)]
    phase: Annotated[ProbePhase, _else(ProbePhase.RUNNING)]
    done: int = Field(default=0, ge=0)
    total: int = Field(default=0, ge=0)
    engine_build: str = ""
    device_class: str = ""
    baseline: Revision | None = None
    similarity: float | None = None
    pass_ratio: float | None = None
    gates: tuple[Gate, ...] = ()
    continuity: tuple[Gate, ...] = Field(default=(), description="passed=False: drifted; held, not refused.")
    reasons: tuple[str, ...] = ()
    finished_ns: int | None = None
    details: dict[str, Any] | None = None


class RevisionState(WireModel):
    """One revision of one voice in one pod."""

    revision: Revision
    phase: Annotated[RevisionPhase, _else(RevisionPhase.QUEUED)]
    reason: str = Field(default="", description="CamelCase, for machines: PoolFull, DigestMismatch, UnsafePickle, …")
    message: str = Field(default="", description="For people, with figures.")
    progress: Progress = Progress()
    handle: int | None = Field(default=None, ge=1, le=65_535)
    parts: tuple[PartState, ...] = ()
    report: ProbeReport | None = Field(default=None, description="The latest full report, else the latest sentence.")
    since_ns: int = 0
    tier: Annotated[Tier | None, _else(Tier.HOT)] = Field(
        default=None, description="As it was asked for last. Since version 2."
    )
    stored: bool = Field(default=False, description="Its parts lie on disk, prepared. Since version 2.")


# --- the pointer ----------------------------------------------------------------------------------------------------


class CanaryMode(StrEnum):
    """What a candidate gets: a share of the listeners, or copies whose answers are thrown away."""

    SPLIT = "split"
    MIRROR = "mirror"


class Consistency(StrEnum):
    """What keeps one version: a listener's session, or each request by itself."""

    SESSION = "session"
    UTTERANCE = "utterance"


class Pointer(WireModel):
    """What one slot says, in revisions instead of handles."""

    active: Revision | None = None
    candidate: Revision | None = None
    mode: Annotated[CanaryMode, _else(CanaryMode.MIRROR)] = CanaryMode.SPLIT
    weight: int = Field(default=0, ge=0, le=WEIGHT_WHOLE)
    epoch: int = Field(default=0, ge=0, le=65_535)


class Expected(WireModel):
    """Compare-and-set: the store is refused (409 Conflict) unless the slot says this."""

    active: Revision | None = None
    candidate: Revision | None = None


class WatchTerms(WireModel):
    """Handed over with a flip, so that the sidecar can go back by itself when the operator is out of reach."""

    previous: Revision
    max_error_rate: float = Field(gt=0, le=1)
    sustained_for_s: float = Field(gt=0)
    min_requests: int = Field(ge=1)
    min_errors: int = Field(ge=1)


class PointerRequest(WireModel):
    """Body of `PUT /v1/voices/{ns}/{name}/pointer`: the flip."""

    active: Revision | None = None
    candidate: Revision | None = None
    mode: CanaryMode = CanaryMode.SPLIT
    weight: int = Field(default=0, ge=0, le=WEIGHT_WHOLE)
    consistency: Consistency = Consistency.SESSION
    expected: Expected | None = None
    at_ns: int | None = Field(default=None, description="Store at this time of the sidecar's clock; None: now.")
    watch: WatchTerms | None = Field(
        default=None, description="Opens a watch; previous is also what the shield uses. None: closes an open one."
    )
    withdrawn: Revision | None = Field(default=None, description="The revision that this store takes back.")


def _readable(value: object) -> object:
    """An armed request of a newer operator, told by its sidecar: shown as far as this version knows it."""
    if not isinstance(value, dict):
        return value
    nearest = {"mode": CanaryMode.MIRROR, "consistency": Consistency.SESSION}
    unknown = {key: each for key, each in nearest.items() if key in value and value[key] not in set(type(each))}
    return {**value, **unknown}


class PointerResult(WireModel):
    """Answer to a flip. `armed` when `at` lies ahead; then the times are None until it was stored."""

    pointer: Pointer
    armed_at_ns: int | None = None
    received_monotonic_ns: int | None = None
    stored_monotonic_ns: int | None = None
    late_ms: float | None = Field(
        default=None,
        description="How long after `atNs` it was stored, where that was past on arrival. Since version 2.",
    )


class ArmedOutcome(WireModel):
    """What became of the latest armed flip: stored, with its lateness, or dropped, with the reason. Since version 2."""

    fence: str = Field(description="Of the command that armed it.")
    at_ns: int
    stored_ns: int | None = None
    late_ms: float | None = Field(default=None, description="From `atNs` to the store.")
    reason: str = Field(default="", description="Why it was dropped: Conflict, NotReady, JournalError, …")
    message: str = ""


class SelfReverted(WireModel):
    """The dead-man rule acted. Sticky until the operator's next pointer command for the voice."""

    from_revision: Revision
    to_revision: Revision
    at_ns: int
    requests: int = Field(ge=0)
    errors: int = Field(ge=0)
    message: str = ""


class WatchState(WireModel):
    """An open watch."""

    previous: Revision
    revision: Revision
    since_ns: int
    terms: WatchTerms


class VoiceState(WireModel):
    """One voice in one pod."""

    uid: str
    fence: str = Field(description="Highest fence seen, TERM.SEQUENCE.")
    slot: int | None = Field(default=None, ge=0)
    pointer: Pointer = Pointer()
    revisions: dict[str, RevisionState] = Field(default_factory=dict)
    watch: WatchState | None = None
    armed: Annotated[PointerRequest | None, BeforeValidator(_readable)] = None
    armed_outcome: ArmedOutcome | None = Field(
        default=None, description="Of the latest armed flip, until the next pointer command. Since version 2."
    )
    self_reverted: SelfReverted | None = None
    withdrawn: Revision | None = Field(
        default=None,
        description="PointerRequest.withdrawn of the latest pointer command, journalled: a leader that dies between "
        "taking a revision back and writing its status must not flip to it again.",
    )


# --- the pod --------------------------------------------------------------------------------------------------------


class PodIdentity(WireModel):
    """Who answers."""

    uid: str
    name: str = ""
    namespace: str = "default"
    fleet: str = "default"
    started_ns: int = 0
    build: str = Field(default="", description="Version of the sidecar.")
    engine_builds: dict[str, str] = Field(default_factory=dict, description="Engine name to build id.")
    device_class: str = "cpu"


class WorkerState(WireModel):
    """One server worker, as the sidecar sees it."""

    id: str
    pid: int
    phase: str = Field(description="joining, serving, stuck.")


class PoolState(WireModel):
    """Arena memory. `used_bytes` counts what is not proven free, retired or not. Rounded to MiB in the state."""

    budget_bytes: int = 0
    used_bytes: int = 0
    spare_bytes: int = 0
    peak_bytes: int = 0


class ModelsPhase(StrEnum):
    """Where the shared models of an engine stand in one pod."""

    WAITING = "Waiting"  # for its turn, or to be taken over after a restart
    FETCHING = "Fetching"
    PREPARING = "Preparing"
    VERIFYING = "Verifying"
    READY = "Ready"
    FAILED = "Failed"  # tried again after a pause, and when the files change


class ModelsState(WireModel):
    """Models that all voices of one engine share, as far as the pod has them. Since version 2."""

    phase: Annotated[ModelsPhase, _else(ModelsPhase.WAITING)]
    reason: str = ""
    message: str = Field(default="", description="For people, with figures.")
    source: str = Field(default="", description="Where they come from.")
    progress: Progress = Progress()
    parts: tuple[PartState, ...] = Field(default=(), description="By name; the bytes are in no revision's sum.")
    absent: dict[str, str] = Field(
        default_factory=dict, description="Model to what is missing where, and what does not work without it."
    )
    since_ns: int = 0


class SidecarEvent(WireModel):
    """Something worth a line in `describe`: an adoption, a refusal, a self-revert, a worker that got stuck."""

    id: int
    at_ns: int
    kind: str = Field(description="Normal or Warning.")
    reason: str
    message: str
    voice: str | None = Field(default=None, description="namespace/name")


class DesiredProblem(WireModel):
    """A file or an entry of the desired set that this pod cannot follow."""

    source: str = Field(description="File, or namespace/name of the voice.")
    reason: str
    message: str


class DesiredState(WireModel):
    """What the pod makes of the desired set that it mounts. Since version 2."""

    entries: int = Field(default=0, ge=0)
    missing: tuple[str, ...] = Field(
        default=(), description="Voices that it should speak and does not yet; at most 50."
    )
    problems: tuple[DesiredProblem, ...] = Field(default=(), description="At most 50.")


class StateDocument(WireModel):
    """Answer to `GET /v1/state`. Holds no counts, so its ETag rests while nothing happens."""

    wire: int = WIRE_VERSION
    etag: str = ""
    now_ns: int = Field(default=0, description="The sidecar's clock when it answered; not part of the ETag.")
    pod: PodIdentity
    voices: dict[str, VoiceState] = Field(default_factory=dict, description="Key: namespace/name.")
    workers: tuple[WorkerState, ...] = ()
    pool: PoolState = PoolState()
    gpu_pool: PoolState | None = Field(default=None, description="On the device; with gpu-shared. Since version 2.")
    events: tuple[SidecarEvent, ...] = Field(default=(), description="The latest 50.")
    desired: DesiredState | None = Field(default=None, description="None: the pod mounts no desired set.")
    models: dict[str, ModelsState] = Field(
        default_factory=dict, description="By engine: its shared models, where any are configured. Since version 2."
    )


# --- evidence -------------------------------------------------------------------------------------------------------


class Bucket(WireModel):
    """Ten seconds of one revision. Cache hits are in none of these; followers of a failed leader count once."""

    start_s: int = Field(description="Unix seconds, a multiple of 10.")
    successes: int = 0
    errors: dict[str, int] = Field(
        default_factory=dict, description="exception, timeout, empty, silent, nonfinite, capped, died: count."
    )
    shielded: int = Field(default=0, description="Errors that the listener never noticed; counted in errors as well.")
    mirrored: int = Field(default=0, description="Successes and errors that came from copies.")
    latency_ms_sum: float = 0.0

    @property
    def error_count(self) -> int:
        """All errors, of every kind."""
        return sum(self.errors.values())


class RevisionWindows(WireModel):
    """An hour of one revision's buckets, oldest first, empty ones left out."""

    buckets: tuple[Bucket, ...] = ()
    texts: str = Field(default="", description="512-bit linear-counting bitmap of texts served, hex; OR over pods.")


class OthersWindow(WireModel):
    """What all other voices of the pod did in a bucket: tells a bad revision from a dying machine."""

    start_s: int
    requests: int = 0
    errors: int = 0


class WindowsDocument(WireModel):
    """Answer to `GET /v1/windows?voice=ns/name&since=unix_s`."""

    voice: str
    now_s: int
    revisions: dict[str, RevisionWindows] = Field(default_factory=dict)
    others: tuple[OthersWindow, ...] = ()


class ProbeRequest(WireModel):
    """Body of `POST …/revisions/{rev}/probe`. The same key and kind again: the same probe, not another one."""

    kind: ProbeKind
    terms: ProbeTerms
    baseline: Revision | None = Field(default=None, description="Continuity is measured against this one.")


class ErrorBody(WireModel):
    """`{"error": {…}}`: every answer that is no success."""

    class Detail(WireModel):
        """What, and what to do."""

        reason: str
        message: str
        figures: dict[str, Any] = Field(default_factory=dict)

    error: Detail
