"""The domain values of the books: a voice, a revision and an engine's shared models, as this pod knows them.

Separate from `books`, which finds and records them, and from `records`, which is their form on disk. They are mutable
and belong to the event loop; whoever changes one says so (`Books.record_…`, `Books.touch`).
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields

from segue.memory.messages import PartRef, VoiceName
from segue.wire import (
    RESTING,
    ArmedOutcome,
    CanaryMode,
    Consistency,
    Fence,
    ModelsPhase,
    PointerRequest,
    ProbeReport,
    Progress,
    RevisionPhase,
    RevisionRequest,
    SelfReverted,
    WatchState,
)
from segue_sidecar.fences import NO_FENCE


@dataclass(slots=True)
class RevisionEntry:
    """One revision of one voice.

    Attributes
    ----------
    handle
        Its name in the words; `None` until it is offered for the first time.
    parts
        Its arenas; empty until they are sealed.
    needed_bytes
        What the pool must have free before it is tried again (phase Queued, reason PoolFull).
    revive
        It was asked for again while workers still let it go.
    asked_ns
        When a command last asked for it. The one asked for last is the active one, or is rolled out.
    prepared
        Its parts as they were last proven here, with the digests that a copy on disk must have; kept when they leave
        memory. `stored`: such copies were written.
    last_handle
        What workers knew it by before it left them: the same parts get the same one again.
    woken, commanded
        It comes up from rest, which takes nobody out of service: for a request, or because a command says so. Not
        journalled: after a restart it rests.
    """

    voice: VoiceName
    revision: str
    request: RevisionRequest
    phase: RevisionPhase = RevisionPhase.QUEUED
    reason: str = ""
    message: str = ""
    progress: Progress = field(default_factory=Progress)
    handle: int | None = None
    parts: tuple[PartRef, ...] = ()
    build: str = ""
    sentence: ProbeReport | None = None
    full: ProbeReport | None = None
    since_ns: int = 0
    needed_bytes: int = 0
    revive: bool = False
    asked_ns: int = 0
    prepared: tuple[PartRef, ...] = ()
    stored: bool = False
    last_handle: int | None = None
    woken: bool = False
    commanded: bool = False

    @property
    def for_request(self) -> bool:
        """Whether somebody waits for it, and nobody commanded it."""
        return self.woken and not self.commanded

    @property
    def rests(self) -> bool:
        """Whether a request has to bring it up first."""
        return self.phase in RESTING

    @property
    def language(self) -> str:
        """What it speaks: what its options say, else its reference."""
        chosen = self.request.options.get("language")
        if isinstance(chosen, str):
            return chosen[:35]
        return self.request.reference.language if self.request.reference else "en"

    @property
    def part_documents(self) -> list[dict[str, object]]:
        """Its parts as jobs of children name them."""
        return part_documents(self.parts)

    @property
    def owner(self) -> str:
        """Its name as an owner of arenas."""
        return f"{self.voice}@{self.revision}"

    @property
    def report(self) -> ProbeReport | None:
        """The latest full report, else the latest sentence."""
        return self.full or self.sentence


@dataclass(slots=True)
class ModelsEntry:
    """The shared models of one engine.

    Attributes
    ----------
    source
        Where they come from, for people.
    parts
        Their arenas, named as every revision of the engine lists them.
    absent
        Model to what is missing, and what that disables.
    fingerprint
        Of the files that `parts` were prepared from, and of what else went into them.
    owner
        Its name as an owner of arenas; another one each time they are prepared.
    """

    engine: str
    source: str = ""
    phase: ModelsPhase = ModelsPhase.WAITING
    reason: str = ""
    message: str = ""
    progress: Progress = field(default_factory=Progress)
    parts: tuple[PartRef, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)
    fingerprint: str = ""
    owner: str = ""
    since_ns: int = 0


@dataclass(frozen=True, slots=True)
class Said:
    """What a voice's word says, in revisions."""

    active: str | None = None
    candidate: str | None = None
    mode: CanaryMode = CanaryMode.SPLIT
    weight: int = 0


@dataclass(frozen=True, slots=True)
class Armed:
    """A flip that waits for its time."""

    request: PointerRequest
    fence: Fence


@dataclass(slots=True)
class VoiceEntry:
    """One voice.

    Attributes
    ----------
    fence
        The highest seen; it outlives the voice (`Books.released`).
    speaks_since_ns
        When the word began to name the active revision (CLOCK_REALTIME); 0 while it names none.
    pointed
        A command said who speaks, be it nobody, since this incarnation of the voice is here.
    wanted
        Revision that the voice is about to be pointed at by the desired set, while nobody speaks: workers that join
        wait for it. Not journalled.
    armed_outcome
        What became of the latest flip that was asked for at a time. Not journalled.
    withdrawn
        What the latest pointer command took back.
    released
        It was let go, and is forgotten once its revisions are.
    """

    name: VoiceName
    uid: str
    slot: int
    fence: Fence = NO_FENCE
    said: Said = field(default_factory=Said)
    speaks_since_ns: int = 0
    consistency: Consistency = Consistency.SESSION
    pointed: bool = False
    wanted: str | None = None
    watch: WatchState | None = None
    armed: Armed | None = None
    armed_outcome: ArmedOutcome | None = None
    self_reverted: SelfReverted | None = None
    withdrawn: str | None = None
    released: bool = False
    revisions: dict[str, RevisionEntry] = field(default_factory=dict)

    def say(self, said: Said) -> None:
        """The word is to say this from now on."""
        if said.active != self.said.active:
            self.speaks_since_ns = time.time_ns() if said.active is not None else 0
        self.said = said

    @property
    def active(self) -> RevisionEntry | None:
        """Who speaks, or would if somebody asked."""
        return self.revisions.get(self.said.active) if self.said.active else None

    @property
    def protected(self) -> frozenset[str]:
        """Revisions that are never dropped or evicted on anybody's account: they speak, or are the way back."""
        named = {self.said.active, self.said.candidate, self.watch.previous if self.watch else None}
        if self.armed:
            named |= {self.armed.request.active, self.armed.request.candidate}
        return frozenset(name for name in named if name)


def part_documents(parts: Iterable[PartRef]) -> list[dict[str, object]]:
    """Parts as jobs of children name them."""
    return [{"name": part.name, "digest": part.digest, "size": part.size_bytes} for part in parts]


@contextlib.contextmanager
def all_or_nothing(voice: VoiceEntry) -> Iterator[None]:
    """Changes of a voice that are undone when they end in an error: a refused command has changed nothing."""
    before = copy.copy(voice)
    try:
        yield
    except BaseException:
        for each in fields(VoiceEntry):
            setattr(voice, each.name, getattr(before, each.name))
        raise
