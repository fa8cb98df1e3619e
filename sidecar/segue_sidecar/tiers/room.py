"""Room in the pool: who leaves memory for whom, and who leaves it because nobody asked for long.

A revision that leaves stops speaking first (its word goes cold), then the workers let it go; its memory counts until
the kernel says that nobody holds it, so rows that still speak keep it. What the books know of it stays.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from enum import StrEnum

from segue.errors import PoolExhausted
from segue.memory.eviction import Resident, choose_evictions
from segue.memory.interface import WeightMemory
from segue.wire import RevisionPhase, Tier
from segue_sidecar.books import Books
from segue_sidecar.entries import RevisionEntry
from segue_sidecar.handover import Handover
from segue_sidecar.switchboard import Switchboard
from segue_sidecar.tiers.rule import may_rest, standing

logger = logging.getLogger(__name__)

Uses = Callable[[str, str], tuple[float, float]]
"""Voice and revision to (decayed uses, monotonic seconds of the last one)."""

_STAYS_AT_LEAST_S = 0.5
"""All that waited for the voice are let in within this time, in every worker."""
_STAYS_UNUSED_S = 10.0
"""Whoever asked for it has left."""
_LOOK_EVERY_S, _LOOK_AGAIN_S = 0.01, 0.1


class Why(StrEnum):
    """Why a revision left memory; the label of the metric."""

    ROLLOUT = "rollout"
    REQUEST = "request"
    IDLE = "idle"


class Room:
    """Makes it."""

    def __init__(
        self,
        *,
        books: Books,
        memory: WeightMemory,
        handover: Handover,
        switchboard: Switchboard,
        uses: Uses,
        idle_s: float,
        on_left: Callable[[str], None],
        staying: Callable[[], Iterable[Resident]] = tuple,
    ) -> None:
        """Make room in a pool.

        Parameters
        ----------
        idle_s
            See the configuration.
        on_left
            Told why each revision left.
        staying
            What lies in the pool beside revisions, so that nobody is evicted in the hope of its bytes.
        """
        self._books = books
        self._memory = memory
        self._handover = handover
        self._switchboard = switchboard
        self._uses = uses
        self._idle_s = idle_s
        self._on_left = on_left
        self._staying = staying
        self._rose_s: dict[str, float] = {}
        self._began_s = time.monotonic()

    # --- for others -------------------------------------------------------------------------------------------------

    def make_now(self, entry: RevisionEntry, needed_bytes: int) -> None:
        """Evict what may go, if that is enough; what workers still map is free only later."""
        self._evict(needed_bytes, _whose(entry), for_request=entry.for_request)

    def make_for(self, needed_bytes: int, whose: str) -> None:
        """As `make_now`, for something that is no revision."""
        self._evict(needed_bytes, whose, for_request=False)

    def could(self, entry: RevisionEntry, needed_bytes: int) -> bool:
        """Whether it is worth a try: there is room, or somebody may go."""
        if self._memory.usage().free_bytes >= needed_bytes:
            return True
        return self._missing(needed_bytes) > 0 and bool(self._choose(needed_bytes, for_request=entry.for_request))

    async def make(self, entry: RevisionEntry, needed_bytes: int, *, patience_s: float) -> None:
        """Make room and wait until it is free. It is, when this returns: take it before anything is awaited.

        Raises
        ------
        PoolExhausted
            Nobody may go, or what went is still spoken with, for `patience_s`; carries the figures.
        """
        ends_s = time.monotonic() + patience_s
        while True:
            self.make_now(entry, needed_bytes)
            if self._memory.usage().free_bytes >= needed_bytes:
                return
            if time.monotonic() >= ends_s or needed_bytes > self._memory.usage().budget_bytes:
                raise self._exhausted(entry, needed_bytes)
            # Workers, the kernel and a thread give memory back, and none of them says when.
            await asyncio.sleep(_LOOK_EVERY_S if self._missing(needed_bytes) <= 0 else _LOOK_AGAIN_S)

    def rose(self, entry: RevisionEntry) -> None:
        """It was brought up for a request: it stays until it has spoken."""
        self._rose_s[entry.owner] = time.monotonic()

    # --- for nobody -------------------------------------------------------------------------------------------------

    def rest_idle(self) -> None:
        """Once a second: voices that are not hot, and that nobody has asked for long, go where their tier is."""
        if not self._idle_s:
            return
        for voice in list(self._books.voices.values()):
            for entry in list(voice.revisions.values()):
                if entry.phase is RevisionPhase.READY and may_rest(entry, voice) and self._is_idle(entry):
                    warm = entry.request.tier is Tier.WARM
                    self._rest(entry, RevisionPhase.WARM if warm else RevisionPhase.COLD, Why.IDLE, "Idle", "")

    def _is_idle(self, entry: RevisionEntry) -> bool:
        _, last_used_s = self._uses(str(entry.voice), entry.revision)
        ready_s = time.monotonic() - (time.time_ns() - entry.since_ns) / 1e9
        return time.monotonic() - max(last_used_s, ready_s, self._began_s) > self._idle_s

    # --- inside -----------------------------------------------------------------------------------------------------

    def _missing(self, needed_bytes: int) -> int:
        usage = self._memory.usage()
        return needed_bytes - usage.free_bytes - usage.lingering_bytes

    def _evict(self, needed_bytes: int, whose: str, *, for_request: bool) -> None:
        for owner in self._choose(needed_bytes, for_request=for_request) or ():
            victim = next(one for one in self._books.revisions() if one.owner == owner)
            self._leave(victim, whose, Why.REQUEST if for_request else Why.ROLLOUT)
        self._memory.reap()

    def _choose(self, needed_bytes: int, *, for_request: bool) -> tuple[str, ...] | None:
        missing = self._missing(needed_bytes)
        if missing <= 0:
            return ()
        residents = self._residents(for_request=for_request)
        return choose_evictions(residents, needed_bytes=missing, now_s=time.monotonic())

    def _residents(self, *, for_request: bool) -> list[Resident]:
        found = list(self._staying())
        for entry in self._books.revisions():
            if not entry.parts:
                continue
            voice = self._books.voices[str(entry.voice)]
            stands = standing(entry, voice, settling=self._is_settling(entry), for_request=for_request)
            uses, last_used_s = self._uses(str(entry.voice), entry.revision)
            found.append(
                Resident(
                    revision=entry.owner,
                    parts={part.digest: part.size_bytes for part in entry.parts},
                    protected=stands.protected,
                    uses=uses,
                    last_used_s=last_used_s,
                    rank=stands.rank,
                )
            )
        return found

    def _is_settling(self, entry: RevisionEntry) -> bool:
        rose_s = self._rose_s.get(entry.owner)
        if rose_s is None:
            return False
        _, last_used_s = self._uses(str(entry.voice), entry.revision)
        stayed_s = time.monotonic() - rose_s
        settling = stayed_s < (_STAYS_AT_LEAST_S if last_used_s > rose_s else _STAYS_UNUSED_S)
        if not settling:
            del self._rose_s[entry.owner]
        return settling

    def _leave(self, victim: RevisionEntry, whose: str, why: Why) -> None:
        """One makes room for another."""
        message = f"made room for {whose}"
        if why is Why.ROLLOUT:
            self._books.event("Evicted", f"revision {victim.revision[:10]} {message}", voice=victim.voice)
        if victim.request.tier is not Tier.HOT:
            self._rest(victim, RevisionPhase.COLD, why, "Evicted", message)
            return
        self._books.move(victim, RevisionPhase.RETIRING, reason="Evicted")
        self._handover.retire(victim, forget=True)
        self._on_left(why)

    def _rest(self, entry: RevisionEntry, to: RevisionPhase, why: Why, reason: str, message: str) -> None:
        """The word first, then the workers, then the memory unless it is to stay warm."""
        voice, parts = self._books.voices[str(entry.voice)], entry.parts
        if voice.active is entry:
            self._switchboard.sleep(voice)
        if entry.handle is not None:
            entry.last_handle = entry.handle if parts == entry.prepared else None
        self._rose_s.pop(entry.owner, None)
        self._handover.retire(entry, forget=False)
        if to is RevisionPhase.WARM:
            for part in parts:
                self._memory.retain(part.digest, owner=entry.owner)
            entry.parts = parts
        self._books.move(entry, to, reason=reason, message=message)
        self._books.record_revision(entry)
        self._on_left(why)
        logger.info("%s is %s now: %s", entry.owner, to.lower(), message or "nobody asked for it")

    def _exhausted(self, entry: RevisionEntry, needed_bytes: int) -> PoolExhausted:
        usage = self._memory.usage()
        free_bytes = max(0, usage.free_bytes)
        return PoolExhausted(
            f"{entry.voice} needs {_mib(needed_bytes)}, but {_mib(free_bytes)} of the pool's "
            f"{_mib(usage.budget_bytes)} are free ({_mib(usage.lingering_bytes)} more when what was let go is back), "
            "and nobody else may go: raise the budget, or make fewer voices hot",
            needed_bytes=needed_bytes,
            free_bytes=free_bytes,
            budget_bytes=usage.budget_bytes,
        )


def _whose(entry: RevisionEntry) -> str:
    return f"{entry.voice} {entry.revision[:10]}"


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):.1f} MiB"
