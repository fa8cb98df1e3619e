"""Recordings are measured here before the row that brings them is stepped.

Separate from the engine thread, which must not wait for seconds of work, and from the loop. One thread measures one set
of recordings at a time; requests that bring the same ones wait for one measurement, and what was measured is kept. A
row waits here with the pin on its revision, so the weights that measure stay mapped.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial

from segue.engine import MeasuredReference, MeasuresReferences, ReferenceRecording
from segue.errors import OptionRejected
from segue_server.synthesis.failures import QueueFull
from segue_server.synthesis.rows import EngineRow

MOST_WAITING = 32
"""Different sets of recordings that wait to be measured."""

ENTRY_OVERHEAD_BYTES = 1024

log = logging.getLogger(__name__)


class _Pending:
    """One measurement and the rows that wait for it."""

    def __init__(self, recordings: Sequence[ReferenceRecording]) -> None:
        self.recordings = recordings
        self.rows: list[EngineRow] = []


class MeasuringRoom:
    """Measures what rows bring, then submits them. Belongs to the loop."""

    def __init__(self, *, submit: Callable[[EngineRow], None], executor: Executor, cache_bytes: int) -> None:
        """`submit` gives a row to the engine thread, `executor` has one thread, `cache_bytes` bounds what is kept."""
        self._submit = submit
        self._executor = executor
        self._cache_bytes = cache_bytes
        self._known: OrderedDict[str, MeasuredReference] = OrderedDict()
        self._pending: OrderedDict[str, _Pending] = OrderedDict()
        self._measured_now: str | None = None
        self.kept_bytes = 0

    def expect_room(self) -> None:
        """Ask before a request with recordings is admitted.

        Raises
        ------
        QueueFull
            Too many wait already.
        """
        if len(self._pending) >= MOST_WAITING:
            raise QueueFull(f"{len(self._pending)} sets of recordings wait to be measured already", retry_after_s=5.0)

    def submit(self, row: EngineRow, recordings: Sequence[ReferenceRecording]) -> None:
        """Submit a row once its recordings are measured: at once where it brings none, or known ones.

        A row whose recordings cannot be used is submitted all the same, with what is wrong as its `refusal`.
        """
        if not recordings:
            self._submit(row)
            return
        ears = _ears_of(row)
        if ears is None:
            self._refuse(row, OptionRejected("voices of this engine take no reference", option="reference"))
            return
        key = ears.reference_key(recordings)
        known = self._known.get(key)
        if known is not None:
            self._known.move_to_end(key)
            self._admit(row, known)
            return
        self._pending.setdefault(key, _Pending(recordings)).rows.append(row)
        self._measure_next()

    def _measure_next(self) -> None:
        """Begin the next measurement that somebody still waits for, if none is under way."""
        while self._measured_now is None and self._pending:
            key, pending = next(iter(self._pending.items()))
            ears = next((_ears_of(row) for row in pending.rows if not row.cancelled), None)
            if ears is None:
                del self._pending[key]
                for left in pending.rows:
                    self._submit(left)  # the engine thread lets them go
                continue
            self._measured_now = key
            measure = partial(ears.measure, pending.recordings)
            work = asyncio.get_running_loop().run_in_executor(self._executor, measure)
            work.add_done_callback(partial(self._measured, key))

    def _measured(self, key: str, work: asyncio.Future[MeasuredReference]) -> None:
        self._measured_now = None
        pending = self._pending.pop(key)
        error = asyncio.CancelledError() if work.cancelled() else work.exception()
        if error is None:
            self._keep(key, work.result())
            for row in pending.rows:
                self._admit(row, work.result())
        else:
            refusal = _without_frames(error)
            for row in pending.rows:
                self._refuse(row, refusal)
        self._measure_next()

    def _admit(self, row: EngineRow, measured: MeasuredReference) -> None:
        row.request = replace(row.request, reference=measured)
        self._submit(row)

    def _refuse(self, row: EngineRow, error: Exception) -> None:
        row.refusal = error
        self._submit(row)

    def _keep(self, key: str, measured: MeasuredReference) -> None:
        self._known[key] = measured
        self.kept_bytes += _size(measured)
        while self.kept_bytes > self._cache_bytes:
            _, dropped = self._known.popitem(last=False)
            self.kept_bytes -= _size(dropped)


def _ears_of(row: EngineRow) -> MeasuresReferences | None:
    synthesizer: object = row.synthesizer
    return synthesizer if isinstance(synthesizer, MeasuresReferences) else None


def _size(measured: MeasuredReference) -> int:
    return measured.size_bytes + ENTRY_OVERHEAD_BYTES


def _without_frames(error: BaseException) -> Exception:
    """The frames of a traceback hold views of weights."""
    error.__cause__ = error.__context__ = None
    bare = error.with_traceback(None)
    if isinstance(bare, OptionRejected):
        return bare
    log.error("recordings could not be measured: %s: %s", type(bare).__name__, bare)
    return bare if isinstance(bare, Exception) else RuntimeError("measuring was given up")
