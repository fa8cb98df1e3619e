"""What the sidecar does by the clock: beat, count, pace the children, judge open watches, tidy up.

Separate from the composition so that each round can be read by itself. A round that fails is logged and done again at
its next time; none of them may end the sidecar.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable

from segue.errors import CommandRefused, SegueError
from segue.memory.interface import WeightMemory
from segue.wire import RevisionPhase, WatchState
from segue_sidecar.books import Books
from segue_sidecar.commands import Commands
from segue_sidecar.config import Config
from segue_sidecar.contact import Contact
from segue_sidecar.deadman import Heard, Verdict, judge
from segue_sidecar.entries import VoiceEntry
from segue_sidecar.evidence import KEPT_S, Evidence
from segue_sidecar.handover import Handover
from segue_sidecar.journal import Journal
from segue_sidecar.reception import Reception
from segue_sidecar.recovery import reconcile
from segue_sidecar.residency import Residency
from segue_sidecar.switchboard import Switchboard
from segue_sidecar.throttle import Baseline, Gathered, Load, Pacer, next_duty
from segue_sidecar.tiers.room import Room
from segue_sidecar.workers import Roster, Worker, WorkerPhase

logger = logging.getLogger(__name__)

PACE_EVERY_S = 0.25
_SPARE_STEP_EVERY_S = 0.02
_SPARE_LOOK_EVERY_S = 1.0
_LOOKS = 12
_QUIET_ROUNDS = 4
_REMEMBERED_ROUNDS = 240
"""A minute. A preload is several children one after the other: what listeners bore beside one they bear beside the
next, and learning it anew takes eight requests each time."""


async def every(period_s: float, work: Callable[[], None]) -> None:
    """Do `work` now and then every `period_s`, until cancelled."""
    while True:
        try:
            work()
        except Exception:  # a round's outermost point: one that fails must not end the others
            logger.exception("%s failed; it is tried again in %g s", getattr(work, "__qualname__", work), period_s)
        await asyncio.sleep(period_s)


class Upkeep:
    """The round of each second."""

    def __init__(
        self,
        *,
        config: Config,
        books: Books,
        journals: tuple[Journal, ...],
        memory: WeightMemory,
        switchboard: Switchboard,
        handover: Handover,
        roster: Roster,
        reception: Reception,
        residency: Residency,
        room: Room,
        commands: Commands,
        evidence: Evidence,
        contact: Contact,
    ) -> None:
        self._config = config
        self._books = books
        self._journals = journals
        self._memory = memory
        self._switchboard = switchboard
        self._handover = handover
        self._roster = roster
        self._reception = reception
        self._residency = residency
        self._room = room
        self._commands = commands
        self._evidence = evidence
        self._contact = contact
        self._excused: dict[str, int] = {}

    def second(self) -> None:
        """Everything that is due once a second, the most urgent first."""
        if self._switchboard.page is not None:
            self._switchboard.page.beat(term=self._contact.term)
        self._evidence.expire(resident={(str(one.voice), one.revision) for one in self._books.revisions()})
        self._reception.bury_the_dead()
        self._judge_watches()
        self._end_hung_offers()
        self._tidy()
        self._evidence.journal_closed(self._in_rollout())
        for journal in self._journals:
            if journal.wants_compacting():
                journal.compact()

    def _in_rollout(self) -> frozenset[str]:
        return frozenset(name for name, voice in self._books.voices.items() if voice.watch or voice.said.candidate)

    def _judge_watches(self) -> None:
        """The dead-man rule: only while the operator is out of reach."""
        if self._contact.silent_s() < self._config.out_of_reach_s:
            return
        for voice in list(self._books.voices.values()):
            watch = voice.watch
            if watch is None or voice.said.active != watch.revision:
                continue
            verdict = self._judge(voice, watch)
            if verdict is None:
                self._excused.pop(str(voice.name), None)
            elif verdict.blamed:
                self._go_back(voice, verdict)
            else:
                self._excuse(voice, watch, verdict)

    def _judge(self, voice: VoiceEntry, watch: WatchState) -> Verdict | None:
        name, flipped_s = str(voice.name), watch.since_ns / 1e9
        heard = Heard(
            watched=self._evidence.buckets(name, watch.revision, since_s=flipped_s),
            previous=self._evidence.buckets(name, watch.previous, since_s=flipped_s - KEPT_S),
            others=self._evidence.others(name, since_s=flipped_s),
        )
        return judge(heard, watch.terms, flipped_s=flipped_s, now_s=time.time())

    def _go_back(self, voice: VoiceEntry, verdict: Verdict) -> None:
        try:
            self._commands.go_back(voice, verdict)
        except CommandRefused as error:
            logger.error("%s should go back by itself but cannot: %s", voice.name, error)

    def _excuse(self, voice: VoiceEntry, watch: WatchState, verdict: Verdict) -> None:
        """It fails, and is not to blame: said once, and held."""
        if self._excused.get(str(voice.name)) != watch.since_ns:
            self._excused[str(voice.name)] = watch.since_ns
            self._books.event("ErrorsElsewhereToo", verdict.message, voice=voice.name, warning=True)

    def _end_hung_offers(self) -> None:
        """A shadow that a worker does not answer for has failed; a joiner that does not answer is disconnected."""
        deadline_s = self._config.deadlines.offer_s
        for worker, handle in self._reception.hung(now_s=time.monotonic(), deadline_s=deadline_s):
            entry = self._books.by_handle(handle)
            if entry is not None and entry.phase is RevisionPhase.OFFERING:
                message = f"worker {worker.id} did not answer within {deadline_s:g} s"
                self._residency.fail(entry, "OfferTimedOut", message)
            else:
                self._disconnect(worker, deadline_s)

    def _disconnect(self, worker: Worker, deadline_s: float) -> None:
        worker.phase = WorkerPhase.STUCK
        worker.connection.close()
        message = f"worker {worker.id} answered no offer for {deadline_s:g} s: disconnected"
        self._books.event("WorkerHung", message, warning=True)

    def _tidy(self) -> None:
        self._memory.reap()
        self._books.write_owed()
        self._handover.sweep()
        for worker in self._roster.connected():
            self._handover.settle_worker(worker)
        for voice in list(self._books.voices.values()):
            try:
                reconcile(voice, self._switchboard, self._books)
            except SegueError as error:
                logger.error("the word of %s cannot be restored: %s", voice.name, error)
        self._commands.forget_released()
        if self._residency.settled:
            self._room.rest_idle()
        self._residency.advance()


class Pacing:
    """The round that counts what ended, and decides how much children may run."""

    def __init__(self, *, config: Config, pacer: Pacer, roster: Roster, evidence: Evidence) -> None:
        self._policy = config.throttle
        self._pacer = pacer
        self._roster = roster
        self._evidence = evidence
        self._looks: dict[str, deque[tuple[int, int]]] = {}
        self._quiet = Baseline()
        self._gathered = Gathered()
        self._rounds = 0
        self._without_children = 0

    def round(self) -> None:
        """Read how busy the workers are, and set the duty. Rows are read often only while children run."""
        self._rounds += 1
        busy = max([self._busy(worker) for worker in self._roster], default=0.0)
        self._without_children = 0 if self._pacer.children else self._without_children + 1
        between = Load(busy=busy, rounds=0 if self._without_children <= _REMEMBERED_ROUNDS else 1)
        if self._pacer.children == 0 and self._rounds % _QUIET_ROUNDS:
            self._pacer.set_duty(next_duty(self._pacer.duty, between, self._policy))
            return
        sample = self._evidence.sample(self._roster)
        if self._pacer.children:
            self._gathered.add(ended=sample.ended, latency_s=sample.latency_s)
            load = self._load_beside_children(busy)
        else:
            self._gathered.clear()
            self._quiet.add(ended=sample.ended, latency_s=sample.latency_s)
            load = between
        self._pacer.set_duty(next_duty(self._pacer.duty, load, self._policy))

    def _load_beside_children(self, busy: float) -> Load:
        quiet_s = self._quiet.mean_s
        if not quiet_s:
            return Load(busy=busy)
        verdict = self._gathered.verdict()
        if verdict is None:
            return Load(busy=busy, rounds=0)
        mean_s, rounds = verdict
        return Load(busy=busy, latency_ratio=mean_s / quiet_s, rounds=rounds)

    def _busy(self, worker: Worker) -> float:
        """Share of the last few seconds that a worker computed."""
        now_ns = time.monotonic_ns()
        looks = self._looks.setdefault(worker.id, deque(maxlen=_LOOKS))
        looks.append((now_ns, worker.stats.worker(now_ns=now_ns).busy_ns))
        passed_ns = now_ns - looks[0][0]
        return max(0.0, min(1.0, (looks[-1][1] - looks[0][1]) / passed_ns)) if passed_ns > 0 else 0.0


async def keep_spares(memory: WeightMemory, pacer: Pacer) -> None:
    """Fault in spares in small steps while nobody is busy, so that the next preload finds warm pages."""
    while True:
        grown = False
        if pacer.duty >= 1.0:
            try:
                grown = memory.grow_spare()
            except SegueError as error:
                logger.warning("no spare memory: %s", error)
        await asyncio.sleep(_SPARE_STEP_EVERY_S if grown else _SPARE_LOOK_EVERY_S)
