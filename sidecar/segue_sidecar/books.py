"""What the sidecar knows: voices, revisions, handles, events. Kept in memory, written to the journal as it changes.

Separate from everything that acts, so that "what is true" is in one place. The books belong to the event loop; nobody
changes an entry without saying `record` afterwards, and that is what wakes whoever polls the state.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from segue.errors import MemoryError_, NotFound
from segue.memory.messages import PartRef, VoiceName
from segue.memory.page import MAX_HANDLE, SLOTS
from segue.wire import (
    CanaryMode,
    Consistency,
    Fence,
    PointerRequest,
    ProbeReport,
    Progress,
    RevisionPhase,
    RevisionRequest,
    SelfReverted,
    SidecarEvent,
    WatchState,
)
from segue_sidecar.fences import NO_FENCE
from segue_sidecar.journal import Journal, JournalError

logger = logging.getLogger(__name__)

EVENTS_KEPT = 50
HANDLES_KEPT = 512
"""More than that, and those of revisions that are gone are forgotten: their last requests were counted long ago."""
_STEPS = 20
"""Progress is shown in 5 % steps, so that a long-poll of the state does not spin."""


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

    @property
    def owner(self) -> str:
        """Its name as an owner of arenas."""
        return f"{self.voice}@{self.revision}"

    @property
    def report(self) -> ProbeReport | None:
        """The latest full report, else the latest sentence."""
        return self.full or self.sentence


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
    consistency: Consistency = Consistency.SESSION
    watch: WatchState | None = None
    armed: Armed | None = None
    self_reverted: SelfReverted | None = None
    withdrawn: str | None = None
    released: bool = False
    revisions: dict[str, RevisionEntry] = field(default_factory=dict)

    @property
    def protected(self) -> frozenset[str]:
        """Revisions that are never dropped or evicted on anybody's account: they speak, or are the way back."""
        named = {self.said.active, self.said.candidate, self.watch.previous if self.watch else None}
        if self.armed:
            named |= {self.armed.request.active, self.armed.request.candidate}
        return frozenset(name for name in named if name)


class Books:
    """All entries, and the journal behind them.

    Attributes
    ----------
    version
        Counts every change; `stale` are the voices that changed since they were last rendered.
    handles
        Handle to voice and revision, kept after the revision went: its last requests may still be counted.
    released
        Highest fence and uid of voices that were let go, so that a deposed leader cannot bring one back.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.voices: dict[str, VoiceEntry] = {}
        self.handles: dict[int, tuple[str, str]] = {}
        self.workers: dict[str, dict[str, Any]] = {}
        self.released: dict[str, Fence] = {}
        self.builds: dict[str, str] = {}
        self.page_id = 0
        self.version = 0
        self.stale: set[str] = set()
        self.events: deque[SidecarEvent] = deque(maxlen=EVENTS_KEPT)
        self._next_handle = 1
        self._next_slot = 0
        self._next_event = 1
        self._changed = asyncio.Event()

    # --- finding ----------------------------------------------------------------------------------------------------

    def voice(self, name: str) -> VoiceEntry:
        """The voice called `namespace/name`. Raises `NotFound`."""
        entry = self.voices.get(name)
        if entry is None:
            raise NotFound(f"the voice {name} is not on this pod: PUT a revision of it first")
        return entry

    def revision(self, voice: str, revision: str) -> RevisionEntry:
        """One revision of it. Raises `NotFound`."""
        entry = self.voice(voice).revisions.get(revision)
        if entry is None:
            raise NotFound(f"{voice} has no revision {revision[:10]} on this pod: PUT it first")
        return entry

    def revisions(self) -> Iterator[RevisionEntry]:
        """Every revision of every voice."""
        for voice in self.voices.values():
            yield from voice.revisions.values()

    def by_handle(self, handle: int) -> RevisionEntry | None:
        """The resident revision behind a handle."""
        voice, revision = self.handles.get(handle, ("", ""))
        entry = self.voices[voice].revisions.get(revision) if voice in self.voices else None
        return entry if entry is not None and entry.handle == handle else None

    # --- changing ---------------------------------------------------------------------------------------------------

    def new_voice(self, name: VoiceName, *, uid: str) -> VoiceEntry:
        """A voice with a slot that no voice ever had. Raises `MemoryError_` when the page is full."""
        if self._next_slot >= SLOTS:
            raise MemoryError_(f"all {SLOTS} slots of the pointer page were given away: restart the pod")
        entry = VoiceEntry(name=name, uid=uid, slot=self._next_slot)
        if self.released.pop(str(name), None) is not None:
            self._remove(f"released {name}")
        self._next_slot += 1
        self.voices[str(name)] = entry
        return entry

    def new_handle(self, entry: RevisionEntry) -> int:
        """A handle that no revision ever had. Raises `MemoryError_` when they are used up."""
        if self._next_handle > MAX_HANDLE:
            raise MemoryError_(f"all {MAX_HANDLE} handles of the pointer page were given away: restart the pod")
        entry.handle = self._next_handle
        self._next_handle += 1
        self.handles[entry.handle] = (str(entry.voice), entry.revision)
        self._forget_old_handles()
        return entry.handle

    def _forget_old_handles(self) -> None:
        """Those of revisions that went long ago: nothing of theirs is counted any more."""
        if len(self.handles) > HANDLES_KEPT:
            for handle in sorted(self.handles)[: -HANDLES_KEPT // 2]:
                if self.by_handle(handle) is None:
                    del self.handles[handle]

    def note_handle(self, handle: int) -> None:
        """A worker knows this handle, whatever the journal says: it is never given away again."""
        self._next_handle = max(self._next_handle, handle + 1)

    def reset_handles(self) -> None:
        """A new page begins: its handles are counted from 1 again, and nobody may know the old ones."""
        self._next_handle = 1
        self.handles.clear()
        for entry in self.revisions():
            entry.handle = None

    def move(self, entry: RevisionEntry, phase: RevisionPhase, *, reason: str = "", message: str = "") -> None:
        """Put a revision into another phase, in the books only (see `record`)."""
        if (entry.phase, entry.reason, entry.message) == (phase, reason, message):
            return
        if entry.phase is not phase:
            entry.progress = Progress()
            entry.since_ns = time.time_ns()
        entry.phase, entry.reason, entry.message = phase, reason, message
        self.touch(entry.voice)

    def show_progress(self, entry: RevisionEntry, *, done: int, total: int) -> None:
        """Note how far the phase is, in steps of 5 %."""
        fraction = int(_STEPS * done / total) / _STEPS if total else 0.0
        if fraction != entry.progress.fraction:
            entry.progress = Progress(done_bytes=int(fraction * total), total_bytes=total, fraction=fraction)
            self.touch(entry.voice)

    # --- writing down -----------------------------------------------------------------------------------------------

    # A command is refused when its voice cannot be recorded. Everything else goes on: what is true in memory stays so,
    # and a restart brings back what the journal knows, or asks the workers.

    def record_voice(self, entry: VoiceEntry) -> None:
        """Journal what counts of a voice beside its revisions. Raises `JournalError`: then nothing may be done."""
        self._journal.put(f"voice {entry.name}", voice_record(entry))
        self.touch(entry.name)

    def record_revision(self, entry: RevisionEntry) -> None:
        """Journal a revision."""
        self._put(f"revision {entry.voice} {entry.revision}", revision_record(entry))
        self.touch(entry.voice)

    def record_counters(self) -> None:
        """Journal the page's id and the next free numbers."""
        self._put("page", {"id": self.page_id, "handle": self._next_handle, "slot": self._next_slot})

    def record_worker(self, worker: str, *, pid: int, started: int) -> None:
        """Journal who may hold our memory."""
        self.workers[worker] = {"pid": pid, "started": started}
        self._put(f"worker {worker}", self.workers[worker])

    def forget_worker(self, worker: str) -> None:
        """It is dead."""
        self.workers.pop(worker, None)
        self._remove(f"worker {worker}")

    def record_builds(self, builds: Mapping[str, str]) -> None:
        """Journal the engines' build ids."""
        self.builds = dict(builds)
        self._put("builds", self.builds)
        self.touch()

    def forget_revision(self, entry: RevisionEntry) -> None:
        """It is gone from this pod."""
        self._remove(f"revision {entry.voice} {entry.revision}")
        self.voices[str(entry.voice)].revisions.pop(entry.revision, None)
        self.touch(entry.voice)

    def forget_voice(self, entry: VoiceEntry) -> None:
        """It is gone from this pod, once its revisions are; only its fence stays."""
        self.released[str(entry.name)] = entry.fence
        self._put(f"released {entry.name}", {"fence": str(entry.fence)})
        self._remove(f"voice {entry.name}")
        self.voices.pop(str(entry.name), None)
        self.touch(entry.name)

    def _put(self, key: str, value: Mapping[str, Any]) -> None:
        try:
            self._journal.put(key, value)
        except JournalError as error:
            logger.error("%s is not journalled: %s", key, error)

    def _remove(self, key: str) -> None:
        try:
            self._journal.remove(key)
        except JournalError as error:
            logger.error("%s stays in the journal: %s", key, error)

    def event(self, reason: str, message: str, *, voice: VoiceName | None = None, warning: bool = False) -> None:
        """Something worth a line in `describe`."""
        self.events.append(
            SidecarEvent(
                id=self._next_event,
                at_ns=time.time_ns(),
                kind="Warning" if warning else "Normal",
                reason=reason,
                message=message,
                voice=str(voice) if voice else None,
            )
        )
        self._next_event += 1
        self.touch()

    # --- waiting ----------------------------------------------------------------------------------------------------

    def touch(self, voice: VoiceName | None = None) -> None:
        """The state of this voice (of the pod, without one) is another one: wake who waits for that."""
        self.version += 1
        if voice is not None:
            self.stale.add(str(voice))
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self) -> None:
        """Return after the next `touch`."""
        await self._changed.wait()

    # --- reading back -----------------------------------------------------------------------------------------------

    def restore(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        """Fill empty books from the journal's records. Raises `ValueError` for a record of another format."""
        for key, record in records.items():
            kind, _, rest = key.partition(" ")
            match kind:
                case "voice":
                    self.voices[rest] = read_voice(rest, record)
                case "page":
                    self.page_id, self._next_handle = record["id"], record["handle"]
                    self._next_slot = record["slot"]
                case "released":
                    self.released[rest] = Fence.parse(record["fence"])
                case "builds":
                    self.builds = dict(record)
                case "worker":
                    self.workers[rest] = dict(record)
                case _:
                    continue
        for key, record in records.items():
            kind, _, rest = key.partition(" ")
            voice, _, revision = rest.partition(" ")
            if kind == "revision" and voice in self.voices:
                entry = read_revision(self.voices[voice].name, revision, record)
                self.voices[voice].revisions[revision] = entry
                if entry.handle is not None:
                    self.handles[entry.handle] = (voice, revision)
                    self.note_handle(entry.handle)
        taken = [entry.slot + 1 for entry in self.voices.values()]
        self._next_slot = max([self._next_slot, *taken])


def voice_record(entry: VoiceEntry) -> dict[str, Any]:
    """A voice as the journal keeps it. Written on the flip's path: plain dicts, little of it."""
    said = entry.said
    record: dict[str, Any] = {
        "uid": entry.uid,
        "slot": entry.slot,
        "fence": str(entry.fence),
        "said": [said.active, said.candidate, said.mode.value, said.weight],
        "consistency": entry.consistency.value,
        "withdrawn": entry.withdrawn,
        "released": entry.released,
    }
    if entry.watch:
        record["watch"] = entry.watch.model_dump(mode="json")
    if entry.armed:
        record["armed"] = [entry.armed.request.model_dump(mode="json"), str(entry.armed.fence)]
    if entry.self_reverted:
        record["selfReverted"] = entry.self_reverted.model_dump(mode="json")
    return record


def read_voice(name: str, record: Mapping[str, Any]) -> VoiceEntry:
    """The other way."""
    namespace, _, short = name.partition("/")
    active, candidate, mode, weight = record["said"]
    armed = record.get("armed")
    return VoiceEntry(
        name=VoiceName(namespace, short),
        uid=record["uid"],
        slot=record["slot"],
        fence=Fence.parse(record["fence"]),
        said=Said(active, candidate, CanaryMode(mode), weight),
        consistency=Consistency(record["consistency"]),
        withdrawn=record["withdrawn"],
        released=record["released"],
        watch=WatchState.model_validate(record["watch"]) if "watch" in record else None,
        armed=Armed(PointerRequest.model_validate(armed[0]), Fence.parse(armed[1])) if armed else None,
        self_reverted=SelfReverted.model_validate(record["selfReverted"]) if "selfReverted" in record else None,
    )


def revision_record(entry: RevisionEntry) -> dict[str, Any]:
    """A revision as the journal keeps it: with its parts once they are proven, without its progress."""
    return {
        "request": entry.request.model_dump(mode="json", by_alias=True),
        "phase": entry.phase.value,
        "reason": entry.reason,
        "message": entry.message,
        "handle": entry.handle,
        "parts": [[part.name, part.digest, part.size_bytes] for part in entry.parts],
        "build": entry.build,
        "sentence": entry.sentence.model_dump(mode="json", by_alias=True) if entry.sentence else None,
        "full": entry.full.model_dump(mode="json", by_alias=True) if entry.full else None,
        "since": entry.since_ns,
    }


def read_revision(voice: VoiceName, revision: str, record: Mapping[str, Any]) -> RevisionEntry:
    """The other way. What was resident is to be looked at again before anybody may believe that it still is."""
    phase = RevisionPhase(record["phase"])
    resident = phase in (RevisionPhase.READY, RevisionPhase.OFFERING)
    return RevisionEntry(
        voice=voice,
        revision=revision,
        request=RevisionRequest.model_validate(record["request"]),
        phase=RevisionPhase.VERIFYING if resident else phase,
        reason="Adopting" if resident else record["reason"],
        message=record["message"],
        handle=record["handle"],
        parts=tuple(PartRef(name=name, digest=digest, size_bytes=size) for name, digest, size in record["parts"]),
        build=record["build"],
        sentence=ProbeReport.model_validate(record["sentence"]) if record["sentence"] else None,
        full=ProbeReport.model_validate(record["full"]) if record["full"] else None,
        since_ns=record["since"],
    )
