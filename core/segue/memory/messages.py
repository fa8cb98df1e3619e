"""What sidecar and workers say to each other on the hand-off socket.

Separate from the socket because both sides and their tests build these without one. One message is one SOCK_SEQPACKET
datagram of at most 16 KiB JSON; large things (offset tables, weights) travel as file descriptors. The order of the
descriptors is part of each message's contract and stands in its docstring.

A worker's life: `Hello`, one `Holding` per revision that it still maps; then the sidecar answers `Page`, a `Voice` per
slot and an `Offer` per revision that it must be able to speak with; the worker answers each with `Ready` or `Failed`;
then `Serve`. Everything the sidecar sends is idempotent: saying it again changes nothing.

Unknown fields are ignored; unknown kinds are an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError
from typing_extensions import override

from segue.errors import HandoffError
from segue.memory.mode import MemoryMode
from segue.memory.page import MAX_HANDLE, SLOTS

PROTOCOL_VERSION = 1
MAX_MESSAGE_BYTES = 16 * 1024
MAX_FDS = 32
"""Descriptors in one message; more parts than this no revision has (half as many in a device's memory)."""

MAX_HOLDINGS = 4_096
"""Revisions that one worker can give back."""

Handle = Annotated[int, Field(ge=1, le=MAX_HANDLE)]
Slot = Annotated[int, Field(ge=0, lt=SLOTS)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Label = Annotated[str, StringConstraints(min_length=1, max_length=253)]
Line = Annotated[str, StringConstraints(max_length=2000)]


class Consistency(StrEnum):
    """What keeps one version while a canary is open: a listener, or each request by itself."""

    SESSION = "session"
    UTTERANCE = "utterance"


@dataclass(frozen=True, slots=True, order=True)
class VoiceName:
    """A voice of a namespace; written `namespace/name`."""

    namespace: Label
    name: Label

    @override
    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRef:
    """One arena: its name in the revision, the digest of its content, its size."""

    name: Label
    digest: Sha256
    size_bytes: Annotated[int, Field(ge=1, le=1 << 46)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionRef:
    """One revision as workers know it.

    Attributes
    ----------
    voice, slot, handle
        Whose it is, the voice's slot in the pointer page, the revision's handle in the words.
    revision
        sha256 of the revision, as responses name it.
    engine, build_id, options, language
        What `Engine.build` and requests need; `build_id` is the engine build that prepared the parts.
    parts
        In the order of the descriptors that come along.
    memory
        What kind of memory those describe; each part has `memory.descriptors` of them.
    """

    voice: VoiceName
    slot: Slot
    handle: Handle
    revision: Sha256
    engine: Label
    build_id: Annotated[str, StringConstraints(max_length=253)] = ""
    options: dict[str, Any] = field(default_factory=dict)
    language: Annotated[str, StringConstraints(max_length=35)] = ""
    parts: Annotated[tuple[PartRef, ...], Field(min_length=1, max_length=MAX_FDS)]
    memory: MemoryMode = MemoryMode.HOST

    @property
    def descriptors(self) -> int:
        """How many descriptors come along."""
        return len(self.parts) * self.memory.descriptors

    def grouped(self, fds: Sequence[int]) -> list[tuple[PartRef, tuple[int, ...]]]:
        """Each part with its own of the descriptors that came along."""
        each = self.memory.descriptors
        return [(part, tuple(fds[place * each : (place + 1) * each])) for place, part in enumerate(self.parts)]


# --- worker to sidecar ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """First message of a worker. Descriptors: its stats page, then its pointer page where `page_id` is not 0.

    Attributes
    ----------
    worker, pid, generation
        Name of the worker's place (`w0`, `w1`, …), its pid in its own namespace, and how often that place was filled.
    page_id
        Which pointer page it reads now; 0 = none yet.
    holding
        How many `Holding` messages follow.
    serving
        It has been serving and still answers requests: its connection broke, or the sidecar was restarted.
    """

    worker: Label
    pid: Annotated[int, Field(ge=1)]
    generation: Annotated[int, Field(ge=0)] = 0
    page_id: Annotated[int, Field(ge=0)] = 0
    holding: Annotated[int, Field(ge=0, le=MAX_HOLDINGS)] = 0
    serving: bool = False
    version: Annotated[int, Field(ge=1)] = PROTOCOL_VERSION
    kind: Literal["hello"] = "hello"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """A revision that the worker still maps. Descriptors: `held.memory.descriptors` per part, in order."""

    held: RevisionRef
    kind: Literal["holding"] = "holding"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The worker mapped, built and warmed up this revision, and resolves its handle."""

    handle: Handle
    build_ms: Annotated[float, Field(ge=0)] = 0.0
    kind: Literal["ready"] = "ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The worker cannot serve this revision; it holds nothing of it."""

    handle: Handle
    reason: Label
    message: Line = ""
    kind: Literal["failed"] = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired:
    """The worker's mapping of this revision is closed: `close` succeeded, nothing reads it any more."""

    handle: Handle
    kind: Literal["retired"] = "retired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """30 s after `Retire` views still live in the worker: its supervisor drains and replaces it."""

    handle: Handle
    message: Line = ""
    kind: Literal["stuck"] = "stuck"


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """Somebody asked for a cold voice."""

    voice: VoiceName
    kind: Literal["want"] = "want"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bye:
    """The worker drains: it takes no further request and need not be waited for."""

    reason: Line = ""
    kind: Literal["bye"] = "bye"


# --- sidecar to worker ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The pointer page to read from now on. Descriptor: a read-only description of it."""

    page_id: Annotated[int, Field(ge=1)]
    pod: Annotated[str, StringConstraints(max_length=253)] = ""
    kind: Literal["page"] = "page"


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """All that a worker must know of a voice beside its word; replaces what was said of the slot before.

    Attributes
    ----------
    suspect, known_good
        Shield: while `known_good` is set, a request that `suspect` fails before its first byte is served again by
        `known_good`. During a canary they are candidate and active, during a watch active and previous.
    consistency
        Whether the canary split follows the listener or each request.
    engine, language
        For the list of voices while it is cold.
    """

    voice: VoiceName
    slot: Slot
    consistency: Consistency = Consistency.SESSION
    suspect: Handle | None = None
    known_good: Handle | None = None
    engine: Annotated[str, StringConstraints(max_length=253)] = ""
    language: Annotated[str, StringConstraints(max_length=35)] = ""
    kind: Literal["voice"] = "voice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """The voice is gone: answer 404. Its slot is never given to another."""

    slot: Slot
    kind: Literal["forget"] = "forget"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Map and build this revision, then answer `Ready` or `Failed`.

    Descriptors: `offered.memory.descriptors` per part, in the order of `offered.parts`; the first of each part is a
    read-only description that was opened for this worker alone.
    """

    offered: RevisionRef
    kind: Literal["offer"] = "offer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Serve:
    """Everything needed is ready: joining -> serving."""

    kind: Literal["serve"] = "serve"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retire:
    """Let this revision go, then answer `Retired` (or `Stuck`). It is no flip target until offered again."""

    handle: Handle
    kind: Literal["retire"] = "retire"


@dataclass(frozen=True, slots=True, kw_only=True)
class Purge:
    """This revision failed: drop its cached results. It may still be spoken with until it is retired."""

    handle: Handle
    kind: Literal["purge"] = "purge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """Answer to `Want`: the voice cannot be brought up now."""

    voice: VoiceName
    reason: Label
    message: Line = ""
    retry_after_s: Annotated[float, Field(ge=0)] = 5.0
    kind: Literal["unavailable"] = "unavailable"


FromWorker: TypeAlias = Hello | Holding | Ready | Failed | Retired | Stuck | Want | Bye
FromSidecar: TypeAlias = Page | Voice | Forget | Offer | Serve | Retire | Purge | Unavailable
Message: TypeAlias = FromWorker | FromSidecar

_ADAPTER: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="kind")])


def encode(message: Message) -> bytes:
    """One datagram.

    Raises
    ------
    HandoffError
        More than 16 KiB: options too large to travel.
    """
    data = _ADAPTER.dump_json(message)
    if len(data) > MAX_MESSAGE_BYTES:
        raise HandoffError(f"a {message.kind!r} of {len(data)} bytes is over the limit of {MAX_MESSAGE_BYTES}")
    return data


def decode(data: bytes) -> Message:
    """Read one datagram, strictly: types are not coerced, bounds are checked.

    Raises
    ------
    HandoffError
        Empty, too long, not JSON, an unknown kind, or a field that does not hold.
    """
    if not data:
        raise HandoffError("an empty message: forbidden, because it looks like the end of the stream")
    if len(data) > MAX_MESSAGE_BYTES:
        raise HandoffError(f"a message of {len(data)} bytes is over the limit of {MAX_MESSAGE_BYTES}")
    try:
        return _ADAPTER.validate_json(data, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise HandoffError(f"a message that breaks the protocol at {place or 'its root'}: {first['msg']}") from error


def expected_fds(message: Message) -> int:
    """How many descriptors must come with `message`."""
    match message:
        case Hello():
            return 2 if message.page_id else 1
        case Page():
            return 1
        case Offer():
            return message.offered.descriptors
        case Holding():
            return message.held.descriptors
        case _:
            return 0
