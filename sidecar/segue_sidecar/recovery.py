"""After a restart: getting back what the workers kept alive, and believing none of it unseen.

The journal says what was true; the workers hand back descriptors and say what they hold. Until every worker that the
journal knows has said hello, is dead, or has stayed silent too long, no memory is allocated: arenas that only a worker
holds are not in our books yet. (In a pod whose containers do not share process ids nobody can be seen to be dead.) Each
arena is checked (owner, seals, size) when it is taken over and hashed before its revision is a flip target again;
revisions that speak, and ways back, first. What cannot be taken over is loaded again.

Where a voice's word and the journal differ (a kill between the two), the journal wins as soon as its revision is ready.
"""

from __future__ import annotations

import asyncio
import logging
import time

from segue.errors import MemoryError_
from segue.memory.adoption import HeldRevision, Introduction
from segue.memory.interface import WeightMemory
from segue.memory.page import PointerPage
from segue.memory.voice_view import is_shared
from segue.wire import RevisionPhase, Tier
from segue_sidecar.books import Books
from segue_sidecar.child import ChildFailed, ChildKind, Nursery
from segue_sidecar.entries import RevisionEntry, VoiceEntry, part_documents
from segue_sidecar.handover import Handover
from segue_sidecar.models import SharedModels
from segue_sidecar.residency import Residency
from segue_sidecar.switchboard import Switchboard
from segue_sidecar.tiers.rule import may_rest
from segue_sidecar.workers import Worker, may_live

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.05


class Recovery:
    """Runs once, at start; on a first start it has nothing to wait for."""

    def __init__(
        self,
        *,
        books: Books,
        memory: WeightMemory,
        switchboard: Switchboard,
        handover: Handover,
        residency: Residency,
        nursery: Nursery,
        shared: SharedModels,
    ) -> None:
        self._books = books
        self._memory = memory
        self._switchboard = switchboard
        self._handover = handover
        self._residency = residency
        self._nursery = nursery
        self._shared = shared
        self._expected = dict(books.workers)
        self._held: dict[str, set[str]] = {}
        self.settled = asyncio.Event()

    def heard(self, worker: Worker, introduction: Introduction) -> None:
        """A worker introduced itself: take over the page and the arenas that it hands back."""
        self._expected.pop(worker.id, None)
        if not self.settled.is_set():
            self._adopt_page(introduction)
        for holding in introduction.holdings:
            self._take_back(worker, holding)

    async def run(self, *, deadline_s: float, hash_deadline_s: float) -> None:
        """Wait for the workers that are known, then bring everything back."""
        await self._wait_for_workers(deadline_s)
        self._begin()
        for entry in self._in_order():
            await self._rehash(entry, deadline_s=hash_deadline_s)
        self._shared.begin()

    async def _wait_for_workers(self, deadline_s: float) -> None:
        ends_s = time.monotonic() + deadline_s
        while self._expected and time.monotonic() < ends_s:
            for name, record in list(self._expected.items()):
                if not may_live(record["pid"], started=record["started"]):
                    del self._expected[name]
                    self._books.forget_worker(name)
            if self._expected:
                await asyncio.sleep(_LOOK_EVERY_S)
        for name, record in self._expected.items():
            self._books.event(
                "WorkerSilent",
                f"worker {name} (pid {record['pid']}) may live but said nothing for {deadline_s:g} s",
                warning=True,
            )

    def _begin(self) -> None:
        """From now on this sidecar owns the page and may allocate."""
        if self._switchboard.page is None:
            self._switchboard.page = PointerPage.create()
            if self._books.page_id:
                self._books.event("PageLost", "no worker handed the pointer page back: a new one begins", warning=True)
            self._books.reset_handles()
            for worker in self._switchboard.roster:
                worker.ready.clear()
                worker.offered.clear()
            self._held.clear()
        self._books.page_id = self._switchboard.page.page_id
        self._books.record_counters()
        for entry in list(self._books.revisions()):
            self._sort(entry)
        self._memory.settle()
        self._residency.settled = True
        self.settled.set()
        self._residency.advance()

    def _sort(self, entry: RevisionEntry) -> None:
        """Which way back into service a revision takes."""
        match entry.phase:
            case RevisionPhase.FAILED:
                return
            case RevisionPhase.COLD if entry.request.tier is not Tier.HOT:
                return
            case RevisionPhase.RETIRING:
                self._handover.retire(entry, forget=True)
                return
            case _:
                held = self._held.get(entry.owner, set())
                if (
                    entry.phase is RevisionPhase.VERIFYING
                    and entry.parts
                    and held >= {part.digest for part in entry.parts}
                ):
                    return
        self._load_again(entry)

    def _load_again(self, entry: RevisionEntry) -> None:
        """From the cache, under a new handle: workers may still map the old one under its name.

        A voice that is not hot waits for its next request; its word is cold from then on.
        """
        voice = self._books.voices[str(entry.voice)]
        rests = entry.parts and may_rest(entry, voice)
        for part in entry.parts:
            self._memory.release(part.digest, owner=entry.owner)
        entry.handle, entry.parts = None, ()
        if rests:
            if voice.active is entry:
                self._switchboard.sleep(voice)
            self._books.move(entry, RevisionPhase.COLD, reason="Restarted")
        else:
            self._books.move(entry, RevisionPhase.QUEUED, reason="Reloading")
        self._books.record_revision(entry)

    def _adopt_page(self, introduction: Introduction) -> None:
        if introduction.page_fd < 0 or self._switchboard.page is not None:
            return
        if introduction.hello.page_id != self._books.page_id:
            return
        try:
            self._switchboard.page = PointerPage.adopt(introduction.page_fd)
        except MemoryError_ as error:
            self._books.event(
                "PageRefused",
                f"worker {introduction.hello.worker} handed back a page that is not ours: {error}",
                warning=True,
            )

    def _take_back(self, worker: Worker, holding: HeldRevision) -> None:
        """One revision that a worker still maps: ours to go on with, or one that nobody needs any more.

        Either way its memory is in our books from now on. `Switchboard.sweep` has the worker let go of the latter.
        """
        held = holding.held
        entry = self._books.by_handle(held.handle)
        known = entry is not None and entry.revision == held.revision and entry.parts == held.parts
        worker.held.add(held.handle)
        self._books.note_handle(held.handle)
        owner = entry.owner if entry is not None and known else f"handle {held.handle} of worker {worker.id}"
        try:
            for part, fds in held.grouped(holding.fds):
                self._memory.adopt(fds, part=part, owner=owner)
                self._memory.mark_holder(part.digest, holder=worker.id)
                self._held.setdefault(owner, set()).add(part.digest)
        except MemoryError_ as error:
            self._held.pop(owner, None)
            self._books.event(
                "ArenaRefused",
                f"worker {worker.id} handed back revision {held.revision[:10]}: {error}",
                warning=True,
            )
        if not known:
            for part in held.parts:
                self._memory.release(part.digest, owner=owner)

    def _in_order(self) -> list[RevisionEntry]:
        """Those to hash: what speaks, then the ways back, then the rest."""

        def rank(entry: RevisionEntry) -> int:
            voice = self._books.voices[str(entry.voice)]
            return 0 if entry.revision == voice.said.active else 1 if entry.revision in voice.protected else 2

        return sorted((e for e in self._books.revisions() if e.phase is RevisionPhase.VERIFYING), key=rank)

    async def _rehash(self, entry: RevisionEntry, *, deadline_s: float) -> None:
        if not _is_adopting(entry):
            return
        # Shared models are hashed with the first revision that lists them, and not once more with each other one.
        unsure = [part for part in entry.parts if part.digest not in self._shared.sound]
        fds = self._memory.export_all(unsure)
        job = {"parts": part_documents(unsure), "memory": self._memory.mapping_terms}
        try:
            await self._nursery.run(ChildKind.REHASH, job, fds=fds, deadline_s=deadline_s)
        except ChildFailed as error:
            self._books.event("ArenaRefused", f"{error}: it is loaded again", voice=entry.voice, warning=True)
            self._load_again(entry)
            self._residency.advance()
            return
        self._shared.sound.update(part.digest for part in unsure if is_shared(part.name))
        if not _is_adopting(entry):
            return
        self._books.event("Adopted", f"revision {entry.revision[:10]} was taken over as it is", voice=entry.voice)
        self._books.move(entry, RevisionPhase.OFFERING)
        self._handover.offer_all(entry)


def _is_adopting(entry: RevisionEntry) -> bool:
    """It may have been dropped meanwhile."""
    return entry.phase is RevisionPhase.VERIFYING and bool(entry.parts)


def reconcile(voice: VoiceEntry, switchboard: Switchboard, books: Books) -> None:
    """Make the word say what the journal says, once that can be said. A word that says it already is left alone."""
    if switchboard.page is None or switchboard.says(voice) or not switchboard.can_say(voice):
        return
    switchboard.store_at_any_rate(voice, voice.said)
    active = (voice.said.active or "none")[:10]
    books.event(
        "WordRestored", f"the word did not say what the journal says: {active} is active again", voice=voice.name
    )
