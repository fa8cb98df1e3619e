"""A worker's stats page as the sidecar and the supervisor read it.

Separate from the writer because nothing in the page is believed: the worker may have died in mid-write, or be hostile.
The file must be sealed against shrinking before it is mapped (else SIGBUS), indices are bounded, and cells that do not
belong together are left out. The mapping survives the worker: its totals, and what it had in flight, stay known.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

from segue.errors import ArenaCorrupt
from segue.memory import memfd
from segue.memory import stats_layout as layout
from segue.memory.page import SLOTS
from segue.memory.stats_layout import ERRORS, RowCell, WorkerCell, WorkerState

_FIRST_COUNTER = RowCell.ADMITTED
_EMPTY = (0,) * (layout.ROW_CELLS - _FIRST_COUNTER)
_TRIES = 4
_STATES = frozenset(int(state) for state in WorkerState)


@dataclass(frozen=True, slots=True)
class Counters:
    """Cumulative numbers of one revision: of a worker, of several added up, or the difference of two readings.

    Attributes
    ----------
    cells
        The row from `RowCell.ADMITTED` on.
    """

    cells: tuple[int, ...] = _EMPTY

    def __getitem__(self, cell: RowCell) -> int:
        return self.cells[cell - _FIRST_COUNTER]

    def __add__(self, other: Counters) -> Counters:
        """Of two workers together: counters add, texts unite."""
        texts = RowCell.TEXTS - _FIRST_COUNTER
        counts = [a + b for a, b in zip(self.cells[:texts], other.cells[:texts], strict=True)]
        united = [a | b for a, b in zip(self.cells[texts:], other.cells[texts:], strict=True)]
        return Counters((*counts, *united))

    def since(self, earlier: Counters) -> Counters:
        """What was added after an earlier reading of the same worker; never negative. Texts: all of them."""
        texts = RowCell.TEXTS - _FIRST_COUNTER
        counts = [max(0, a - b) for a, b in zip(self.cells[:texts], earlier.cells[:texts], strict=True)]
        return Counters((*counts, *self.cells[texts:]))

    @property
    def in_flight(self) -> int:
        """Rows that the engine still has, copies included. Of a dead worker: errors of this revision."""
        return max(0, self[RowCell.ADMITTED] - self[RowCell.RELEASED])

    @property
    def successes(self) -> int:
        """Rows that ended well, copies included."""
        return self[RowCell.SUCCESSES]

    @property
    def errors(self) -> int:
        """Rows that failed, of every kind, copies included."""
        return sum(self.errors_by_kind.values())

    @property
    def errors_by_kind(self) -> Mapping[str, int]:
        """`exception`, `timeout`, `empty`, `silent`, `nonfinite`, `capped`: count."""
        return {kind.name.lower(): self[RowCell(kind)] for kind in ERRORS}

    @property
    def latency(self) -> Histogram:
        """Seconds from admission to the last sample."""
        return self._histogram(RowCell.LATENCY, RowCell.LATENCY_SUM_US)

    @property
    def first_audio(self) -> Histogram:
        """Seconds from admission to the first samples."""
        return self._histogram(RowCell.FIRST_AUDIO, RowCell.FIRST_AUDIO_SUM_US)

    @property
    def texts(self) -> int:
        """The bitmap of distinct texts, 512 bits as one number: unite with `|`."""
        start = RowCell.TEXTS - _FIRST_COUNTER
        words = self.cells[start : start + layout.TEXT_BITS // 64]
        return sum(word << 64 * i for i, word in enumerate(words))

    def _histogram(self, first: RowCell, total: RowCell) -> Histogram:
        start = first - _FIRST_COUNTER
        return Histogram(self.cells[start : start + len(layout.BUCKETS_S) + 1], self[total] / 1e6)


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts per bucket of `stats_layout.BUCKETS_S` (not cumulative; the last one is over all bounds), and the sum."""

    counts: tuple[int, ...]
    sum_s: float

    @property
    def total(self) -> int:
        """How many values there were."""
        return sum(self.counts)

    def quantile_s(self, share: float) -> float:
        """Upper bound of the bucket that holds this quantile; inf over the last bound, nan without values."""
        if not self.total:
            return math.nan
        wanted = share * self.total
        seen = 0
        for bound, count in zip((*layout.BUCKETS_S, math.inf), self.counts, strict=True):
            seen += count
            if seen >= wanted:
                return bound
        return math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class RowReading:
    """One row, as it was read. `retired`: the worker has let the revision go."""

    handle: int
    retired: bool
    counters: Counters


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotReading:
    """What a worker last admitted under in one slot; times are CLOCK_MONOTONIC ns, 0 = never."""

    raw_word: int
    first_ns: int
    last_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A worker's first admission under a changed word.

    Attributes
    ----------
    number
        Counts up from 1 within the worker.
    last_old_ns
        Its last admission under `old_word` (0: there was none): how late the flip became effective here.
    first_new_ns
        This admission.
    """

    number: int
    slot: int
    old_word: int
    new_word: int
    last_old_ns: int
    first_new_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReading:
    """The worker's own numbers. `counts` holds every cell that counts up; the two others are not cumulative."""

    pid: int
    generation: int
    created_ns: int
    state: WorkerState | None
    heartbeat_ns: int
    queued: int
    busy_ns: int
    cache_bytes: int
    cache_entries: int
    counts: Mapping[WorkerCell, int]
    batch_sizes: tuple[int, ...]
    queue_waits: tuple[int, ...]


class StatsReader:
    """A worker's page, mapped read-only."""

    def __init__(self, fd: int) -> None:
        """Check and map the page behind `fd`, which stays the caller's and may be closed.

        Raises
        ------
        ArenaCorrupt
            Not a stats page of this version, or one that could be truncated under us.
        """
        memfd.require_seals(fd, memfd.SEALS_PAGE, what="the stats page")
        size = os.fstat(fd).st_size
        if size != layout.STATS_BYTES:
            raise ArenaCorrupt(f"the stats page has {size} bytes instead of {layout.STATS_BYTES}")
        self._map = mmap.mmap(fd, layout.STATS_BYTES, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
        self._bytes = memoryview(self._map)
        self._cells = self._bytes.cast("Q")
        found = (self._cells[WorkerCell.MAGIC], self._cells[WorkerCell.SHAPE])
        if found != (layout.MAGIC, layout.SHAPE):
            self.close()
            raise ArenaCorrupt(f"not a stats page of version {layout.VERSION}: it begins with {found[0]:#018x}")

    def worker(self, *, now_ns: int | None = None) -> WorkerReading:
        """The worker's own numbers. With `now_ns`, `busy_ns` includes the step that runs."""
        cells = self._cells[: layout.HEADER_CELLS].tolist()
        started_ns = cells[WorkerCell.STEP_STARTED_NS]
        running_ns = max(0, now_ns - started_ns) if now_ns is not None and started_ns else 0
        state = cells[WorkerCell.STATE_GAUGE]
        sizes = cells[WorkerCell.BATCH_SIZES : WorkerCell.BATCH_SIZES + len(layout.BATCH_BUCKETS) + 1]
        return WorkerReading(
            pid=cells[WorkerCell.PID],
            generation=cells[WorkerCell.GENERATION],
            created_ns=cells[WorkerCell.CREATED_NS],
            state=WorkerState(state) if state in _STATES else None,
            heartbeat_ns=cells[WorkerCell.HEARTBEAT_NS],
            queued=cells[WorkerCell.QUEUE_GAUGE],
            busy_ns=cells[WorkerCell.BUSY_NS] + running_ns,
            cache_bytes=cells[WorkerCell.CACHE_BYTES_GAUGE],
            cache_entries=cells[WorkerCell.CACHE_ENTRIES_GAUGE],
            counts={cell: cells[cell] for cell in WorkerCell if WorkerCell.BUSY_NS <= cell < WorkerCell.BATCH_SIZES},
            batch_sizes=tuple(sizes),
            queue_waits=tuple(cells[WorkerCell.QUEUE_WAIT : WorkerCell.QUEUE_WAIT + len(layout.BUCKETS_S) + 1]),
        )

    def rows(self, *, skip: Container[int] = ()) -> dict[int, RowReading]:
        """Every revision that the worker has a row for, by handle; rows that change hands are left out.

        Parameters
        ----------
        skip
            Handles not to read: a long-lived worker has a thousand rows of revisions that it let go long ago.
        """
        handles = self._cells[layout.ROWS_AT :: layout.ROW_CELLS].tolist()
        readings = (self._row(index) for index, handle in enumerate(handles) if handle and handle not in skip)
        return {reading.handle: reading for reading in readings if reading is not None}

    def slot(self, slot: int) -> SlotReading:
        """What the worker last admitted under in `slot`."""
        if not 0 <= slot < SLOTS:
            raise IndexError(f"slot {slot} is outside 0 to {SLOTS - 1}")
        at = layout.SLOTS_AT + slot * layout.SLOT_CELLS
        word, first_ns, last_ns = self._cells[at : at + 3].tolist()
        return SlotReading(raw_word=word, first_ns=first_ns, last_ns=last_ns)

    def transitions(self, *, after: int = 0) -> list[Transition]:
        """Changed words since number `after`, oldest first; the ring keeps the latest 4,096."""
        head = self._cells[WorkerCell.RING_HEAD]
        first = max(after + 1, head - layout.RING_ENTRIES + 1)
        numbers = range(first, min(head, first + layout.RING_ENTRIES - 1) + 1)
        return [entry for entry in map(self._transition, numbers) if entry is not None]

    def close(self) -> None:
        """Unmap. Idempotent."""
        self._cells.release()
        self._bytes.release()
        self._map.close()

    def _row(self, index: int) -> RowReading | None:
        at = layout.ROWS_AT + index * layout.ROW_CELLS
        for _ in range(_TRIES):
            before = self._cells[at + RowCell.SEQUENCE]
            cells = self._cells[at : at + layout.ROW_CELLS].tolist()
            if before % 2 == 0 and self._cells[at + RowCell.SEQUENCE] == before:
                counters = Counters(tuple(cells[_FIRST_COUNTER:]))
                return RowReading(handle=cells[RowCell.HANDLE], retired=bool(cells[RowCell.RETIRED]), counters=counters)
        return None

    def _transition(self, number: int) -> Transition | None:
        at = layout.RING_AT + (number - 1) % layout.RING_ENTRIES * layout.RING_CELLS
        found, slot, old, new, last_old_ns, first_new_ns, check = self._cells[at : at + 7].tolist()
        if found != number or slot >= SLOTS or check != number ^ slot ^ old ^ new ^ last_old_ns ^ first_new_ns:
            return None
        return Transition(
            number=number,
            slot=slot,
            old_word=old,
            new_word=new,
            last_old_ns=last_old_ns,
            first_new_ns=first_new_ns,
        )


def distinct_texts(bitmap: int) -> float:
    """How many distinct texts set these bits (linear counting; Whang et al. 1990). Saturates at about 3,200."""
    clear = layout.TEXT_BITS - bitmap.bit_count()
    return layout.TEXT_BITS * math.log(layout.TEXT_BITS / max(clear, 1))


def add_up(readings: Iterable[Mapping[int, RowReading]]) -> dict[int, Counters]:
    """Several workers' rows, by handle."""
    total: dict[int, Counters] = {}
    for reading in readings:
        for handle, row in reading.items():
            total[handle] = total.get(handle, Counters()) + row.counters
    return total
