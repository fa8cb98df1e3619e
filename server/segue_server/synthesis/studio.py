"""Where requests become answers: cache, single flight, queue bound and mirrors around the flights.

Separate from the API so that all of it can be tested without HTTP. `speak` is one synchronous block from admission to
submission: nothing can be flipped, retired or joined in between.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeAlias

from segue.memory.stats import StatsPage
from segue.memory.stats_layout import Outcome, WorkerCell
from segue_server.revisions.resident import Resident
from segue_server.synthesis.attempt import Attempt
from segue_server.synthesis.cache import CachedSpeech, ResultCache
from segue_server.synthesis.desk import Desk
from segue_server.synthesis.engine_thread import EngineThread
from segue_server.synthesis.failures import QueueFull
from segue_server.synthesis.flight import Flight, FlightCrew, FlightState, Reader
from segue_server.synthesis.measuring import MeasuringRoom
from segue_server.synthesis.rows import Priority, RowEnd, Samples
from segue_server.synthesis.spec import Listener, SpeechSpec, keys_of, synthesis_request

MIRRORS_AT_ONCE = 4

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """Answered from the cache."""

    revision: str
    speech: CachedSpeech


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """Being made. `fresh`: this request began it."""

    flight: Flight
    reader: Reader
    fresh: bool


Answer: TypeAlias = Hit | Joined


class Backlog:
    """How much work waits, in seconds, learned from what was done.

    A bound in requests alone would let a queue of novels time out: what is over `max_wait_s` is refused as well.
    """

    def __init__(self, *, limit: int, max_wait_s: float) -> None:
        """At most `limit` unfinished requests."""
        self._limit = limit
        self._max_wait_s = max_wait_s
        self._chars = 0
        self._seconds_per_char = 0.0
        self.requests = 0

    def wait_s(self) -> float:
        """How long all that waits will take."""
        return self._chars * self._seconds_per_char

    def enter(self, chars: int) -> None:
        """One more.

        Raises
        ------
        QueueFull
            One too many; says when to come again.
        """
        wait_s = self.wait_s()
        if self.requests >= self._limit:
            raise QueueFull(f"{self.requests} requests are waiting already", retry_after_s=max(1.0, wait_s / 2))
        if wait_s > self._max_wait_s:
            raise QueueFull(f"{wait_s:.0f} s of work are waiting already", retry_after_s=max(1.0, wait_s / 2))
        self.requests += 1
        self._chars += chars

    def leave(self, chars: int) -> None:
        """One less."""
        self.requests -= 1
        self._chars -= chars

    def learn(self, *, busy_s: float, chars: int) -> None:
        """The engine took `busy_s` for `chars` of finished text."""
        if chars > 0:
            measured = busy_s / chars
            known = self._seconds_per_char
            self._seconds_per_char = measured if known == 0.0 else 0.8 * known + 0.2 * measured


class Studio:
    """Answers requests. Belongs to the loop."""

    def __init__(
        self,
        desk: Desk,
        *,
        engine: EngineThread,
        measuring: MeasuringRoom,
        codec: Executor,
        cache: ResultCache,
        stats: StatsPage,
        backlog: Backlog,
        deadline_s: float,
        busy_s: Callable[[], float],
    ) -> None:
        """`busy_s` is the engine thread's busy time so far, in seconds."""
        self._desk = desk
        self._measuring = measuring
        self._cache = cache
        self._stats = stats
        self._backlog = backlog
        self._busy_s = busy_s
        self._learned_busy_s = 0.0
        self._spoken_chars = 0
        self._flights: dict[bytes, Flight] = {}
        self._in_flight: set[Flight] = set()
        self._mirrors: set[_Mirror] = set()
        self._crew = FlightCrew(
            engine=engine,
            measuring=measuring,
            codec=codec,
            fallback=desk.fallback,
            deadline_s=deadline_s,
            largest_bytes=max(cache.largest_bytes, 1 << 20),
            landed=self._landed,
        )

    @property
    def waiting(self) -> int:
        """Unfinished answers."""
        return self._backlog.requests

    def speak(self, spec: SpeechSpec, listener: Listener) -> Answer:
        """Admit a request and answer it from the cache, from a flight under way, or from a new one.

        Raises
        ------
        Unserved
            Turned away: unknown voice, unknown pin, cold voice, full queue.
        """
        admission = self._desk.admit(spec, listener)
        resident = admission.resident
        try:
            keys = keys_of(spec, revision=resident.ref.revision, engine_build=resident.engine_build)
            answer = self._known_answer(keys.result, resident) if spec.use_cache else None
            if answer is not None:
                resident.unpin()
                return answer
            if spec.references:
                self._measuring.expect_room()
            self._backlog.enter(len(spec.text))
        except BaseException:
            resident.unpin()
            raise
        flight = Flight(spec, admission, keys=keys, crew=self._crew)
        self._in_flight.add(flight)
        if spec.use_cache:
            self._flights[keys.result] = flight
        return Joined(flight=flight, reader=flight.join(), fresh=True)

    def purge(self, revision: str) -> None:
        """The revision failed: nothing that it said is served again."""
        dropped = self._cache.purge(revision)
        self._flights = {key: flight for key, flight in self._flights.items() if flight.speaker.revision != revision}
        log.info("purged %d results of revision %s", dropped, revision[:10])
        self._note_cache()

    def _known_answer(self, key: bytes, resident: Resident) -> Answer | None:
        speech = self._cache.get(key)
        if speech is not None:
            resident.stats.cache_hit()
            return Hit(revision=speech.revision, speech=speech)
        flight = self._flights.get(key)
        if flight is not None and flight.joinable:
            return Joined(flight=flight, reader=flight.join(), fresh=False)
        return None

    def _landed(self, flight: Flight) -> None:
        self._in_flight.discard(flight)
        self._backlog.leave(len(flight.spec.text))
        if self._flights.get(flight.keys.result) is flight:
            del self._flights[flight.keys.result]
            if flight.cacheable:
                self._cache.put(flight.keys.result, flight.result)
                self._note_cache()
        if flight.state is FlightState.COMPLETE:
            self._learn(len(flight.spec.text))
            self._mirror(flight)

    def _learn(self, chars: int) -> None:
        """Every few texts, see what the engine took for them."""
        self._spoken_chars += chars
        if self._spoken_chars >= 200:
            busy_s = self._busy_s()
            self._backlog.learn(busy_s=busy_s - self._learned_busy_s, chars=self._spoken_chars)
            self._learned_busy_s, self._spoken_chars = busy_s, 0

    def _mirror(self, flight: Flight) -> None:
        """After a listener was served, give the candidate a copy of the request. Its answer is thrown away."""
        handle = flight.admission.mirror
        if handle is None:
            return
        if len(self._mirrors) >= MIRRORS_AT_ONCE:
            self._stats.count(WorkerCell.MIRRORS_DROPPED)
            return
        resident = self._desk.mirror(handle)
        if resident is None:
            return
        mirror = _Mirror(self._mirrors.discard)
        self._mirrors.add(mirror)
        request = synthesis_request(flight.spec, seed=flight.keys.seed, language=resident.ref.language)
        attempt = Attempt(resident, request, owner=mirror, priority=Priority.MIRROR)
        self._measuring.submit(attempt.row, flight.spec.references)

    def _note_cache(self) -> None:
        self._stats.set_cache(entries=len(self._cache), size_bytes=self._cache.size_bytes)


class _Mirror:
    """A copy: it is judged, and heard by nobody."""

    def __init__(self, over: Callable[[_Mirror], None]) -> None:
        self._over = over

    def on_audio(self, attempt: Attempt, samples: Samples) -> None:
        pass

    def on_end(self, attempt: Attempt, end: RowEnd) -> None:
        if end.outcome not in (Outcome.SUCCESS, Outcome.CANCELLED, Outcome.REJECTED):
            log.info("a copy failed in revision %s: %s", attempt.resident.ref.revision[:10], end.error)
        self._over(self)
