"""Who speaks: the words in the pointer page, and what every worker must have before one is stored.

Everything here that decides is synchronous and runs on the one event loop. That is the lock which dataplane.md asks
for: between looking at who is ready and storing a word, nobody can join, and nobody can become ready or leave.

The order of a store is fixed: journal, then guard (so that a worker knows the way back before it can meet the new
word), then the store.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

from segue.errors import MemoryError_, NotReady
from segue.memory.handoff import ConnectionLost
from segue.memory.interface import WeightMemory
from segue.memory.messages import Consistency as HandoffConsistency
from segue.memory.messages import Forget, Offer, Page, PartRef, Purge, Retire, RevisionRef, Serve, Voice
from segue.memory.page import COLD, NO_HANDLE, Mode, PointerPage, Word
from segue.wire import CanaryMode, Pointer, RevisionPhase
from segue_sidecar.books import Books, RevisionEntry, Said, VoiceEntry
from segue_sidecar.workers import Roster, Worker, WorkerPhase

logger = logging.getLogger(__name__)

_FLUSH_ABOVE = 32
_DEATHS_TO_MUTE = 2
_FLUSH_S = 10.0
_RESIDENT = (RevisionPhase.VERIFYING, RevisionPhase.OFFERING, RevisionPhase.READY)
_OFFERED = (RevisionPhase.OFFERING, RevisionPhase.READY)


class Switchboard:
    """The page, the workers, and the rules between them."""

    def __init__(self, *, books: Books, memory: WeightMemory, pod_uid: str) -> None:
        """The three `on_…` are set by the composition: a revision became Ready; workers refused one (with reason and
        message); workers died of a voice's candidate (how many)."""
        self.roster = Roster()
        self.page: PointerPage | None = None
        self._books = books
        self._memory = memory
        self._pod_uid = pod_uid
        self.on_ready: Callable[[RevisionEntry], None] = _nobody
        self.on_failed: Callable[[RevisionEntry, str, str], None] = _nobody
        self.on_deaths: Callable[[VoiceEntry, int], None] = _nobody
        self._deaths: Counter[int] = Counter()
        self._guards: dict[int, Voice] = {}
        self._retiring: dict[int, RevisionEntry | None] = {}

    # --- words ------------------------------------------------------------------------------------------------------

    def pointer(self, voice: VoiceEntry) -> Pointer:
        """What the voice's word says, in revisions."""
        said = voice.said
        epoch = self.page.load(voice.slot).epoch if self.page else 0
        return Pointer(active=said.active, candidate=said.candidate, mode=said.mode, weight=said.weight, epoch=epoch)

    def require_storable(self, voice: VoiceEntry, said: Said) -> None:
        """Refuse a word that a live worker could not resolve.

        Raises
        ------
        NotReady
            The page is not there yet, a revision is not Ready, or a live worker has not answered for it.
        """
        if self.page is None:
            raise NotReady("workers have yet to hand back the pointer page: try again in a moment")
        for revision in (said.active, said.candidate):
            if revision is not None:
                self._require_resolvable(voice, revision)

    def store(self, voice: VoiceEntry, said: Said) -> int:
        """Make the word say this; CLOCK_MONOTONIC ns directly after the store. Check `require_storable` before.

        Raises
        ------
        JournalError
            The disk is full: nothing was changed.
        """
        assert self.page is not None
        before, voice.said = voice.said, said
        try:
            self._books.record_voice(voice)
        except BaseException:
            voice.said = before
            raise
        self.guard(voice)
        return self.page.store(voice.slot, self._word(voice, said))

    def guard(self, voice: VoiceEntry) -> None:
        """Tell the workers what they must know of the voice beside its word, where that changed."""
        message = self._voice_message(voice)
        if self._guards.get(voice.slot) != message:
            self._guards[voice.slot] = message
            for worker in self.roster.connected():
                worker.send(message)

    def says(self, voice: VoiceEntry) -> bool:
        """Whether the voice's word says what the books say."""
        assert self.page is not None
        try:
            found = self.page.load(voice.slot)
        except MemoryError_:
            return False
        wanted = self._word(voice, voice.said)
        return replace(found, epoch=0) == replace(wanted, epoch=0)

    def can_say(self, voice: VoiceEntry) -> bool:
        """Whether what the books say could be stored now."""
        try:
            self.require_storable(voice, voice.said)
        except NotReady:
            return False
        return True

    def purge(self, voice: VoiceEntry, revision: str) -> None:
        """A revision was taken back: what it said must not be served from the workers' caches."""
        handle = self._handle(voice, revision)
        if handle:
            for worker in self.roster.connected():
                worker.send(Purge(handle=handle))

    def forget(self, voice: VoiceEntry) -> None:
        """The voice is gone: its slot goes cold for ever."""
        if self.page is not None:
            self.page.store(voice.slot, COLD)
        self._guards.pop(voice.slot, None)
        for worker in self.roster.connected():
            worker.send(Forget(slot=voice.slot))

    def _require_resolvable(self, voice: VoiceEntry, revision: str) -> None:
        entry = voice.revisions.get(revision)
        if entry is None or entry.phase is not RevisionPhase.READY or entry.handle is None:
            phase = entry.phase if entry else "not on this pod"
            raise NotReady(f"revision {revision[:10]} of {voice.name} is {phase}, not Ready: it cannot be pointed at")
        missing = [worker.id for worker in self.roster.live() if entry.handle not in worker.ready]
        if missing:
            raise NotReady(f"revision {revision[:10]} of {voice.name}: no answer yet from worker {', '.join(missing)}")

    def _word(self, voice: VoiceEntry, said: Said) -> Word:
        assert self.page is not None
        mode = Mode.SPLIT if said.mode is CanaryMode.SPLIT else Mode.MIRROR
        try:
            current = self.page.load(voice.slot)
        except MemoryError_:
            current = COLD
        return current.followed_by(
            active=self._handle(voice, said.active),
            candidate=self._handle(voice, said.candidate),
            mode=mode,
            weight=said.weight if said.candidate else 0,
        )

    def _handle(self, voice: VoiceEntry, revision: str | None) -> int:
        entry = voice.revisions.get(revision) if revision else None
        return entry.handle if entry is not None and entry.handle is not None else NO_HANDLE

    def _voice_message(self, voice: VoiceEntry) -> Voice:
        said, watch = voice.said, voice.watch
        suspect, good = NO_HANDLE, NO_HANDLE
        if said.candidate and said.weight:
            suspect, good = self._handle(voice, said.candidate), self._handle(voice, said.active)
        elif watch and watch.revision == said.active and watch.previous != said.active:
            suspect, good = self._handle(voice, said.active), self._handle(voice, watch.previous)
        entry = voice.revisions.get(said.active or "") or next(iter(voice.revisions.values()), None)
        return Voice(
            voice=voice.name,
            slot=voice.slot,
            consistency=HandoffConsistency(voice.consistency.value),
            suspect=suspect or None if good else None,
            known_good=good or None if suspect else None,
            engine=entry.request.engine if entry else "",
            language=language_of(entry) if entry else "",
        )

    # --- workers ----------------------------------------------------------------------------------------------------

    async def welcome(self, worker: Worker, *, page_id: int) -> None:
        """Tell a worker all that it needs. What changes meanwhile is told to it by whoever changes it.

        Raises
        ------
        ConnectionLost
            It is gone, or does not read.
        """
        assert self.page is not None
        if page_id != self.page.page_id:
            worker.ready.clear()
            worker.send(Page(page_id=self.page.page_id, pod=self._pod_uid), [self.page.export()])
        for voice in list(self._books.voices.values()):
            worker.send(self._voice_message(voice))
            await _breathe(worker)
        for entry in list(self._books.revisions()):
            self.offer_missing(worker, entry)
            await _breathe(worker)
        self.settle_worker(worker)

    def offer_all(self, entry: RevisionEntry) -> None:
        """Offer a revision to every worker that we can talk to."""
        for worker in self.roster.connected():
            self.offer_missing(worker, entry)
        self.settle_revision(entry)

    def offer_missing(self, worker: Worker, entry: RevisionEntry) -> None:
        """Offer a revision to a worker that was not offered it yet."""
        handle = entry.handle
        if handle is None or entry.phase not in _OFFERED or handle in worker.holds - worker.held:
            return
        fds = [self._memory.export(part.digest) for part in entry.parts]
        for part in entry.parts:
            self._memory.mark_holder(part.digest, holder=worker.id)
        worker.offered[handle] = time.monotonic()
        worker.send(Offer(offered=self.reference(entry)), fds)

    def reference(self, entry: RevisionEntry) -> RevisionRef:
        """A revision as workers know it."""
        assert entry.handle is not None
        return RevisionRef(
            voice=entry.voice,
            slot=self._books.voices[str(entry.voice)].slot,
            handle=entry.handle,
            revision=entry.revision,
            engine=entry.request.engine,
            build_id=entry.build,
            options=entry.request.options,
            language=language_of(entry),
            parts=entry.parts,
        )

    def answered_ready(self, worker: Worker, handle: int) -> None:
        """A worker can speak with it. One that was never offered it (any more) is told to let go."""
        if worker.offered.pop(handle, None) is None:
            if handle not in worker.ready:
                worker.retiring.add(handle)
                worker.send(Retire(handle=handle))
            return
        worker.ready.add(handle)
        worker.held.discard(handle)
        entry = self._books.by_handle(handle)
        if entry is not None:
            self.settle_revision(entry)
        self.settle_worker(worker)

    def answered_failed(self, worker: Worker, handle: int, *, reason: str, message: str) -> None:
        """A worker cannot speak with it."""
        worker.offered.pop(handle, None)
        worker.ready.discard(handle)
        entry = self._books.by_handle(handle)
        self._clear_holder(worker, entry)
        if entry is None:
            self.answered_retired(worker, handle)
        elif entry.phase is RevisionPhase.OFFERING:
            self.on_failed(entry, "WorkerRefused", f"worker {worker.id} cannot build it: {reason}: {message}")
        else:
            self._books.event(
                "WorkerRefused",
                f"worker {worker.id} cannot build revision {entry.revision[:10]}: {reason}: {message}",
                voice=entry.voice,
                warning=True,
            )

    def settle_revision(self, entry: RevisionEntry) -> None:
        """Offering -> Ready, once every live worker (at least one) answered for it."""
        live = self.roster.live()
        if entry.phase is RevisionPhase.OFFERING and live and all(entry.handle in worker.ready for worker in live):
            self._books.move(entry, RevisionPhase.READY)
            self._books.record_revision(entry)
            self.on_ready(entry)

    def settle_worker(self, worker: Worker) -> None:
        """Joining -> serving, once it is ready for whatever a word names, and for the ways back."""
        if worker.phase is not WorkerPhase.JOINING or worker.connection.closed:
            return
        if self.needed_handles() <= worker.ready and worker.send(Serve()):
            worker.phase, worker.live = WorkerPhase.SERVING, True
            self._books.touch()
            for entry in list(self._books.revisions()):
                self.settle_revision(entry)

    def needed_handles(self) -> set[int]:
        """Handles that a joining worker must be ready for: what words name now, and the ways back.

        A word may still name a handle whose revision is being loaded anew: nobody can join before it is replaced,
        unless that loading failed, since then nothing would ever let anybody in.
        """
        needed: set[int] = set()
        for voice in self._books.voices.values():
            entries = [voice.revisions[name] for name in voice.protected if name in voice.revisions]
            needed.update(one.handle for one in entries if one.handle is not None and one.phase in _RESIDENT)
            lost = self._spoken(voice) - {one.handle for one in entries}
            if any(one.phase is not RevisionPhase.FAILED and one.handle not in self._spoken(voice) for one in entries):
                needed |= lost
        return needed

    def part_from(self, worker: Worker) -> None:
        """The connection is lost: whoever waits for this worker waits no longer."""
        worker.connection.close()
        worker.live = False
        worker.offered.clear()
        self._books.touch()
        for entry in list(self._books.revisions()):
            self.settle_revision(entry)

    def bury(self, worker: Worker, lost: Mapping[tuple[str, str], int]) -> None:
        """It is dead: it holds nothing any more. `lost`: the requests that it had open, by voice and revision.

        Two deaths with a candidate in flight, and it gets no listeners any more.
        """
        self.roster.remove(worker)
        held = worker.holds
        for handles in (worker.ready, worker.held, worker.retiring, worker.offered):
            handles.clear()
        for entry in list(self._books.revisions()):
            self._clear_holder(worker, entry)
        for handle in held:
            self._settle_retired(handle)
        for voice in list(self._books.voices.values()):
            candidate = self._handle(voice, voice.said.candidate)
            if candidate and voice.said.weight and lost.get((str(voice.name), voice.said.candidate or "")):
                self._deaths[candidate] += 1
                if self._deaths[candidate] >= _DEATHS_TO_MUTE:
                    self.on_deaths(voice, self._deaths[candidate])
        self._books.touch()

    def _clear_holder(self, worker: Worker, entry: RevisionEntry | None) -> None:
        if entry is not None:
            self._memory.clear_holder([part.digest for part in entry.parts], holder=worker.id)

    # --- letting go -------------------------------------------------------------------------------------------------

    def retire(self, entry: RevisionEntry, *, forget: bool) -> None:
        """Have every worker let a revision go; no word may name it. With `forget` it leaves the books after that."""
        handle, parts = entry.handle, entry.parts
        entry.handle, entry.parts = None, ()
        for part in parts:
            self._memory.release(part.digest, owner=entry.owner)
        if handle is None:
            if forget:
                self._gone(entry)
            return
        self._retiring[handle] = entry if forget else None
        for worker in self.roster.holders(handle):
            self.retire_from(worker, handle)
        self._settle_retired(handle)

    def retire_from(self, worker: Worker, handle: int) -> None:
        """Tell one worker to let a handle go."""
        worker.offered.pop(handle, None)
        worker.ready.discard(handle)
        worker.held.discard(handle)
        worker.retiring.add(handle)
        worker.send(Retire(handle=handle))

    def sweep(self) -> None:
        """Have workers let go of what no revision and no word names (any more): what was loaded anew, or forgotten."""
        if self.page is None:
            return
        spoken = {handle for voice in self._books.voices.values() for handle in self._spoken(voice)}
        for worker in self.roster.connected():
            for handle in (worker.ready | worker.held) - spoken:
                if self._books.by_handle(handle) is None:
                    self.retire_from(worker, handle)

    def _spoken(self, voice: VoiceEntry) -> frozenset[int]:
        if self.page is None:
            return frozenset()
        try:
            return self.page.load(voice.slot).handles
        except MemoryError_:
            return frozenset()

    def answered_retired(self, worker: Worker, handle: int) -> None:
        """A worker's mapping is closed."""
        worker.retiring.discard(handle)
        worker.held.discard(handle)
        worker.ready.discard(handle)
        self._memory.reap()
        self._settle_retired(handle)

    def is_retiring(self, handle: int) -> bool:
        """Whether workers are letting this handle go."""
        return handle in self._retiring

    def _settle_retired(self, handle: int) -> None:
        if handle in self._retiring and not self.roster.holders(handle):
            entry = self._retiring.pop(handle)
            if entry is not None:
                self._gone(entry)

    def _gone(self, entry: RevisionEntry) -> None:
        self._memory.reap()
        if entry.revive:
            entry.revive = False
            self._books.move(entry, RevisionPhase.QUEUED)
            self._books.record_revision(entry)
        else:
            self._books.forget_revision(entry)


def _nobody(*_: object) -> None:
    """Nobody asked to be told."""


def language_of(entry: RevisionEntry) -> str:
    """What a revision speaks: what its options say, else its reference."""
    chosen = entry.request.options.get("language")
    if isinstance(chosen, str):
        return chosen[:35]
    return entry.request.reference.language if entry.request.reference else "en"


def part_document(parts: tuple[PartRef, ...]) -> list[dict[str, object]]:
    """Parts as jobs of children name them."""
    return [{"name": part.name, "digest": part.digest, "size": part.size_bytes} for part in parts]


async def _breathe(worker: Worker) -> None:
    if worker.connection.closed:
        raise ConnectionLost(f"worker {worker.id} is gone")
    if worker.connection.queued > _FLUSH_ABOVE:
        await worker.connection.flush(timeout_s=_FLUSH_S)
