"""The thread that owns the engine: it steps rows, and nothing else in the process touches a synthesizer.

Separate from the loop because a step computes for milliseconds. Rows join and leave between two steps. What happened
in a step is told to the loop in one call, so a batch of sixteen wakes it once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue

from segue.engine import Row, Synthesizer
from segue.errors import OptionRejected, SynthesisError, TextRejected
from segue.memory.stats import StatsPage
from segue.memory.stats_layout import Outcome, WorkerCell
from segue_server.synthesis.inspection import AudioFault
from segue_server.synthesis.rows import EngineRow, Priority, RowEnd
from segue_server.synthesis.schedule import Schedule

MIRROR_PATIENCE_S = 2.0
"""A copy that listeners kept waiting for so long is dropped."""

Event = Callable[[], None]

log = logging.getLogger(__name__)


class RowCancelled(SynthesisError):
    """Nobody wants the row any more."""


class EngineThread:
    """One engine thread; `submit`, `cancel`, `wake` and `dispose` belong to the loop."""

    def __init__(self, *, max_rows: int, stats: StatsPage) -> None:
        """Needs a running loop, which is told what happens."""
        self._loop = asyncio.get_running_loop()
        self._stats = stats
        self._schedule = Schedule(max_rows=max_rows)
        self._inbox: SimpleQueue[EngineRow | Event] = SimpleQueue()
        self._wake = threading.Event()
        self._stopping = False
        self._events: list[Event] = []
        self._step_began_s: float | None = None
        self.busy_s = 0.0
        self._thread = threading.Thread(target=self._run, name="segue-engine", daemon=True)

    # --- called on the loop -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def submit(self, row: EngineRow) -> None:
        """Have the row spoken; its sink is told how it goes."""
        self._inbox.put(row)
        self._wake.set()

    def cancel(self, row: EngineRow) -> None:
        """Let the row leave before its next step."""
        row.cancelled = True
        self._wake.set()

    def wake(self) -> None:
        """A row that was paused is not any more."""
        self._wake.set()

    async def dispose(self, synthesizer: Synthesizer) -> None:
        """Close a synthesizer that no row uses any more, in the thread that owns it."""
        done: Future[None] = Future()
        self._inbox.put(_Disposal(synthesizer, done))
        self._wake.set()
        del synthesizer
        await asyncio.wrap_future(done)

    def step_age_s(self) -> float:
        """How long the step that runs now has been running; 0: none runs."""
        began_s = self._step_began_s
        return 0.0 if began_s is None else time.monotonic() - began_s

    def stop(self, *, timeout_s: float = 5.0) -> bool:
        """End the thread after the step that runs; False: it did not end in time."""
        self._stopping = True
        self._wake.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping:
            self._take_in()
            self._let_leave()
            if not self._step_once():
                self._tell()
                self._wake.wait()
                self._wake.clear()
            self._tell()

    def _take_in(self) -> None:
        with contextlib.suppress(Empty):
            while True:
                entry = self._inbox.get_nowait()
                if isinstance(entry, EngineRow):
                    self._schedule.add(entry)
                else:
                    entry()

    def _let_leave(self) -> None:
        """Drop rows that nobody wants, and copies that would keep a listener waiting."""
        live = self._schedule.rows(Priority.LIVE)
        for priority in Priority:
            for row in live if priority is Priority.LIVE else self._schedule.rows(priority):
                if row.cancelled:
                    self._end(row, RowCancelled("nobody waits for it any more"))
        waiting = any(not row.paused for row in live)
        for row in self._schedule.rows(Priority.MIRROR) if waiting else ():
            if time.monotonic() - row.arrived_s > MIRROR_PATIENCE_S:
                self._stats.count(WorkerCell.MIRRORS_DROPPED)
                self._end(row, RowCancelled("listeners go first"))

    def _step_once(self) -> bool:
        """Step one batch. In a function of its own so that nothing of a row outlives it in a local variable."""
        batch = [row for row in self._schedule.next_batch(time.monotonic()) if self._join(row)]
        if not batch:
            return len(self._schedule) > 0 and any(
                not row.paused for priority in Priority for row in self._schedule.rows(priority)
            )
        self._stats.step_started(rows=len(batch))
        began_s = self._step_began_s = time.monotonic()
        failure = _step(batch)
        self._step_began_s = None
        self.busy_s += time.monotonic() - began_s
        heard = batch[0].priority is Priority.LIVE
        self._stats.step_ended(spoken_by=batch[0].group if heard else None)
        for row in batch:
            self._after_step(row, failure)
        return True

    def _join(self, row: EngineRow) -> bool:
        """Have the engine make its row at the first step; False: the row is over."""
        if row.row is not None:
            return True
        if row.synthesizer is None:
            return False
        if row.refusal is not None:
            self._end(row, row.refusal)
            return False
        row.stepped_s = time.monotonic()
        if row.priority is Priority.LIVE:
            self._stats.waited(row.stepped_s - row.arrived_s)
        try:
            row.row = row.synthesizer.admit(row.request)
        except Exception as error:  # noqa: BLE001 - the row's boundary: one bad text must not stop the others
            self._end(row, error)
            return False
        return True

    def _after_step(self, row: EngineRow, failure: Exception | None) -> None:
        engine_row = row.row
        if engine_row is None:
            return
        error = failure
        try:
            _refuse_capped(engine_row, row.audio_s)
            for samples in row.inspector.accept(engine_row.take()):
                self._events.append(_call(row.sink.on_audio, samples))
            row.audio_s = row.inspector.audio_s
            if row.audio_s and row.first_audio_s is None:
                row.first_audio_s = time.monotonic()
            if error is None:
                error = engine_row.error
            if error is None and engine_row.done:
                self._finish(row)
                return
        except Exception as raised:  # noqa: BLE001 - the row's boundary
            error = error or raised
        if error is not None:
            self._end(row, error)

    def _finish(self, row: EngineRow) -> None:
        row.inspector.finish()
        self._end(row, None)

    def _end(self, row: EngineRow, error: Exception | None) -> None:
        """Take the row out, drop its tensors, and tell its sink."""
        self._schedule.remove(row)
        engine_row, row.row, row.synthesizer = row.row, None, None
        end = RowEnd(
            outcome=_outcome(error),
            # Without its traceback, whose frames hold tensors.
            error=error.with_traceback(None) if error is not None else None,
            audio_s=row.inspector.audio_s,
            phones=len(engine_row.phones) if engine_row is not None else 0,
            tokens=len(engine_row.tokens) if engine_row is not None else 0,
        )
        if engine_row is not None:
            try:
                engine_row.close()
            except Exception:  # the row's boundary
                log.exception("a row could not be closed")
            del engine_row
        self._events.append(_call(row.sink.on_end, end))
        self._events.append(row.sink.on_released)

    def _tell(self) -> None:
        if not self._events:
            return
        events, self._events = self._events, []
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            self._loop.call_soon_threadsafe(_deliver, events)


class _Disposal:
    """Closes a synthesizer in the engine thread."""

    def __init__(self, synthesizer: Synthesizer, done: Future[None]) -> None:
        self._synthesizer: Synthesizer | None = synthesizer
        self._done = done

    def __call__(self) -> None:
        synthesizer, self._synthesizer = self._synthesizer, None
        try:
            if synthesizer is not None:
                synthesizer.close()
        except Exception:  # the synthesizer's boundary: unmapping will show whether it let go
            log.exception("a synthesizer could not be closed")
        del synthesizer
        self._done.set_result(None)


def _step(batch: Sequence[EngineRow]) -> Exception | None:
    """Step the batch. An engine stores errors in rows; one that raises all the same fails the whole batch."""
    synthesizer = batch[0].synthesizer
    rows = [row.row for row in batch if row.row is not None]
    if synthesizer is None:
        return None
    try:
        synthesizer.step(rows)
    except Exception as error:
        log.exception("the engine raised in a step of %d rows", len(rows))
        return error
    return None


def _refuse_capped(row: Row, audio_s: float) -> None:
    if row.capped:
        raise AudioFault(f"the decoder ran into its cap after {audio_s:.1f} s", outcome=Outcome.CAPPED)


def _outcome(error: Exception | None) -> Outcome:
    match error:
        case None:
            return Outcome.SUCCESS
        case AudioFault():
            return error.outcome
        case TextRejected() | OptionRejected():
            return Outcome.REJECTED
        case RowCancelled():
            return Outcome.CANCELLED
        case _:
            return Outcome.EXCEPTION


def _call(method: Callable[..., None], argument: object) -> Event:
    return lambda: method(argument)


def _deliver(events: Sequence[Event]) -> None:
    for event in events:
        try:
            event()
        except Exception:  # one listener's trouble must not keep the others from hearing
            log.exception("a row's sink failed")
