"""What the sidecar knows: voices, revisions, handles, events. Kept in memory, written to the journal as it changes.

Separate from everything that acts, so that "what is true" is in one place. The books belong to the event loop; nobody
changes an entry without saying `record` or `touch` afterwards, and that is what wakes whoever polls the state.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from segue.errors import MemoryError_, NotFound
from segue.memory.messages import VoiceName
from segue.memory.page import MAX_HANDLE, SLOTS
from segue.wire import Fence, Progress, RevisionPhase, SidecarEvent
from segue_sidecar.entries import ModelsEntry, RevisionEntry, VoiceEntry
from segue_sidecar.journal import Journal, JournalError
from segue_sidecar.records import (
    models_record,
    read_models,
    read_revision,
    read_voice,
    revision_record,
    voice_record,
)

logger = logging.getLogger(__name__)

EVENTS_KEPT = 50
HANDLES_KEPT = 512
"""More than that, and those of revisions that are gone are forgotten: their last requests were counted long ago."""
_STEPS = 20
"""Progress is shown in 5 % steps, so that a long-poll of the state does not spin."""


class Books:
    """All entries, and the journal behind them.

    Attributes
    ----------
    version
        Counts every change; `stale` are the voices that changed since they were last rendered.
    handles
        Handle to voice and revision, kept after the revision went: its last requests may still be counted.
    on_left
        Told of each revision that leaves its phase, before it does, and when (CLOCK_REALTIME ns).
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
        self.models: dict[str, ModelsEntry] = {}
        self.page_id = 0
        self.version = 0
        self.stale: set[str] = set()
        self.events: deque[SidecarEvent] = deque(maxlen=EVENTS_KEPT)
        self.on_left: Callable[[RevisionEntry, int], None] = lambda _entry, _now_ns: None
        self._next_handle = 1
        self._next_slot = 0
        self._next_event = 1
        self._changed = asyncio.Event()
        self._owed: set[str] = set()

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

    def same_handle(self, entry: RevisionEntry) -> bool:
        """Give a revision the handle back that it had, with the same parts; false where it never had one.

        A voice that comes and goes would use the handles of the page up. Nobody may hold it under that handle now.
        """
        if entry.last_handle is None or entry.parts != entry.prepared:
            return False
        entry.handle = entry.last_handle
        self.handles[entry.handle] = (str(entry.voice), entry.revision)
        return True

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
            entry.handle = entry.last_handle = None

    def move(self, entry: RevisionEntry, phase: RevisionPhase, *, reason: str = "", message: str = "") -> None:
        """Put a revision into another phase, in the books only (see `record`)."""
        if (entry.phase, entry.reason, entry.message) == (phase, reason, message):
            return
        if entry.phase is not phase:
            now_ns = time.time_ns()
            self.on_left(entry, now_ns)
            entry.progress = Progress()
            entry.since_ns = now_ns
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

    def note_voice(self, entry: VoiceEntry) -> None:
        """As `record_voice`, for what is done already, or must be: on a full disk it is written as soon as it can be.

        A sidecar that is killed before that comes back to the voice as it was.
        """
        try:
            self.record_voice(entry)
        except JournalError as error:
            logger.error("%s is not journalled yet: %s", entry.name, error)
            self._owed.add(str(entry.name))
            self.touch(entry.name)

    def write_owed(self) -> None:
        """Once a second: journal what could not be journalled before."""
        for name in sorted(self._owed):
            entry = self.voices.get(name)
            self._owed.discard(name)
            if entry is not None:
                self.note_voice(entry)

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

    def record_models(self, entry: ModelsEntry) -> None:
        """Journal an engine's shared models."""
        self._put(f"models {entry.engine}", models_record(entry))
        self.touch()

    def forget_models(self, engine: str) -> None:
        """No shared models of this engine are configured any more."""
        self.models.pop(engine, None)
        self._remove(f"models {engine}")
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
                case "models":
                    self.models[rest] = read_models(rest, record)
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
