"""Revisions and workers: offering, hearing the answers, and letting go.

Separate from the words (`switchboard`): this is about who holds what, they are about who speaks. Everything that
decides is synchronous, for the same reason as there; only telling a joining worker all it needs takes its time.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping

from segue.memory.handoff import ConnectionLost
from segue.memory.interface import WeightMemory
from segue.memory.messages import Offer, Page, Retire, RevisionRef, Serve
from segue.wire import RevisionPhase
from segue_sidecar.books import Books
from segue_sidecar.entries import RevisionEntry, VoiceEntry
from segue_sidecar.switchboard import Switchboard
from segue_sidecar.workers import Roster, Worker, WorkerPhase

_FLUSH_ABOVE = 32
_FLUSH_S = 10.0
_DEATHS_TO_MUTE = 2
_OFFERED = (RevisionPhase.OFFERING, RevisionPhase.READY)


class Handover:
    """Everything between revisions and workers.

    The three `on_…` are set by the composition: a revision became Ready; workers refused one (with reason and message);
    workers died of a voice's candidate (how many).
    """

    def __init__(
        self, *, books: Books, memory: WeightMemory, roster: Roster, switchboard: Switchboard, pod_uid: str
    ) -> None:
        self.on_ready: Callable[[RevisionEntry], None] = _nobody
        self.on_failed: Callable[[RevisionEntry, str, str], None] = _nobody
        self.on_deaths: Callable[[VoiceEntry, int], None] = _nobody
        self._books = books
        self._memory = memory
        self._roster = roster
        self._switchboard = switchboard
        self._pod_uid = pod_uid
        self._deaths: Counter[int] = Counter()
        self._retiring: dict[int, RevisionEntry | None] = {}

    # --- joining ----------------------------------------------------------------------------------------------------

    async def welcome(self, worker: Worker, *, page_id: int) -> None:
        """Tell a worker all that it needs. What changes meanwhile is told to it by whoever changes it.

        Raises
        ------
        ConnectionLost
            It is gone, or does not read.
        """
        page = self._switchboard.page
        assert page is not None
        if page_id != page.page_id:
            worker.ready.clear()
            worker.send(Page(page_id=page.page_id, pod=self._pod_uid), [page.export()])
        for voice in list(self._books.voices.values()):
            worker.send(self._switchboard.voice_message(voice))
            await _breathe(worker)
        for entry in list(self._books.revisions()):
            self.offer_missing(worker, entry)
            await _breathe(worker)
        self.settle_worker(worker)

    def offer_all(self, entry: RevisionEntry) -> None:
        """Offer a revision to every worker that we can talk to."""
        for worker in self._roster.connected():
            self.offer_missing(worker, entry)
        self.settle_revision(entry)

    def offer_missing(self, worker: Worker, entry: RevisionEntry) -> None:
        """Offer a revision to a worker that was not offered it yet."""
        handle = entry.handle
        if handle is None or entry.phase not in _OFFERED or handle in worker.holds - worker.held:
            return
        fds = self._memory.export_all(entry.parts)
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
            language=entry.language,
            parts=entry.parts,
            memory=self._memory.mode,
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
        live = self._roster.live()
        if entry.phase is RevisionPhase.OFFERING and live and all(entry.handle in worker.ready for worker in live):
            self._books.move(entry, RevisionPhase.READY)
            self._books.record_revision(entry)
            self.on_ready(entry)

    def settle_worker(self, worker: Worker) -> None:
        """Joining -> serving, once it is ready for whatever a word names, and for the ways back.

        It hears so last: what becomes Ready with it, and is stored at once, is stored before it answers anybody.
        """
        if worker.phase is not WorkerPhase.JOINING or worker.connection.closed:
            return
        if self._switchboard.needed_handles() <= worker.ready:
            worker.phase, worker.live = WorkerPhase.SERVING, True
            self._books.touch()
            for entry in list(self._books.revisions()):
                self.settle_revision(entry)
            worker.send(Serve())

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
        self._roster.remove(worker)
        held = worker.holds
        for handles in (worker.ready, worker.held, worker.retiring, worker.offered):
            handles.clear()
        for entry in list(self._books.revisions()):
            self._clear_holder(worker, entry)
        for handle in held:
            self._settle_retired(handle)
        for voice in list(self._books.voices.values()):
            candidate = self._switchboard.handle(voice, voice.said.candidate)
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
        for worker in self._roster.holders(handle):
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
        if self._switchboard.page is None:
            return
        voices = self._books.voices.values()
        spoken = {handle for voice in voices for handle in self._switchboard.word(voice).handles}
        for worker in self._roster.connected():
            for handle in (worker.ready | worker.held) - spoken:
                if self._books.by_handle(handle) is None:
                    self.retire_from(worker, handle)

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
        if handle in self._retiring and not self._roster.holders(handle):
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


async def _breathe(worker: Worker) -> None:
    if worker.connection.closed:
        raise ConnectionLost(f"worker {worker.id} is gone")
    if worker.connection.queued > _FLUSH_ABOVE:
        await worker.connection.flush(timeout_s=_FLUSH_S)
