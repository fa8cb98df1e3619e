"""One sidecar: what it said last, and how that is kept fresh.

Separate from the fleet because each pod is polled by a task of its own: one that is slow or dead must not hold up what
we know of the others. A pod with an open rollout or watch is long-polled, and tells of the voices in question only; a
quiet one is read as a whole once a minute, and its connections are closed in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from segue.control import SidecarClient
from segue.errors import ControlUnreachable, SegueError, WrongPod
from segue.rollout import PodFacts, PodView
from segue.rollout.observe import ABSENT, Standing, unseen, view_standing
from segue.rollout.snapshot import Windows
from segue.wire import Fence, PodIdentity, StateDocument, VoiceState
from segue_operator.fleet.clock_offset import ClockOffset
from segue_operator.fleet.company import Company
from segue_operator.fleet.records import PodRecord
from segue_operator.fleet.standings import NO_FENCE, Held, shared

LONG_POLL_S = 20.0
FIRST_RETRY_S, LONGEST_RETRY_S = 0.1, 5.0
NEWS_S = 3.0
CLOCK_READS = 5
WELL_KNOWN_NS = 1_500_000
"""Before a flip at an instant a clock is asked for so often, unless it is known as well as this."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Sent:
    """The last command for a voice; `ended_at` in CLOCK_MONOTONIC seconds, infinite while it is on its way."""

    fence: Fence
    ended_at: float


@dataclass(slots=True, kw_only=True, eq=False)
class Pod:
    """A sidecar and what it said last.

    Attributes
    ----------
    client
        None: it has no address (yet), or is not polled any more; it cannot be asked anything.
    identity
        Who answered; None while it is out of reach.
    voices
        What it holds, by key.
    settled
        Whether its first read has ended, well or not.
    """

    record: PodRecord
    client: SidecarClient | None
    company: Company
    identity: PodIdentity | None = None
    voices: dict[str, Held] = field(default_factory=dict)
    offset: ClockOffset = field(default_factory=ClockOffset)
    settled: bool = False
    polled: bool = False
    _whole: str = ""
    _whole_etag: str = ""
    _whole_at: float = -math.inf
    _whole_due: float = -math.inf
    _etag: str = ""
    _part: frozenset[str] | None = frozenset()
    _part_at: dict[str, float] = field(default_factory=dict)
    _now_ns: int = 0
    _mistaken: bool = False
    _sent: dict[str, _Sent] = field(default_factory=dict)
    _close: set[str] = field(default_factory=set)
    _attention: asyncio.Event = field(default_factory=asyncio.Event)
    _failures: int = 0
    _cut_short: bool = False
    _shares: bool = False
    _awaited: list[asyncio.Future[None]] = field(default_factory=list)
    _views: dict[str, PodView] = field(default_factory=dict)

    @property
    def uid(self) -> str:
        """Of the pod."""
        return self.record.facts.uid

    @property
    def name(self) -> str:
        """What people call it."""
        return self.record.facts.name

    def describe(self, record: PodRecord) -> bool:
        """Take what the cluster says now; whether that is something else for the engine."""
        changed = _without_name(record.facts) != _without_name(self.record.facts)
        self.record = record
        self._views.clear()
        return changed

    # --- what the engine sees -------------------------------------------------------------------------------------

    def view(self, voice: str, voice_uid: str, *, engine: str, windows: Windows | None = None) -> PodView:
        """The pod as this voice finds it; out of reach where what it said last is older than our last command."""
        if self.identity is None or not self.is_current(voice):
            return self._kept("", unseen)
        standing = self.standing(voice, voice_uid)
        if standing is ABSENT and windows is None:
            return self._kept(engine, lambda facts: self._described(facts, ABSENT, engine, None))
        return self._described(self.record.facts, standing, engine, windows)

    def standing(self, voice: str, voice_uid: str) -> Standing:
        """How the voice stands; a voice of another uid was deleted, and its place is free."""
        held = self.voices.get(voice)
        return held.standing if held is not None and held.standing.uid == voice_uid else ABSENT

    def serves(self, voice: str, voice_uid: str) -> bool:
        """Whether the voice lives here, and the pod can be asked for it."""
        return self.identity is not None and self.standing(voice, voice_uid).pointer.active is not None

    def is_awake(self, voice: str) -> bool:
        """Whether somebody has the voice ready here, or loads it."""
        held = self.voices.get(voice)
        return held is not None and not all(each.rests for each in held.standing.revisions.values())

    def _described(self, facts: PodFacts, standing: Standing, engine: str, windows: Windows | None) -> PodView:
        assert self.identity is not None
        return view_standing(facts, self.identity, standing, engine=engine, windows=windows)

    def _kept(self, key: str, make: Callable[[PodFacts], PodView]) -> PodView:
        """A view that is the same for every voice, made once."""
        found = self._views.get(key)
        if found is None:
            found = self._views[key] = make(self.record.facts)
        return found

    # --- commands -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def sending(self, voice: str, fence: Fence) -> Iterator[SidecarClient]:
        """Around a command, whatever comes of it: what was read before counts no more.

        Raises
        ------
        ControlUnreachable
            The pod has no address, or is not polled any more.
        """
        if self.client is None or self._mistaken:
            raise ControlUnreachable(f"pod {self.name} cannot be asked anything now")
        self._sent[voice] = _Sent(fence, ended_at=math.inf)
        try:
            yield self.client
        except WrongPod as error:
            self._mistake(error)
            raise
        finally:
            if self._sent[voice].fence == fence:
                self._sent[voice] = _Sent(fence, ended_at=time.monotonic())

    def is_current(self, voice: str) -> bool:
        """Whether what is known has seen our last command for the voice.

        It has when it shows the command's fence, or when it was asked for after the command had ended (one that was
        refused, or whose answer was lost, leaves no fence).
        """
        if self.identity is None:
            return False
        sent = self._sent.get(voice)
        if sent is None or self._asked_at(voice) > sent.ended_at:
            return True
        held = self.voices.get(voice)
        return (held.fence if held is not None else NO_FENCE) >= sent.fence

    def is_moving(self, voice: str, voice_uid: str) -> bool:
        """Whether something is on its way: our last command was not seen yet, or a revision is brought up or let go."""
        if self.identity is None:
            return False
        revisions = self.standing(voice, voice_uid).revisions.values()
        return not self.is_current(voice) or any(not (each.ready or each.failed) for each in revisions)

    async def tell_time(self) -> None:
        """Have the clock known well for a flip at an instant, where a few quick reads can do that.

        Few pods at a time: what waits in our own loop looks like a long round trip.
        """
        for _ in range(CLOCK_READS):
            known = self.offset.uncertainty_ns(time.time_ns())
            if self.client is None or (known is not None and known <= WELL_KNOWN_NS):
                return
            async with self.company.clocks:
                await self.client.state(since=self._etag or None, voices=sorted(self._close), term=self.company.term())

    # --- reading --------------------------------------------------------------------------------------------------

    @property
    def followed(self) -> frozenset[str]:
        """Voices that are long-polled for."""
        return frozenset(self._close)

    def follow(self, voice: str, *, closely: bool) -> None:
        """Long-poll while any voice asks for it."""
        if closely and voice not in self._close:
            self._close.add(voice)
            self._attention.set()
        elif not closely:
            self._close.discard(voice)

    async def renew(self, voice: str) -> None:
        """Read the voice, if what is known has not seen our last command; a pod that is polled and lost is left."""
        if self.client is None or self._mistaken or (self.polled and self.identity is None):
            return
        if self._cut_short and voice in self._close:
            await self._next_news()
        if self.is_current(voice):
            return
        try:
            async with self.company.reads:
                if self.identity is None:
                    await self._read_whole()
                else:
                    await self._read_part(frozenset({voice}), since=None, wait_s=0.0)
        except SegueError as error:
            self._lost(error)

    async def _next_news(self) -> None:
        """The long-poll, which begins anew in a moment, brings what is to be known."""
        news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._awaited.append(news)
        await asyncio.wait({news}, timeout=NEWS_S)

    async def poll(self) -> None:
        """Keep what is known fresh for as long as the pod has this address."""
        self.polled = True
        while not self._mistaken:
            try:
                await self._look()
            except WrongPod as error:
                self._mistake(error)
            except SegueError as error:
                self._lost(error)
                await asyncio.sleep(self._retry_s())
            else:
                await self._rest()
        await asyncio.get_running_loop().create_future()  # until the record changes

    async def leave(self) -> None:
        """Ask nothing any more; close what is open."""
        self.polled = False
        client, self.client = self.client, None
        if client is not None:
            await client.aclose()

    async def _look(self) -> None:
        if not self._close or self.identity is None or time.monotonic() >= self._whole_due:
            async with self.company.reads:
                await self._read_whole()
            return
        if self._shares:  # a long-poll that begins now would be ended by the command that is on its way
            await self.company.lull.quiet()
        wanted = frozenset(self._close)
        known = bool(self._etag) and (self._part is None or wanted <= self._part)
        began_at = time.monotonic()
        etag = await self._read_part(wanted, since=self._etag if known else None, wait_s=LONG_POLL_S if known else 0.0)
        self._etag, self._part = etag or self._etag, wanted
        self._cut_short = etag is None and time.monotonic() - began_at < LONG_POLL_S / 2
        if self._cut_short:  # by a command of ours on the same connection
            self._shares = True
            await self.company.lull.wait()

    async def _rest(self) -> None:
        """A minute or so, or until a voice asks for more."""
        if self._close:
            return
        self._attention.clear()
        if self.client is not None:
            self.client.rest()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self._whole_due - time.monotonic())):
                await self._attention.wait()

    async def _read_whole(self) -> None:
        """Everything that the pod holds, if that is something else than the last time."""
        asked_at = time.monotonic()
        unchanged = self._whole_etag if self._etag == self._whole_etag and self.identity is not None else None
        found = await self._client().state(since=unchanged or None, term=self.company.term())
        self._answered()
        self._whole_at = asked_at
        self._whole_due = time.monotonic() + self.company.idle_poll_s * random.uniform(0.75, 1.25)
        self._part_at = {voice: at for voice, at in self._part_at.items() if at > asked_at}
        self._sent = {voice: sent for voice, sent in self._sent.items() if sent.ended_at >= asked_at}
        self._part = None
        if found is not None:
            self._whole_etag = self._etag = found.etag
            self._take(found, asked_at, only=None)

    async def _read_part(self, voices: frozenset[str], *, since: str | None, wait_s: float) -> str | None:
        """These voices only; the ETag of the answer, None where nothing changed."""
        asked_at = time.monotonic()
        found = await self._client().state(since=since, wait_s=wait_s, voices=sorted(voices), term=self.company.term())
        self._answered()
        if self.identity is None:
            return None  # lost meanwhile: only a reading of everything brings it back
        if found is not None:
            self._take(found, asked_at, only=voices)
        for voice in voices:
            self._part_at[voice] = max(asked_at, self._part_at.get(voice, -math.inf))
        return found.etag if found is not None else None

    def _client(self) -> SidecarClient:
        if self.client is None:
            raise ControlUnreachable(f"pod {self.name} cannot be asked anything now")
        return self.client

    def _asked_at(self, voice: str) -> float:
        return max(self._whole_at, self._part_at.get(voice, -math.inf))

    def _answered(self) -> None:
        self._failures = 0
        self.settled = True

    def _take(self, found: StateDocument, asked_at: float, *, only: frozenset[str] | None) -> None:
        """Make this what is known, and tell who cares."""
        names = (self.voices.keys() | found.voices.keys()) if only is None else only
        late = found.now_ns < self._now_ns
        changed = set()
        for name in names:
            if late and asked_at < self._asked_at(name):
                continue  # an answer that was asked for later is here already
            state, before = found.voices.get(name), self.voices.get(name)
            after = self.company.standings.of(state) if state is not None else None
            if after != before:
                changed.add(name)
                self._put(name, after)
                self._tell_dropped(name, state)
        self._now_ns = max(found.now_ns, self._now_ns) if late else found.now_ns
        self._tell_news()
        self.company.listener.saw_state(self.uid, found, only=only)
        whole = f"{found.pod.model_dump_json()} {[worker.model_dump_json() for worker in found.workers]}"
        if self.identity is None or whole != self._whole:
            self.identity, self._whole = found.pod, whole
            self._views.clear()
            self.company.on_change(self, None)
        elif changed:
            self.company.on_change(self, frozenset(changed))

    def _tell_news(self) -> None:
        self._cut_short = False
        awaited, self._awaited = self._awaited, []
        for news in awaited:
            if not news.done():
                news.set_result(None)

    def _tell_dropped(self, name: str, state: VoiceState | None) -> None:
        """An armed flip that was not carried out: its state stays, and is told once for each time that it changes."""
        outcome = state.armed_outcome if state is not None else None
        if outcome is not None and outcome.reason:
            self.company.on_dropped(self, name, outcome)

    def _put(self, name: str, held: Held | None) -> None:
        held_before = name in self.voices
        if held is None:
            self.voices.pop(name, None)
        else:
            self.voices[shared(name)] = held
        if held_before is not (held is not None):
            self.company.on_held(self, shared(name))

    def _mistake(self, error: SegueError) -> None:
        """Another pod has this address: ours is out of reach until the cluster says where it is."""
        self._mistaken = True
        self._lost(error)

    def _lost(self, error: SegueError) -> None:
        self._failures += 1
        first = not self.settled
        self.settled = True
        if self.identity is not None or first:
            level = logging.INFO if self.record.facts.terminating else logging.WARNING
            logger.log(level, "sidecar of pod %s is out of reach: %s", self.name, error, extra={"pod": self.uid})
        if self.identity is not None or first:
            self.forget()
            self.company.listener.lost(self.uid)
            self.company.on_change(self, None)

    def forget(self) -> None:
        """Nothing that it said counts any more: it is out of reach until it answers again."""
        self.identity = None
        self._tell_news()
        self._whole_etag = self._etag = ""
        self._part = frozenset()
        self._views.clear()

    def _retry_s(self) -> float:
        ceiling = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(self._failures - 1, 10))
        return random.uniform(ceiling / 2, ceiling)


def _without_name(facts: PodFacts) -> tuple[object, ...]:
    return facts.created_at, facts.ready, facts.ready_since, facts.terminating
