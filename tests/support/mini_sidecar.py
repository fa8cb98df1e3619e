"""The least sidecar that a server worker can live with: real socket, real page, real arenas; no verification at all.

What it is told to offer it offers, what it is told to store it stores. Two of its methods are for tests of its death:
`die` breaks every connection without a word, and another one started on the same directory adopts what workers hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segue.engine import PreparedPart
from segue.errors import HandoffError
from segue.memory import arena, memfd
from segue.memory.adoption import Introduction, receive_introduction
from segue.memory.arena import ArenaPlan
from segue.memory.connection import Connection
from segue.memory.handoff import HandoffListener
from segue.memory.lease import still_held
from segue.memory.messages import (
    Bye,
    Consistency,
    Failed,
    Forget,
    Message,
    Offer,
    Page,
    PartRef,
    Purge,
    Ready,
    Retire,
    Retired,
    RevisionRef,
    Serve,
    Stuck,
    Unavailable,
    Voice,
    VoiceName,
    Want,
)
from segue.memory.page import Mode, PointerPage, Word
from segue.memory.stats_reader import StatsReader


@dataclass
class Held:
    """A revision and its memory."""

    ref: RevisionRef
    fds: list[int]


@dataclass
class MetWorker:
    """A worker that said hello."""

    name: str
    pid: int
    connection: Connection
    stats: StatsReader
    ready: set[int] = field(default_factory=set)
    failed: dict[int, str] = field(default_factory=dict)
    retired: set[int] = field(default_factory=set)
    stuck: set[int] = field(default_factory=set)
    holding: set[int] = field(default_factory=set)
    said_bye: bool = False


class MiniSidecar:
    """Made and used on one loop."""

    def __init__(self, directory: Path, *, engine: str = "tone") -> None:
        self._path = directory / "sidecar.sock"
        self._engine = engine
        self._page: PointerPage | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: HandoffListener | None = None
        self.workers: list[MetWorker] = []
        self.voices: dict[VoiceName, Voice] = {}
        self.held: dict[int, Held] = {}
        self.wanted: list[VoiceName] = []
        self.refuse_wants = False
        self.holds_back = False
        """Tell joining workers of the voices, but offer nothing: they stay where they are until `let_in`."""
        self._next_slot = 0

    @property
    def page(self) -> PointerPage:
        """The pointer page, once there is one."""
        assert self._page is not None
        return self._page

    def start(self, *, adopt: bool = False) -> None:
        """Listen. `adopt`: take the page from the first worker that brings one, instead of making one."""
        if not adopt:
            self._page = PointerPage.create()
        self._listener = HandoffListener(self._path, allowed_uids={os.getuid()})
        self._listener.open()
        self._spawn(self._accept())
        self._spawn(self._heartbeat())

    def voice(self, name: str, *, namespace: str = "default") -> VoiceName:
        """Make a voice known, with a slot of its own."""
        voice = VoiceName(namespace, name)
        if voice not in self.voices:
            self._describe(Voice(voice=voice, slot=self._next_slot, engine=self._engine, language="en"))
            self._next_slot += 1  # never given to another voice
        return voice

    def guard(
        self,
        voice: VoiceName,
        *,
        suspect: int | None,
        known_good: int | None,
        consistency: Consistency = Consistency.SESSION,
    ) -> None:
        """Open (or with None close) the shield."""
        slot = self.voices[voice].slot
        self._describe(
            Voice(
                voice=voice,
                slot=slot,
                engine=self._engine,
                language="en",
                suspect=suspect,
                known_good=known_good,
                consistency=consistency,
            )
        )

    def forget(self, voice: VoiceName) -> None:
        """The voice is deleted."""
        slot = self.voices.pop(voice).slot
        self._tell(Forget(slot=slot))

    async def offer(self, voice: VoiceName, parts: Mapping[str, PreparedPart], *, revision: str | None = None) -> int:
        """Lay a revision into memory, offer it, and wait until every worker answered; returns its handle."""
        handle = max(self.held, default=0) + 1
        held = _lay_out(
            voice,
            parts,
            slot=self.voices[voice].slot,
            handle=handle,
            engine=self._engine,
            revision=revision or f"{handle:x}".rjust(64, "0"),
        )
        self.held[handle] = held
        for worker in self.workers:
            self._offer_to(worker, held)
        await self.until(lambda: all(handle in w.ready or handle in w.failed for w in self.live()))
        return handle

    def point(
        self, voice: VoiceName, active: int, *, candidate: int = 0, weight: int = 0, mode: Mode = Mode.SPLIT
    ) -> Word:
        """Flip."""
        slot = self.voices[voice].slot
        word = self.page.load(slot).followed_by(active=active, candidate=candidate, weight=weight, mode=mode)
        self.page.store(slot, word)
        return word

    async def retire(self, handle: int) -> None:
        """Let a revision go, and wait until no worker maps it."""
        self.retire_soon(handle)
        await self.until(lambda: all(handle in worker.retired for worker in self.live()))

    def retire_soon(self, handle: int) -> None:
        """Ask every worker to let a revision go."""
        self._tell(Retire(handle=handle))

    def purge(self, handle: int) -> None:
        """Say that a revision failed."""
        self._tell(Purge(handle=handle))

    def free(self, handle: int) -> bool:
        """Whether nobody else holds the revision's memory any more, as the kernel says."""
        return not any(still_held(fd) for fd in self.held[handle].fds)

    def revision(self, handle: int) -> str:
        """Its digest."""
        return self.held[handle].ref.revision

    def live(self) -> list[MetWorker]:
        """Workers that are connected."""
        return [worker for worker in self.workers if not worker.connection.closed and not worker.said_bye]

    async def until_joined(self, count: int) -> None:
        """Until `count` workers are connected and have answered everything."""
        await self.until(
            lambda: (
                len(self.live()) >= count
                and all(set(self.held) <= worker.ready | set(worker.failed) for worker in self.live())
            )
        )

    async def until(self, condition: Callable[[], bool], *, timeout_s: float = 30.0) -> None:
        """Look until it is so."""
        async with asyncio.timeout(timeout_s):
            while True:
                if condition():
                    return
                await asyncio.sleep(0.005)

    async def die(self) -> None:
        """Break off without a word, as SIGKILL does. Memory that workers hold stays theirs. Idempotent."""
        await self._stop()
        for held in self.held.values():
            memfd.close_all(held.fds)
        self.held.clear()
        if self._page is not None:
            self._page.close()

    async def close(self) -> None:
        """The same; there is nothing to be polite about."""
        await self.die()

    async def _stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()
        for worker in self.workers:
            worker.connection.close()
            worker.stats.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _heartbeat(self) -> None:
        while True:
            if self._page is not None:
                self._page.beat()
            await asyncio.sleep(0.5)

    async def _accept(self) -> None:
        assert self._listener is not None
        while True:
            self._spawn(self._attend(await self._listener.accept()))

    async def _attend(self, connection: Connection) -> None:
        with contextlib.closing(connection), contextlib.suppress(HandoffError):
            with await receive_introduction(connection) as introduction:
                worker = self._meet(introduction, connection)
            self._welcome(worker)
            while True:
                with await connection.receive() as received:
                    self._hear(worker, received.message)

    def _meet(self, introduction: Introduction, connection: Connection) -> MetWorker:
        stats_fd = introduction.take_stats()
        hello = introduction.hello
        worker = MetWorker(hello.worker, hello.pid, connection, StatsReader(stats_fd))
        os.close(stats_fd)
        if self._page is None:
            self._page = PointerPage.adopt(introduction.page_fd)
        for holding in introduction.holdings:
            worker.holding.add(holding.held.handle)
            self._adopt(holding.held, holding.fds)
        self.workers = [w for w in self.workers if not w.connection.closed] + [worker]
        return worker

    def _adopt(self, ref: RevisionRef, fds: list[int]) -> None:
        """Believe the worker: this is a test's sidecar."""
        if ref.voice not in self.voices:
            self.voices[ref.voice] = Voice(voice=ref.voice, slot=ref.slot, engine=self._engine, language="en")
            self._next_slot = max(self._next_slot, ref.slot + 1)
        if ref.handle not in self.held:
            self.held[ref.handle] = Held(ref, [memfd.reopen(fd, os.O_RDWR) for fd in fds])

    def _welcome(self, worker: MetWorker) -> None:
        worker.connection.send(Page(page_id=self.page.page_id), [self.page.export()])
        for voice in self.voices.values():
            worker.connection.send(voice)
        if not self.holds_back:
            self.let_in(worker)

    def let_in(self, worker: MetWorker) -> None:
        """Offer everything to a worker that joins."""
        for held in self.held.values():
            self._offer_to(worker, held)
        self._serve_if_ready(worker)

    def _serve_if_ready(self, worker: MetWorker) -> None:
        if set(self.held) <= worker.ready | set(worker.failed):
            worker.connection.send(Serve())

    def _offer_to(self, worker: MetWorker, held: Held) -> None:
        worker.retired.discard(held.ref.handle)
        worker.connection.send(Offer(offered=held.ref), [memfd.reopen(fd, os.O_RDONLY) for fd in held.fds])

    def _hear(self, worker: MetWorker, message: Message) -> None:
        match message:
            case Ready():
                worker.ready.add(message.handle)
                self._serve_if_ready(worker)
            case Failed():
                worker.failed[message.handle] = message.message
                self._serve_if_ready(worker)
            case Retired():
                worker.retired.add(message.handle)
                worker.ready.discard(message.handle)
            case Stuck():
                worker.stuck.add(message.handle)
            case Bye():
                worker.said_bye = True
            case Want():
                self.wanted.append(message.voice)
                if self.refuse_wants:
                    refusal = Unavailable(voice=message.voice, reason="PoolFull", message="no room", retry_after_s=7.0)
                    worker.connection.send(refusal)
            case _:
                raise HandoffError(f"unexpected {message.kind}")

    def _describe(self, voice: Voice) -> None:
        self.voices[voice.voice] = voice
        self._tell(voice)

    def _tell(self, message: Voice | Forget | Retire | Purge) -> None:
        for worker in self.live():
            worker.connection.send(message)


def _lay_out(
    voice: VoiceName, parts: Mapping[str, PreparedPart], *, slot: int, handle: int, engine: str, revision: str
) -> Held:
    refs: list[PartRef] = []
    fds: list[int] = []
    for name, part in parts.items():
        plan = ArenaPlan.of(part)
        original = memfd.create("test-arena")
        os.ftruncate(original, plan.total_bytes)
        digest = plan.write(original)
        arena.seal(original)
        fds.append(memfd.reopen(original, os.O_RDWR))
        os.close(original)
        refs.append(PartRef(name=name, digest=digest, size_bytes=plan.total_bytes))
    ref = RevisionRef(
        voice=voice, slot=slot, handle=handle, revision=revision, engine=engine, language="en", parts=tuple(refs)
    )
    return Held(ref, fds)
