"""One answer being made, and everybody who waits for it.

Separate from the HTTP response because several of them may read one flight (single flight), because it must survive
the client that began it as long as another one reads, and because the shield works on the answer, not on the request.
Everything in here runs on the loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from enum import Enum

from segue.errors import OptionRejected, SegueError, TextRejected
from segue.memory.stats_layout import Outcome
from segue.tracing import Stage
from segue_server.revisions.resident import Resident
from segue_server.synthesis.attempt import Attempt
from segue_server.synthesis.cache import CachedSpeech
from segue_server.synthesis.desk import Admission
from segue_server.synthesis.engine_thread import EngineThread
from segue_server.synthesis.failures import DeadlinePassed, SpeechFailed
from segue_server.synthesis.lane import EncodingLane
from segue_server.synthesis.measuring import MeasuringRoom
from segue_server.synthesis.rows import RowEnd, Samples
from segue_server.synthesis.spec import SpeechKeys, SpeechSpec, synthesis_request

PAUSE_AT_BYTES = 256 * 1024
"""Encoded bytes that the fastest reader has not taken: above, the row is not stepped."""

PAUSE_AT_PIECES = 8
"""The same for pieces that the codec has not encoded."""

log = logging.getLogger(__name__)


class FlightState(Enum):
    """Where the answer stands."""

    MAKING = "making"
    COMPLETE = "complete"
    FAILED = "failed"
    ABANDONED = "abandoned"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlightCrew:
    """Whom every flight of a worker works with.

    Attributes
    ----------
    engine
        Steps the rows.
    measuring
        Takes rows on their way there.
    codec
        Single-threaded; encodes.
    fallback
        Finds the revision that is known to be good, pinned (`Desk.fallback`).
    deadline_s
        To the first audio, and between two pieces.
    largest_bytes
        Answers over this are not kept whole, so nobody can join them late.
    landed
        Told when a flight is over, whatever its state.
    """

    engine: EngineThread
    measuring: MeasuringRoom
    codec: Executor
    fallback: Callable[[Admission], Resident | None]
    deadline_s: float
    largest_bytes: int
    landed: Callable[[Flight], None]


class ReaderLeft(SegueError):
    """The client is gone; nobody is there to be told anything."""


class Reader:
    """One response's place in a flight."""

    def __init__(self, flight: Flight) -> None:
        self._flight = flight
        self.index = 0
        self.taken_bytes = 0
        self.left = False

    async def next_chunk(self) -> bytes | None:
        """The next encoded chunk; None at the end.

        Raises
        ------
        ReaderLeft
            `leave` was called.
        SegueError
            The answer failed; what was read before is all there is.
        """
        while True:
            if self.left:
                raise ReaderLeft("the client is gone")
            if self.index < len(self._flight.chunks):
                return self._flight.take(self)
            match self._flight.state:
                case FlightState.COMPLETE:
                    return None
                case FlightState.FAILED | FlightState.ABANDONED:
                    raise self._flight.failure or SpeechFailed("the answer was given up")
                case FlightState.MAKING:
                    await self._flight.changed()

    def leave(self) -> None:
        """The client is gone, or has all it wanted. Idempotent."""
        self._flight.leave(self)


class Flight:
    """One answer: made once, read by one or more."""

    def __init__(self, spec: SpeechSpec, admission: Admission, *, keys: SpeechKeys, crew: FlightCrew) -> None:
        """Take over the pin of `admission` and begin. Join it in the same synchronous block."""
        self.spec = spec
        self.keys = keys
        self.admission = admission
        self.state = FlightState.MAKING
        self.failure: SegueError | None = None
        self.chunks: list[bytes] = []
        self.speaker = admission.resident.ref
        self.shielded: str | None = None
        self.phones = 0
        self.tokens = 0
        self._crew = crew
        self._loop = asyncio.get_running_loop()
        self._began_s = time.monotonic()
        self._progress_s = self._began_s
        self._heard_s: float | None = None
        self._spoken_s: float | None = None
        self._encoded_s: float | None = None
        self._made_bytes = 0
        self._readers: list[Reader] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._lane: EncodingLane | None = None
        self._attempt = self._begin(admission.resident)
        self._alarm = self._loop.call_later(crew.deadline_s, self._check_deadline)

    # --- readers ----------------------------------------------------------------------------------------------------

    @property
    def joinable(self) -> bool:
        """Whether a reader can still get all of it."""
        return self.state in (FlightState.MAKING, FlightState.COMPLETE) and self._made_bytes <= self._crew.largest_bytes

    def join(self) -> Reader:
        """Read from the beginning."""
        reader = Reader(self)
        self._readers.append(reader)
        return reader

    def leave(self, reader: Reader) -> None:
        """A reader goes; with the last one the computation ends."""
        if reader not in self._readers:
            return
        self._readers.remove(reader)
        reader.left = True
        self._notify()
        if not self._readers and self.state is FlightState.MAKING:
            self._give_up(FlightState.ABANDONED, Outcome.CANCELLED, None)
        else:
            self._adjust_pace()

    def take(self, reader: Reader) -> bytes:
        """The chunk that `reader` has come to."""
        chunk = self.chunks[reader.index]
        if not self.joinable and len(self._readers) == 1:
            self.chunks[reader.index] = b""  # nobody will ask again
        reader.index += 1
        reader.taken_bytes += len(chunk)
        self._adjust_pace()
        return chunk

    async def changed(self) -> None:
        """Wait until there is more, or it is over."""
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    @property
    def stages(self) -> list[Stage]:
        """Where its time went: in the queue, in the engine, in the codec (beside the engine). As far as it came."""
        stepped_s = self._attempt.row.stepped_s
        found = [Stage("queue", self._began_s, stepped_s)]
        if stepped_s is not None:
            found.append(Stage("synthesis", stepped_s, self._spoken_s))
        if self._heard_s is not None:
            found.append(Stage("encode", self._heard_s, self._encoded_s))
        return found

    @property
    def result(self) -> CachedSpeech:
        """What the cache keeps of a complete flight."""
        return CachedSpeech(
            chunks=tuple(self.chunks), revision=self.speaker.revision, phones=self.phones, tokens=self.tokens
        )

    @property
    def cacheable(self) -> bool:
        """Complete, error-free, whole, and by the revision that its key names."""
        return self.state is FlightState.COMPLETE and self.shielded is None and self.joinable

    # --- from the attempt -------------------------------------------------------------------------------------------

    def on_audio(self, attempt: Attempt, samples: Samples) -> None:
        """Encode a piece."""
        if self.state is not FlightState.MAKING:
            return
        self._progress_s = time.monotonic()
        if self._lane is None:
            self._heard_s = self._progress_s
            self._lane = EncodingLane(
                self.spec.output, engine_rate=attempt.resident.sample_rate, executor=self._crew.codec, sink=self
            )
        self._lane.feed(samples)
        self._adjust_pace()

    def on_end(self, attempt: Attempt, end: RowEnd) -> None:
        """All is spoken, or the revision failed."""
        if self.state is not FlightState.MAKING:
            return
        self._spoken_s = time.monotonic()
        if end.error is None and self._lane is not None:
            self.phones, self.tokens = end.phones, end.tokens
            self._lane.finish()
            return
        if isinstance(end.error, TextRejected | OptionRejected):
            self._fail(end.error)
            return
        log.warning(
            "revision %s of %s failed: %s: %s",
            attempt.resident.ref.revision[:10],
            self.spec.voice,
            end.outcome.name.lower(),
            end.error,
        )
        if not self._shield(attempt):
            self._fail(SpeechFailed(f"the voice could not speak this text ({end.outcome.name.lower()}): {end.error}"))

    # --- from the lane ----------------------------------------------------------------------------------------------

    def on_bytes(self, data: bytes) -> None:
        """The next encoded piece."""
        self.chunks.append(data)
        self._made_bytes += len(data)
        self._adjust_pace()
        self._notify()

    def on_encoded(self) -> None:
        """The answer is complete."""
        self._encoded_s = time.monotonic()
        self._land(FlightState.COMPLETE)

    def on_encoder_failed(self, error: BaseException) -> None:
        """Not the revision's fault: an error of ours."""
        self._give_up(FlightState.FAILED, Outcome.CANCELLED, SpeechFailed(f"the encoder failed: {error}"))

    # --- inside -----------------------------------------------------------------------------------------------------

    def _begin(self, resident: Resident) -> Attempt:
        request = synthesis_request(self.spec, seed=self.keys.seed, language=resident.ref.language)
        attempt = Attempt(resident, request, owner=self, arrived_s=self._began_s)
        self._crew.measuring.submit(attempt.row, self.spec.references)
        return attempt

    def _shield(self, failed: Attempt) -> bool:
        """Have the revision that is known to be good answer instead, if no byte has gone out."""
        if self.chunks or self.shielded is not None:
            return False
        resident = self._crew.fallback(self.admission)
        if resident is None:
            return False
        if self._lane is not None:
            self._lane.close()
            self._lane = None
        failed.resident.stats.shielded()
        self.shielded = failed.resident.ref.revision
        self.speaker = resident.ref
        self._heard_s = self._spoken_s = None
        self._attempt = self._begin(resident)
        return True

    def _check_deadline(self) -> None:
        """Between two pieces no more than the deadline may pass, pauses for the reader's sake excepted."""
        now_s = time.monotonic()
        if self._attempt.row.paused:
            self._progress_s = now_s
        left_s = self._progress_s + self._crew.deadline_s - now_s
        if left_s > 0.001:
            self._alarm = self._loop.call_later(left_s, self._check_deadline)
            return
        stepped = self._attempt.row.stepped_s is not None
        # What never got its turn says nothing about the revision.
        outcome = Outcome.TIMEOUT if stepped else Outcome.CANCELLED
        where = "the voice made no audio" if stepped else "the request waited in the queue"
        failure = DeadlinePassed(f"{where} for {self._crew.deadline_s:g} s")
        self._give_up(FlightState.FAILED, outcome, failure)

    def _give_up(self, state: FlightState, outcome: Outcome, failure: SegueError | None) -> None:
        self._attempt.give_up(outcome)
        self._crew.engine.cancel(self._attempt.row)
        self.failure = failure
        self._land(state)

    def _fail(self, failure: SegueError) -> None:
        self.failure = failure
        self._land(FlightState.FAILED)

    def _land(self, state: FlightState) -> None:
        self.state = state
        self._alarm.cancel()
        if self._lane is not None:
            self._lane.close()
        self._notify()
        self._crew.landed(self)

    def _adjust_pace(self) -> None:
        """Step the row only while somebody takes what it makes."""
        if self.state is not FlightState.MAKING:
            return
        taken = max((reader.taken_bytes for reader in self._readers), default=0)
        waiting = self._lane.waiting if self._lane is not None else 0
        behind = self._made_bytes - taken > PAUSE_AT_BYTES or waiting > PAUSE_AT_PIECES
        if behind and not self._attempt.row.paused:
            self._attempt.pause()
        elif not behind and self._attempt.row.paused:
            self._progress_s = time.monotonic()
            self._attempt.resume()
            self._crew.engine.wake()

    def _notify(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
