"""Whoever waits for a cold voice: one attempt for all, bounded turns, and an answer in every case. No processes."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from segue.engine import PreparedPart
from segue.errors import PoolExhausted
from segue.memory import arena
from segue.memory.arena import ArenaPlan
from segue.memory.eviction import Resident
from segue.memory.host import HostMemory
from segue.memory.messages import PartRef, Unavailable, VoiceName
from segue.memory.page import PointerPage
from segue.wire import FileSource, RevisionPhase, RevisionRequest, Tier
from segue_sidecar.books import Books
from segue_sidecar.config import TiersSection
from segue_sidecar.entries import RevisionEntry, Said
from segue_sidecar.handover import Handover
from segue_sidecar.journal import Journal
from segue_sidecar.switchboard import Switchboard
from segue_sidecar.tiers.rising import Rising, Told
from segue_sidecar.tiers.room import Room
from segue_sidecar.tiers.store import PreparedStore
from segue_sidecar.workers import Roster, Worker

ARENA_VALUES = 4096


def plan_of(number: int) -> ArenaPlan:
    """A small arena of its own for each voice."""
    return ArenaPlan.of(PreparedPart(tensors={"tone": np.full(ARENA_VALUES, number, np.float32)}))


@dataclass
class Disk:
    """In the place of the prepared files: fills memory at once, and counts who is at it."""

    plans: dict[str, ArenaPlan]
    at_once: int = 0
    most_at_once: int = 0
    loads: Counter[str] = field(default_factory=Counter)
    filled: Counter[str] = field(default_factory=Counter)

    async def load(self, entry: RevisionEntry, parts: Sequence[PartRef], fds: Sequence[int]) -> None:
        """See `PreparedStore.load`."""
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        self.loads[str(entry.voice)] += 1
        for part, fd in zip(parts, fds, strict=True):
            self.filled[part.digest] += 1
            self.plans[part.digest].write(fd)
            arena.seal(fd)
            os.close(fd)
            await asyncio.sleep(0)
        self.at_once -= 1


@dataclass
class Line:
    """In the place of a worker's connection."""

    closed: bool = False
    heard: list[Unavailable] = field(default_factory=list)

    def send(self, message: Any, _fds: Sequence[int] = ()) -> None:
        """Keep refusals."""
        if isinstance(message, Unavailable):
            self.heard.append(message)


@dataclass
class Pod:
    """Everything around `Rising`, with one worker that is ready for whatever it is offered."""

    books: Books
    memory: HostMemory
    rising: Rising
    disk: Disk
    line: Line
    worker: Worker
    uses: dict[str, tuple[float, float]]
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    rose: list[str] = field(default_factory=list)

    def advance(self) -> None:
        """What `Residency` does: a task per queued revision."""
        self.rising.look()
        for entry in list(self.books.revisions()):
            if entry.phase is RevisionPhase.QUEUED and entry.owner not in self.tasks:
                self.tasks[entry.owner] = asyncio.create_task(self._run(entry))

    async def _run(self, entry: RevisionEntry) -> None:
        try:
            async with self.rising.turn():
                if self.rising.is_wanted(entry) and await self.rising.bring_back(entry, build=""):
                    self.books.new_handle(entry)
                    self.books.move(entry, RevisionPhase.READY)
                    self.worker.ready.add(entry.handle or 0)
                    self.rising.ready(entry)
                    self.rose.append(str(entry.voice))
        except PoolExhausted as error:
            self.rising.rest_again(entry, "PoolFull", str(error))
        finally:
            del self.tasks[entry.owner]
            self.advance()


class NothingShared:
    """No engine has shared models."""

    def residents(self) -> list[Resident]:
        """None."""
        return []


@asynccontextmanager
async def pod(tmp_path: Path, *, voices: int, room_for: int, **policy: Any) -> AsyncIterator[Pod]:
    """A pod of cold voices whose parts are on disk."""
    books = Books(journal := Journal(tmp_path / "journal.log"))
    journal.open()
    plans = {number: plan_of(number) for number in range(voices)}
    budget = room_for * (plans[0].total_bytes + 4096)
    memory, roster = HostMemory(budget, spares=0), Roster()
    memory.settle()
    switchboard = Switchboard(books=books, roster=roster)
    switchboard.page = PointerPage.create()
    handover = Handover(books=books, memory=memory, roster=roster, switchboard=switchboard, pod_uid="pod")
    uses: dict[str, tuple[float, float]] = {}
    room = Room(
        books=books,
        memory=memory,
        handover=handover,
        switchboard=switchboard,
        uses=lambda voice, _revision: uses.get(voice, (0.0, 0.0)),
        shared=NothingShared(),
        refresh=lambda: None,
        idle_s=0,
        on_left=lambda _why: None,
    )
    disk = Disk({plan.digest: plan for plan in plans.values()})
    rising = Rising(
        policy=TiersSection(**policy),
        books=books,
        memory=memory,
        roster=roster,
        switchboard=switchboard,
        handover=handover,
        room=room,
        store=cast(PreparedStore, disk),
        told=Told(rose=lambda _source, _took_s: None, stayed_down=lambda _reason: None),
    )
    for number, plan in plans.items():
        add(books, number, plan)
    line = Line()
    worker = Worker(id="w0", pid=1, started=1, generation=0, connection=cast(Any, line), stats=cast(Any, None))
    made = Pod(books, memory, rising, disk, line, worker, uses)
    rising.advance = made.advance
    try:
        yield made
    finally:
        for task in list(made.tasks.values()):
            task.cancel()
        memory.close()
        switchboard.page.close()
        journal.close()


def add(books: Books, number: int, plan: ArenaPlan) -> RevisionEntry:
    """A cold voice that was proven here once."""
    voice = books.new_voice(name(number), uid=f"uid-{number}")
    source = FileSource(uri="file:///v", sha256=plan.digest)
    request = RevisionRequest(engine="tiny", weights={"tone": source}, tier=Tier.COLD)
    part = PartRef(name="tone", digest=plan.digest, size_bytes=plan.total_bytes)
    entry = RevisionEntry(
        voice.name, plan.digest, request, phase=RevisionPhase.COLD, prepared=(part,), stored=True, asked_ns=1
    )
    voice.revisions[plan.digest] = entry
    voice.said = Said(plan.digest)
    return entry


def name(number: int) -> VoiceName:
    """Of a voice."""
    return VoiceName("default", f"voice-{number}")


async def settle(made: Pod) -> None:
    """Until nobody is on the way."""
    async with asyncio.timeout(20):
        while made.tasks:
            await asyncio.wait(list(made.tasks.values()))


def test_four_hundred_requests_for_forty_cold_voices_are_forty_attempts_two_at_a_time(tmp_path: Path) -> None:
    async def story() -> None:
        async with pod(tmp_path, voices=40, room_for=40) as made:
            for _ in range(10):
                for number in range(40):
                    made.rising.want(made.worker, name(number))
            assert len(made.tasks) == 40
            await settle(made)
            assert set(made.disk.loads.values()) == {1}
            assert len(made.disk.loads) == 40
            assert made.disk.most_at_once == 2
            assert made.line.heard == []
            assert all(entry.phase is RevisionPhase.READY for entry in made.books.revisions())

    asyncio.run(story())


def test_who_came_up_is_not_pushed_out_before_it_spoke_and_the_others_are_told(tmp_path: Path) -> None:
    async def story() -> None:
        async with pod(tmp_path, voices=6, room_for=2, wait_s=0.2) as made:
            for number in range(6):
                made.rising.want(made.worker, name(number))
            await settle(made)
            assert len(made.rose) == 2
            refused = {str(message.voice) for message in made.line.heard}
            assert refused == {str(name(number)) for number in range(6)} - set(made.rose)
            assert {message.reason for message in made.line.heard} <= {"PoolFull", "NobodyWaits"}
            assert made.memory.usage().peak_bytes <= made.memory.usage().budget_bytes

    asyncio.run(story())


def test_a_voice_that_is_not_here_is_refused_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with pod(tmp_path, voices=1, room_for=1) as made:
            made.rising.want(made.worker, VoiceName("default", "nobody"))
            assert [message.reason for message in made.line.heard] == ["NoRevision"]
            assert made.tasks == {}

    asyncio.run(story())


def test_a_failed_revision_is_refused_with_its_reason_until_its_pause_is_over(tmp_path: Path) -> None:
    async def story() -> None:
        async with pod(tmp_path, voices=1, room_for=1, retry_s=30) as made:
            (entry,) = made.books.revisions()
            made.books.move(entry, RevisionPhase.FAILED, reason="FetchError", message="the source is away")
            made.rising.want(made.worker, name(0))
            (refusal,) = made.line.heard
            assert (refusal.reason, refusal.message) == ("FetchError", "the source is away")
            assert 29 < refusal.retry_after_s <= 30
            entry.since_ns -= 31 * 10**9
            made.rising.want(made.worker, name(0))
            await settle(made)
            assert made.rose == [str(name(0))]

    asyncio.run(story())


def test_a_part_that_voices_share_is_filled_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with pod(tmp_path, voices=3, room_for=3) as made:
            first, *others = made.books.revisions()
            for other in others:
                other.prepared += first.prepared
            for number in range(3):
                made.rising.want(made.worker, name(number))
            await settle(made)
            assert len(made.rose) == 3
            assert set(made.disk.filled.values()) == {1}
            assert len(made.memory.owners(first.prepared[0].digest)) == 3

    asyncio.run(story())
