"""One sidecar: its latest state, and how that is kept fresh.

Separate from the fleet because each pod is polled by a task of its own: one that is slow or dead must not hold up what
we know of the others. A pod with an open rollout or watch is long-polled; a quiet one is read once a minute, and its
connection closed in between.
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
from segue.errors import SegueError
from segue.wire import Fence, StateDocument, VoiceState
from segue_operator.fleet.clock_offset import ClockOffset

LONG_POLL_S = 20.0
FIRST_RETRY_S, LONGEST_RETRY_S = 0.1, 5.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Sent:
    """The last command for a voice; `ended_at` in CLOCK_MONOTONIC seconds, infinite while it is on its way."""

    fence: Fence
    ended_at: float


@dataclass(slots=True, kw_only=True)
class Pod:
    """A sidecar and what it said last.

    Attributes
    ----------
    term
        The leader's term now; sent with every read, as contact.
    on_change
        Called with the voices whose state is another one than before; None when the pod came into or fell out of
        reach, or changed as a whole.
    """

    uid: str
    name: str
    client: SidecarClient
    term: Callable[[], int]
    idle_poll_s: float
    on_change: Callable[[frozenset[str] | None], None]
    state: StateDocument | None = None
    offset: ClockOffset = field(default_factory=ClockOffset)
    random: random.Random = field(default_factory=random.Random)
    _sent: dict[str, _Sent] = field(default_factory=dict)
    _asked_at: float = 0.0
    _close: set[str] = field(default_factory=set)
    _attention: asyncio.Event = field(default_factory=asyncio.Event)
    _failures: int = 0

    def follow(self, voice: str, *, closely: bool) -> None:
        """Long-poll while any voice asks for it."""
        if closely and voice not in self._close:
            self._close.add(voice)
            self._attention.set()
        elif not closely:
            self._close.discard(voice)

    @contextlib.contextmanager
    def sending(self, voice: str, fence: Fence) -> Iterator[None]:
        """Around a command, whatever comes of it: what was read before counts no more."""
        self._sent[voice] = _Sent(fence, ended_at=math.inf)
        try:
            yield
        finally:
            if self._sent[voice].fence == fence:
                self._sent[voice] = _Sent(fence, ended_at=time.monotonic())

    def is_current(self, voice: str) -> bool:
        """Whether the cached state has seen our last command for the voice.

        It has when it shows the command's fence, or when it was asked for after the command had ended (one that was
        refused, or whose answer was lost, leaves no fence).
        """
        if self.state is None:
            return False
        sent = self._sent.get(voice)
        if sent is None or self._asked_at > sent.ended_at:
            return True
        return fence_of(self.state.voices.get(voice)) >= sent.fence

    async def current(self, voice: str) -> StateDocument | None:
        """A state that has seen our last command for the voice; None while out of reach."""
        if not self.is_current(voice):
            try:
                await self._read(since=None, wait_s=0.0)
            except SegueError as error:
                self._lost(error)
        return self.state if self.is_current(voice) else None

    async def poll(self) -> None:
        """Keep the state fresh for as long as the operator runs."""
        while True:
            try:
                since = self.state.etag if self.state is not None and self._close else None
                await self._read(since=since, wait_s=LONG_POLL_S if since else 0.0)
            except SegueError as error:
                self._lost(error)
                await asyncio.sleep(self._retry_s())
                continue
            if not self._close:
                await self._rest()

    async def _rest(self) -> None:
        """A minute or so, or until a voice asks for more."""
        self._attention.clear()
        if self._close:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self.idle_poll_s * self.random.uniform(0.75, 1.25)):
                await self._attention.wait()

    async def _read(self, *, since: str | None, wait_s: float) -> None:
        sent_ns, asked_at = time.time_ns(), time.monotonic()
        found = await self.client.state(since=since, wait_s=wait_s, term=self.term())
        if found is None:
            return
        if wait_s == 0.0:
            self.offset.add(sent_ns=sent_ns, received_ns=time.time_ns(), pod_ns=found.now_ns)
        self._failures = 0
        overtaken = asked_at < self._asked_at and self.state is not None and found.now_ns < self.state.now_ns
        if not overtaken:
            self._asked_at = max(asked_at, self._asked_at)
            self._take(found)

    def _take(self, found: StateDocument) -> None:
        """Make this the latest state, and tell who cares."""
        previous, self.state = self.state, found
        if previous is None or previous.workers != found.workers or previous.pod != found.pod:
            self.on_change(None)
            return
        names = previous.voices.keys() | found.voices.keys()
        changed = frozenset(name for name in names if previous.voices.get(name) != found.voices.get(name))
        if changed:
            self.on_change(changed)

    def _lost(self, error: SegueError) -> None:
        self._failures += 1
        if self.state is not None or self._failures == 1:
            logger.warning("sidecar of pod %s is out of reach: %s", self.name, error, extra={"pod": self.uid})
        if self.state is not None:
            self.state = None
            self.on_change(None)

    def _retry_s(self) -> float:
        ceiling = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(self._failures - 1, 10))
        return self.random.uniform(ceiling / 2, ceiling)


def fence_of(voice: VoiceState | None) -> Fence:
    """The highest fence that the pod has seen for a voice; the lowest there is where it knows none."""
    with suppress(ValueError):
        if voice is not None:
            return Fence.parse(voice.fence)
    return Fence(0, 0)
