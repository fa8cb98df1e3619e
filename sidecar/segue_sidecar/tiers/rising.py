"""Bringing a voice up for a request that waits.

A worker says `want`; whoever asks meanwhile waits for the same attempt. The way up is the shortest that there is: parts
that are still in memory, prepared files, the source. The word is stored by the same rule as after a restart: it says
again what the books say, as soon as the revision is Ready, so it needs no fence. What cannot come up is told to the
workers that wait, with the reason.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum

from segue.memory import memfd
from segue.memory.interface import Allocation, WeightMemory
from segue.memory.messages import PartRef, Unavailable, VoiceName
from segue.memory.voice_view import is_shared
from segue.wire import RevisionPhase
from segue_sidecar.books import Books
from segue_sidecar.child import ChildFailed
from segue_sidecar.config import TiersSection
from segue_sidecar.entries import RevisionEntry, VoiceEntry
from segue_sidecar.handover import Handover
from segue_sidecar.switchboard import Switchboard
from segue_sidecar.tiers.room import Room
from segue_sidecar.tiers.store import PreparedStore
from segue_sidecar.workers import Roster, Worker

logger = logging.getLogger(__name__)

_MESSAGE_CHARS = 1500
_WANTED_FOR = 3.0
"""In waits: who was turned away comes back within one wait, and should find the voice."""
_PATIENCE = 0.8
"""In waits: room that does not come free while the request waits comes too late."""


class Source(StrEnum):
    """Where the weights came from; the label of the metrics."""

    MEMORY = "memory"
    DISK = "disk"
    ORIGIN = "source"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Whom the rising of voices is told to: a cold start that ended well, and one that did not."""

    rose: Callable[[str, float], None]
    stayed_down: Callable[[str], None]


@dataclass(slots=True)
class _Attempt:
    """One way up."""

    began_s: float
    source: Source = Source.ORIGIN


@dataclass(slots=True)
class _Waiting:
    """Who waits for a voice. `wanted_s`: when somebody last began to (monotonic)."""

    wanted_s: float
    workers: dict[str, Worker] = field(default_factory=dict)


class Rising:
    """All voices that somebody waits for."""

    def __init__(
        self,
        *,
        policy: TiersSection,
        books: Books,
        memory: WeightMemory,
        roster: Roster,
        switchboard: Switchboard,
        handover: Handover,
        room: Room,
        store: PreparedStore,
        told: Told,
    ) -> None:
        self.advance: Callable[[], None] = lambda: None
        self._policy = policy
        self._books = books
        self._memory = memory
        self._roster = roster
        self._switchboard = switchboard
        self._handover = handover
        self._room = room
        self._store = store
        self._told = told
        self._turns = asyncio.Semaphore(policy.loads)
        self._waiting: dict[str, _Waiting] = {}
        self._attempts: dict[str, _Attempt] = {}
        self._filling: dict[str, asyncio.Event] = {}

    # --- what is asked ----------------------------------------------------------------------------------------------

    def want(self, worker: Worker, name: VoiceName) -> None:
        """Somebody asked a worker for a voice that it found cold."""
        waiting = self._waiting.setdefault(str(name), _Waiting(0.0))
        waiting.wanted_s = time.monotonic()
        waiting.workers[worker.id] = worker
        self.advance()

    def wake(self, entry: RevisionEntry, *, commanded: bool = False) -> None:
        """Bring a revision that rests up; one that rises already goes on."""
        if entry.rests:
            self._begin(entry, reason="Wanted", commanded=commanded)
            self.advance()

    def look(self) -> None:
        """Queue whatever somebody waits for and nobody brings up. Called whenever anything changed."""
        for name in list(self._waiting):
            self._see_to(name)

    def _see_to(self, name: str) -> None:
        voice = self._books.voices.get(name)
        entry = voice.active if voice is not None else None
        if voice is None or entry is None:
            self._refuse(name, "NoRevision", "no revision of it is active on this pod")
        elif entry.rests:
            if time.monotonic() - self._waiting[name].wanted_s <= self._policy.wait_s:
                self._begin(entry, reason="Wanted")
            else:
                del self._waiting[name]
        elif entry.phase is RevisionPhase.READY:
            self._speak(voice)
            del self._waiting[name]
        elif entry.phase is RevisionPhase.FAILED:
            self._try_again_or_refuse(name, entry)

    def _try_again_or_refuse(self, name: str, entry: RevisionEntry) -> None:
        failed_s_ago = (time.time_ns() - entry.since_ns) / 1e9
        if failed_s_ago >= self._policy.retry_s:
            self._begin(entry, reason="TriedAgain")
        else:
            self._refuse(name, entry.reason, entry.message, retry_after_s=self._policy.retry_s - failed_s_ago)

    def _begin(self, entry: RevisionEntry, *, reason: str, commanded: bool = False) -> None:
        entry.woken, entry.commanded = True, commanded
        self._attempts[entry.owner] = _Attempt(time.monotonic())
        self._books.move(entry, RevisionPhase.QUEUED, reason=reason)

    # --- the way up -------------------------------------------------------------------------------------------------

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Rising voices take turns among themselves: a request does not wait for somebody's rollout."""
        return self._turns

    def is_wanted(self, entry: RevisionEntry) -> bool:
        """Whether it is still worth it, now that its turn has come. If not, it rests again."""
        waiting = self._waiting.get(str(entry.voice))
        is_active = self._books.voices[str(entry.voice)].active is entry
        recently = waiting is not None and time.monotonic() - waiting.wanted_s <= _WANTED_FOR * self._policy.wait_s
        if entry.commanded or (is_active and recently):
            return True
        self.rest_again(entry, "NobodyWaits", "whoever asked for it has left")
        return False

    async def bring_back(self, entry: RevisionEntry, *, build: str) -> bool:
        """Fill its memory from what is there already; false: it takes the source.

        Parameters
        ----------
        build
            Of its engine now; parts of another one are prepared anew. Empty: not known yet.

        Raises
        ------
        PoolExhausted
            Nobody makes room.
        """
        if not entry.prepared or (build and build != entry.build):
            return False
        attempt = self._attempts.get(entry.owner)
        await self._until_filled(entry)
        missing = self._retain(entry)
        if missing and (not entry.stored or any(is_shared(part.name) for part in missing)):
            self._release(entry)  # shared models that were replaced are on no disk: it is prepared with the new ones
            return False
        try:
            if missing:
                self._books.move(entry, RevisionPhase.PREPARING, reason=entry.reason)
                await self._load(entry, missing)
        except ChildFailed as error:
            self._release(entry)
            message = f"revision {entry.revision[:10]}: {error.reason}: {error}; it comes from its source"
            self._books.event("PreparedUnusable", message, voice=entry.voice, warning=True)
            return False
        except BaseException:
            self._release(entry)
            raise
        entry.parts = entry.prepared
        if attempt is not None:
            attempt.source = Source.DISK if missing else Source.MEMORY
        return True

    async def make_room(self, entry: RevisionEntry, needed_bytes: int) -> None:
        """Wait for room, as long as a request would. Raises `PoolExhausted`."""
        await self._room.make(entry, needed_bytes, patience_s=_PATIENCE * self._policy.wait_s)

    async def _until_filled(self, entry: RevisionEntry) -> None:
        """A part that several voices share is filled once: the second one waits for it, and holds nothing meanwhile."""
        while shared := [self._filling[part.digest] for part in entry.prepared if part.digest in self._filling]:
            await shared[0].wait()

    def _retain(self, entry: RevisionEntry) -> list[PartRef]:
        """Keep the parts that are in memory; those that are not."""
        missing = []
        for part in entry.prepared:
            try:
                self._memory.retain(part.digest, owner=entry.owner)
            except KeyError:
                missing.append(part)
        return missing

    def _release(self, entry: RevisionEntry) -> None:
        entry.parts = ()
        for part in entry.prepared:
            self._memory.release(part.digest, owner=entry.owner)

    async def _load(self, entry: RevisionEntry, missing: Sequence[PartRef]) -> None:
        filled = asyncio.Event()
        self._filling |= dict.fromkeys((part.digest for part in missing), filled)
        try:
            await self.make_room(entry, sum(part.size_bytes for part in missing))
            await self._fill(entry, missing)
        finally:
            for part in missing:
                del self._filling[part.digest]
            filled.set()

    async def _fill(self, entry: RevisionEntry, missing: Sequence[PartRef]) -> None:
        """Allocate, have a child fill, seal. Starts without a wait: the room that was made is still there."""
        filling: list[Allocation] = []
        try:
            for part in missing:
                filling.append(self._memory.allocate(part.size_bytes, name=part.name))
            fds = [memfd.reopen(allocation.fd, os.O_RDWR) for allocation in filling]
            await self._store.load(entry, missing, fds)
            for part in missing:
                sealed = self._memory.seal(filling[0], owner=entry.owner)
                filling.pop(0)
                if sealed != part:
                    self._memory.release(sealed.digest, owner=entry.owner)
                    raise ChildFailed("ArenaCorrupt", f"part {part.name} was read as {sealed}, not as {part}")
        finally:
            for allocation in filling:
                self._memory.abandon(allocation)

    def offer_as_before(self, entry: RevisionEntry) -> bool:
        """Give it the handle that workers knew it by, if none of them still has it under that."""
        last = entry.last_handle
        if last is None or self._roster.holders(last) or self._handover.is_retiring(last):
            return False
        return self._books.same_handle(entry)

    # --- how it ends ------------------------------------------------------------------------------------------------

    def proven(self, entry: RevisionEntry) -> None:
        """Its parts were proven here: they are what it comes back with, and are written to disk."""
        if entry.prepared != entry.parts:
            entry.prepared, entry.stored, entry.last_handle = entry.parts, False, None
        self._store.keep(entry)

    def keep(self, entry: RevisionEntry) -> None:
        """Its tier is another one: it may need its copy on disk from now on."""
        self._store.keep(entry)

    def ready(self, entry: RevisionEntry) -> None:
        """It became Ready: whoever waits is let in."""
        attempt = self._attempts.pop(entry.owner, None)
        if not entry.woken:
            return
        entry.woken = False
        self._room.rose(entry)
        voice = self._books.voices[str(entry.voice)]
        if voice.active is entry:
            self._speak(voice)
            self._waiting.pop(str(voice.name), None)
        if attempt is not None and not entry.commanded:
            took_s = time.monotonic() - attempt.began_s
            self._told.rose(attempt.source, took_s)
            logger.info("%s came up from %s in %.3f s", entry.owner, attempt.source, took_s)

    def rest_again(self, entry: RevisionEntry, reason: str, message: str) -> None:
        """It did not come up, through no fault of its own; the next request tries again."""
        self._attempts.pop(entry.owner, None)
        entry.woken = False
        self._told.stayed_down(reason)
        self._books.move(entry, RevisionPhase.COLD, reason=reason, message=message)
        self._books.record_revision(entry)
        if self._books.voices[str(entry.voice)].active is entry and str(entry.voice) in self._waiting:
            self._refuse(str(entry.voice), reason, message)

    def failed(self, entry: RevisionEntry) -> None:
        """It cannot be brought up."""
        if self._attempts.pop(entry.owner, None) is not None:
            self._told.stayed_down("Failed")
        entry.woken = False
        self.advance()

    def _speak(self, voice: VoiceEntry) -> None:
        if not self._switchboard.says(voice) and self._switchboard.can_say(voice):
            self._switchboard.say_again(voice)

    def _refuse(self, name: str, reason: str, message: str, *, retry_after_s: float | None = None) -> None:
        """Tell every worker that waits for the voice why it does not come."""
        namespace, _, short = name.partition("/")
        retry_s = self._policy.wait_s if retry_after_s is None else max(1.0, retry_after_s)
        answer = Unavailable(
            voice=VoiceName(namespace, short),
            reason=reason or "Cold",
            message=message[:_MESSAGE_CHARS],
            retry_after_s=retry_s,
        )
        for worker in self._waiting.pop(name).workers.values():
            if not worker.connection.closed:
                worker.send(answer)
