"""Who leads in a cluster: one operator at a time, by a Lease.

Separate from client libraries' elections because a fence is more than a lock: each tenure has a term of its own, kept
in the Lease, and a leader that was frozen must notice before it sends anything. What it rests on:

- Only clocks that run in this process are compared. A tenure is valid for `renew_deadline_s` after its last renewal
  was *sent*; others wait for `duration_s` after they *saw* the record unchanged. Their wait begins no earlier and lasts
  longer, so the one ends before the other, whatever the wall clocks say.
- Every write names the resourceVersion that was read: of two candidates the API server lets one win.
- Validity is asked for before each command and write (`LeaseFences.check`). A tenure that lapsed stays lapsed, even if
  the answer to its renewal was only late: another may have taken the Lease meanwhile.
- A Lease that was deleted, or whose holder was edited away, is waited for as one that is held: whoever leads may not
  know yet. Only a holder that gave it back says that nobody leads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from segue.errors import SegueError
from segue_operator.kubernetes.api import ApiUnavailable, ObjectConflict, ObjectNotFound, object_path
from segue_operator.kubernetes.lease_fences import LeaseFences
from segue_operator.kubernetes.lease_record import (
    LeaseName,
    Record,
    Tenure,
    given_back,
    held,
    micro_time,
    parse,
    unheld,
)
from segue_operator.leader import NotLeading

DRAIN_S = 1.0
"""How long a leader that hands over waits for what it has sent."""

RELEASE_S = 1.0
END_S = 20.0
ATTEMPTS = 3
"""Writes in a row that may find the Lease changed by somebody who does not lead, before it is given a rest."""

logger = logging.getLogger(__name__)

Lead = Callable[[LeaseFences], Coroutine[None, None, None]]


class Calls(Protocol):
    """The API server, as `api.Api` has it."""

    async def call(self, verb: str, path: str, *, body: Any = None, answer_s: float = ...) -> dict[str, Any]:
        """One request; the object it answers with."""
        ...


def boot_time_s() -> float:
    """A clock that nobody sets, and that goes on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTerms:
    """How the Lease is held.

    Attributes
    ----------
    duration_s
        How long others wait after the last sign of life.
    renew_deadline_s
        How long a leader that cannot renew goes on; the rest is for stopping.
    retry_s
        How often a leader renews; candidates look about twice as often.
    """

    duration_s: float = 15.0
    renew_deadline_s: float = 10.0
    retry_s: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.retry_s < self.renew_deadline_s < self.duration_s:
            raise SegueError(
                f"a Lease needs retryS < renewDeadlineS < durationS, not "
                f"{self.retry_s:g}, {self.renew_deadline_s:g}, {self.duration_s:g}"
            )


@dataclass(slots=True, kw_only=True)
class Election:
    """One candidate.

    Attributes
    ----------
    identity
        Of this process and no other: HOSTNAME_UID.
    owners
        Of a Lease that is made, as `ownerReferences`.
    leading
        Whether it leads now, for readiness and metrics.
    """

    api: Calls
    lease: LeaseName
    identity: str
    terms: LeaseTerms = LeaseTerms()
    clock: Callable[[], float] = boot_time_s
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    random: random.Random = field(default_factory=random.Random)
    owners: Callable[[], Sequence[Mapping[str, str]]] = tuple
    leading: bool = False
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _seen: Record | None = None
    _seen_since_s: float = 0.0
    _tenure: Tenure | None = None
    _record: Record | None = None
    _highest_term: int = 0
    _complaint: str = ""

    @property
    def holder(self) -> str:
        """Who leads, as far as it was seen; empty: nobody, or unknown."""
        return self.identity if self.leading else self._seen.holder if self._seen is not None else ""

    def stop(self) -> None:
        """Hand over: nothing new is sent, what is under way may end, and the Lease is given back."""
        self._stop.set()

    async def run(self, lead: Lead) -> None:
        """Lead whenever that is possible, until `stop`.

        Parameters
        ----------
        lead
            Commands and polls; is cancelled when the tenure ends. What it raises, but for `NotLeading`, is raised.
        """
        while not self._stop.is_set():
            fences = await self._acquire()
            if fences is None:
                return
            self.leading = True
            try:
                await self._lead(lead, fences)
            finally:
                self.leading = False

    # --- becoming the leader --------------------------------------------------------------------------------------

    async def _acquire(self) -> LeaseFences | None:
        """Wait for the Lease and take it; None when told to stop."""
        while not self._stop.is_set():
            try:
                fences = await self._take_if_free()
            except ObjectConflict as conflict:
                logger.debug("another candidate was faster: %s", conflict)
            except SegueError as error:
                self._complain(f"the Lease {self.lease.namespace}/{self.lease.name} cannot be had: {error}")
            else:
                self._complaint = ""
                if fences is not None:
                    return fences
            await self._pause(self.terms.retry_s * self.random.uniform(0.4, 0.6))
        return None

    async def _take_if_free(self) -> LeaseFences | None:
        record = await self._read() or await self._make()
        if not self._is_free(record):
            return None
        term = max(self._highest_term + 1, int(self.now().timestamp()))
        self._tenure = Tenure(holder=self.identity, acquired_at=micro_time(self.now()), term=term)
        began_s = self.clock()
        self._record = await self._write(self._tenure, over=record)
        until_s = began_s + self.terms.renew_deadline_s
        logger.info("leads with term %d as %s", term, self.identity)
        return LeaseFences(term=term, clock=self.clock, valid_until_s=until_s, write_term=self._outrun)

    def _is_free(self, record: Record) -> bool:
        """Whether nobody can be leading, to be asked as soon as the record was read."""
        if record.released or (self._tenure is not None and self._tenure.is_in(record)):
            return True  # given back, or ours, from a time when we led or an answer was lost
        if record != self._seen:
            if self._seen is None or (self._seen.holder, self._seen.term) != (record.holder, record.term):
                logger.info("waits for %s, term %d", record.holder or "a Lease without a holder", record.term)
            self._seen, self._seen_since_s = record, self.clock()
        return self.clock() - self._seen_since_s >= max(self.terms.duration_s, record.duration_s)

    # --- leading --------------------------------------------------------------------------------------------------

    async def _lead(self, lead: Lead, fences: LeaseFences) -> None:
        """Let it lead while the Lease is renewed; at the end nothing of it is left."""
        leading = asyncio.ensure_future(lead(fences))
        others = [asyncio.ensure_future(each) for each in (self._keep(fences), fences.ended.wait(), self._stop.wait())]
        try:
            await asyncio.wait({leading, *others}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in others:
                each.cancel()
            await self._step_down(fences, leading)
        for outcome in await asyncio.gather(*others, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome

    async def _step_down(self, fences: LeaseFences, leading: asyncio.Future[None]) -> None:
        """End a tenure, give the Lease back where it is still ours, and raise what `lead` ended with."""
        lapsed = _lapsed(fences)
        if leading.done() and not lapsed:
            self._stop.set()  # it came to an end of its own: there is nothing to lead
        fences.end("this operator hands over")
        if not lapsed:
            await fences.drained(within_s=DRAIN_S)
        leading.cancel()
        if not lapsed:
            await self._release()
        self._seen = None
        logger.info("leads no more: %s", fences.why)
        await asyncio.wait({leading}, timeout=END_S)
        if not leading.done():
            raise NotLeading(f"what was led does not end within {END_S:g} s; the process must")
        if not leading.cancelled() and (error := leading.exception()) is not None and not _means_not_leading(error):
            raise error

    async def _keep(self, fences: LeaseFences) -> None:
        """Renew until that is not possible any more."""
        while True:
            pause_s = self.terms.retry_s * self.random.uniform(0.75, 1.0) / (3 if self._complaint else 1)
            await asyncio.sleep(min(pause_s, max(0.0, fences.valid_until_s - self.clock())))
            try:
                fences.check()
                await self._renew(fences)
            except NotLeading:
                return
            except SegueError as error:
                self._complain(f"the Lease could not be renewed: {error}")
            else:
                self._complaint = ""

    async def _outrun(self, fences: LeaseFences, term: int) -> None:
        """Raise the term of the running tenure over `term`; see `leader.Fences`."""
        async with self._writing:
            if fences.term <= term:
                await self._renew_locked(fences, term=max(term + 1, int(self.now().timestamp())))
                logger.warning("term %d was seen; leads with term %d from now on", term, fences.term)

    async def _renew(self, fences: LeaseFences) -> None:
        async with self._writing:
            await self._renew_locked(fences, term=fences.term)

    async def _renew_locked(self, fences: LeaseFences, *, term: int) -> None:
        """Write the Lease under this term; edits by others are read and kept, but for those of another holder."""
        assert self._tenure is not None, "renewed without a tenure"
        tenure = replace(self._tenure, term=term)
        for _ in range(ATTEMPTS):
            began_s = self.clock()
            try:
                async with _at_most(fences.valid_until_s - began_s):
                    self._record = await self._write(tenure, over=self._record)
            except (ObjectConflict, ObjectNotFound):
                tenure = await self._look_again(fences, tenure)
                continue
            fences.extend(began_s + self.terms.renew_deadline_s)
            self._tenure, fences.term = tenure, tenure.term
            return
        raise ApiUnavailable(f"it changed {ATTEMPTS} times while it was written")

    async def _look_again(self, fences: LeaseFences, tenure: Tenure) -> Tenure:
        """After a conflict: whose is it now? A term that was raised meanwhile is kept."""
        async with _at_most(fences.valid_until_s - self.clock()):
            self._record = await self._read()
        if self._record is None or self._record.vacant:
            return tenure  # deleted, or its holder edited away: nobody takes it while we may lead
        if not tenure.is_in(self._record):
            fences.end(f"the Lease is held by {self._record.holder or 'nobody'} now")
            fences.check()
        return replace(tenure, term=max(tenure.term, self._record.term))

    async def _release(self) -> None:
        """Best effort: what is not released is waited for."""
        for _ in range(ATTEMPTS):
            if self._record is None or self._tenure is None or not self._tenure.is_in(self._record):
                return
            body = given_back(self._record, self._tenure, at=self.lease, now=self.now())
            try:
                async with _at_most(RELEASE_S):
                    await self._call("PUT", self._path(), body)
                return
            except ObjectConflict:
                with suppress(SegueError):
                    async with _at_most(RELEASE_S):
                        self._record = await self._read()
            except SegueError as error:
                logger.warning("the Lease could not be given back, others wait %g s: %s", self.terms.duration_s, error)
                return

    # --- the object -----------------------------------------------------------------------------------------------

    async def _read(self) -> Record | None:
        """The Lease as it is now; None where there is none."""
        try:
            record = await self._call("GET", self._path())
        except ObjectNotFound:
            return None
        self._highest_term = max(self._highest_term, record.term)
        return record

    async def _make(self) -> Record:
        """A Lease that nobody holds: what was never seen cannot be seen unchanged."""
        body = unheld(self.lease, duration_s=self.terms.duration_s, now=self.now(), owners=self.owners())
        return await self._call("POST", self._collection(), body)

    async def _write(self, tenure: Tenure, *, over: Record | None) -> Record:
        """Replace exactly what was read, or create what was not there."""
        body = held(
            tenure, at=self.lease, over=over, duration_s=self.terms.duration_s, now=self.now(), owners=self.owners()
        )
        self._highest_term = max(self._highest_term, tenure.term)
        verb, path = ("PUT", self._path()) if over is not None else ("POST", self._collection())
        return await self._call(verb, path, body)

    async def _call(self, verb: str, path: str, body: dict[str, Any] | None = None) -> Record:
        """One request, with time left for another in the same tenure."""
        answer_s = self.terms.renew_deadline_s / 3
        async with _at_most(answer_s):
            return parse(await self.api.call(verb, path, body=body, answer_s=answer_s))

    def _path(self) -> str:
        return f"{self._collection()}/{self.lease.name}"

    def _collection(self) -> str:
        return object_path("coordination.k8s.io", "v1", self.lease.namespace, "leases")

    def _complain(self, complaint: str) -> None:
        """Say what is wrong once, not every two seconds."""
        if complaint != self._complaint:
            logger.warning("%s", complaint)
        self._complaint = complaint

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()


@contextlib.asynccontextmanager
async def _at_most(seconds: float) -> AsyncIterator[None]:
    """Raise `ApiUnavailable` after `seconds`."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            yield
    except TimeoutError as error:
        raise ApiUnavailable(f"no answer within {max(0.0, seconds):.1f} s") from error


def _lapsed(fences: LeaseFences) -> bool:
    try:
        fences.check()
    except NotLeading:
        return True
    return False


def _means_not_leading(error: BaseException) -> bool:
    """Whether a task or a group of them ended because the tenure did."""
    if isinstance(error, BaseExceptionGroup):
        return all(_means_not_leading(each) for each in error.exceptions)
    return isinstance(error, (NotLeading, asyncio.CancelledError))
