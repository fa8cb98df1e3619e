"""The stats page as a worker writes it: what it did, readable by others while it lives and after it died.

Separate from `stats_reader`, which trusts nothing in here. A call takes 0.8 to 2.3 microseconds (2-core Linux 6.18,
CPython 3.11, beside other work) and never waits for a reader. Methods may be called from the loop and from the engine
thread: one lock of the page makes `+= 1` whole.
"""

from __future__ import annotations

import bisect
import hashlib
import mmap
import os
import threading
import time

from segue.errors import MemoryError_
from segue.memory import memfd
from segue.memory import stats_layout as layout
from segue.memory.stats_layout import Outcome, RowCell, WorkerCell, WorkerState


def create_stats_memfd() -> int:
    """A memfd for one stats page, sealed against resizing; owned by the caller.

    The supervisor may make it and pass it to the worker: then the totals outlive the worker without anybody's help.
    """
    fd = memfd.create("segue-stats")
    os.ftruncate(fd, layout.STATS_BYTES)
    memfd.add_seals(fd, memfd.SEALS_PAGE)
    return fd


class StatsPage:
    """All numbers of one worker."""

    def __init__(self, fd: int, *, generation: int = 0) -> None:
        """Take over `fd` (from `create_stats_memfd`, nothing written yet) and begin."""
        self._fd = fd
        self._map = mmap.mmap(fd, layout.STATS_BYTES, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        self._bytes = memoryview(self._map)
        self._cells = self._bytes.cast("Q")
        self._lock = threading.Lock()
        self._rows: dict[int, StatsRow] = {}
        self._retired: dict[int, StatsRow] = {}
        self._fresh = list(range(layout.ROWS - 1, -1, -1))
        now_ns = time.monotonic_ns()
        for cell, value in (
            (WorkerCell.SHAPE, layout.SHAPE),
            (WorkerCell.PID, os.getpid()),
            (WorkerCell.GENERATION, generation),
            (WorkerCell.CREATED_NS, now_ns),
            (WorkerCell.HEARTBEAT_NS, now_ns),
            (WorkerCell.MAGIC, layout.MAGIC),
        ):
            self._cells[cell] = value

    def export(self) -> int:
        """A new read-only description for the sidecar or the supervisor; owned by the caller."""
        return memfd.reopen(self._fd, os.O_RDONLY)

    # --- the worker -------------------------------------------------------------------------------------------------

    def beat(self, *, queued: int) -> None:
        """The loop turns; call it a few times a second and when the queue changes."""
        self._cells[WorkerCell.QUEUE_GAUGE] = queued
        self._cells[WorkerCell.HEARTBEAT_NS] = time.monotonic_ns()

    def set_state(self, state: WorkerState) -> None:
        """What the worker does now."""
        self._cells[WorkerCell.STATE_GAUGE] = state

    def set_cache(self, *, entries: int, size_bytes: int) -> None:
        """How full the result cache is."""
        self._cells[WorkerCell.CACHE_ENTRIES_GAUGE] = entries
        self._cells[WorkerCell.CACHE_BYTES_GAUGE] = size_bytes

    def count(self, cell: WorkerCell, amount: int = 1) -> None:
        """Add to a counter of the header."""
        with self._lock:
            self._cells[cell] += amount

    def step_started(self, *, rows: int) -> None:
        """The engine thread begins a step with a batch of `rows`."""
        with self._lock:
            self._cells[WorkerCell.STEPS] += 1
            self._cells[WorkerCell.BATCH_ROWS] += rows
            self._cells[WorkerCell.BATCH_SIZES + bisect.bisect_left(layout.BATCH_BUCKETS, rows)] += 1
            self._cells[WorkerCell.STEP_STARTED_NS] = time.monotonic_ns()

    def step_ended(self, *, spoken_by: int | None = None) -> None:
        """The step is over: its time counts as busy, and as that of the revision with this handle.

        Leave the handle out for what no listener waits for: the real-time factor is of what listeners hear.
        """
        with self._lock:
            started_ns = self._cells[WorkerCell.STEP_STARTED_NS]
            if not started_ns:
                return
            busy_ns = time.monotonic_ns() - started_ns
            self._cells[WorkerCell.BUSY_NS] += busy_ns
            self._cells[WorkerCell.STEP_STARTED_NS] = 0
            row = self._rows.get(spoken_by) if spoken_by is not None else None
            if row is not None:
                self._cells[row.at + RowCell.BUSY_US] += busy_ns // 1000

    def waited(self, delay_s: float) -> None:
        """A listener's row waited so long, from its admission until an engine took it."""
        bucket = bisect.bisect_left(layout.BUCKETS_S, delay_s)
        with self._lock:
            self._cells[WorkerCell.QUEUE_WAIT + bucket] += 1
            self._cells[WorkerCell.QUEUE_WAIT_SUM_US] += max(0, int(delay_s * 1e6))

    def admitted(self, slot: int, raw_word: int) -> int:
        """A request was admitted under this word of the slot; returns its CLOCK_MONOTONIC ns.

        Call it in the synchronous block that loaded the word, after the pin: the last admission under a word is what
        bounds how long a flip took to be effective.
        """
        cells = self._cells
        at = layout.SLOTS_AT + slot * layout.SLOT_CELLS
        with self._lock:
            cells[WorkerCell.ADMISSIONS] += 1
            now_ns = time.monotonic_ns()
            old = cells[at]
            if old != raw_word:
                self._record(slot, old=old, new=raw_word, last_old_ns=cells[at + 2], first_new_ns=now_ns)
                cells[at] = raw_word
                cells[at + 1] = now_ns
            cells[at + 2] = now_ns
        return now_ns

    def _record(self, slot: int, *, old: int, new: int, last_old_ns: int, first_new_ns: int) -> None:
        """Append to the ring. The entry's number goes out first (0) and in last, so a reader sees a torn one."""
        cells = self._cells
        head = cells[WorkerCell.RING_HEAD]
        at = layout.RING_AT + head % layout.RING_ENTRIES * layout.RING_CELLS
        number = head + 1
        cells[at] = 0
        cells[at + 1] = slot
        cells[at + 2] = old
        cells[at + 3] = new
        cells[at + 4] = last_old_ns
        cells[at + 5] = first_new_ns
        cells[at + 6] = number ^ slot ^ old ^ new ^ last_old_ns ^ first_new_ns
        cells[at] = number
        cells[WorkerCell.RING_HEAD] = number

    # --- revisions --------------------------------------------------------------------------------------------------

    def row(self, handle: int) -> StatsRow:
        """The row of a revision, made at the first call. A handle means one revision for ever.

        Raises
        ------
        MemoryError_
            1,024 revisions are in use at once.
        """
        with self._lock:
            row = self._rows.get(handle)
            if row is None:
                row = self._retired.pop(handle, None) or self._open_row(handle)
                self._cells[row.at + RowCell.RETIRED] = 0
                self._rows[handle] = row
            return row

    def retire_row(self, handle: int) -> None:
        """The revision was let go. Its totals stay until the row is needed, the oldest retired first."""
        with self._lock:
            row = self._rows.pop(handle, None)
            if row is not None:
                self._cells[row.at + RowCell.RETIRED] = 1
                self._retired[handle] = row

    def _open_row(self, handle: int) -> StatsRow:
        cells = self._cells
        if self._fresh:
            at = layout.ROWS_AT + self._fresh.pop() * layout.ROW_CELLS
        elif self._retired:
            at = self._retired.pop(next(iter(self._retired))).at
        else:
            raise MemoryError_(f"{layout.ROWS} revisions are in use in one worker: the stats page has no further row")
        cells[at + RowCell.SEQUENCE] += 1
        for cell in range(layout.ROW_CELLS):
            if cell != RowCell.SEQUENCE:
                cells[at + cell] = 0
        cells[at + RowCell.HANDLE] = handle
        cells[at + RowCell.OPENED_NS] = time.monotonic_ns()
        cells[at + RowCell.SEQUENCE] += 1
        return StatsRow(self._cells, at, self._lock)

    def close(self) -> None:
        """Unmap and close. Idempotent. What others map lives on."""
        if self._map.closed:
            return
        self._cells.release()
        self._bytes.release()
        self._map.close()
        os.close(self._fd)


class StatsRow:
    """The numbers of one revision in this worker. Use it only while the revision is pinned."""

    __slots__ = ("_cells", "_lock", "at")

    def __init__(self, cells: memoryview[int], at: int, lock: threading.Lock) -> None:
        """A row that begins at cell `at`; made by `StatsPage.row`."""
        self._cells = cells
        self._lock = lock
        self.at = at

    def admitted(self) -> None:
        """A row of the engine begins (mirrors and probes are rows, too). Pair with `released`."""
        self._add(RowCell.ADMITTED)

    def mirror_admitted(self) -> None:
        """That row is a copy whose answer is thrown away; call beside `admitted`."""
        self._add(RowCell.MIRROR_ADMITTED)

    def released(self) -> None:
        """The engine dropped the row's tensors: it is in flight no longer."""
        self._add(RowCell.RELEASED)

    def ended(self, outcome: Outcome, *, latency_s: float, audio_ms: int) -> None:
        """How a listener's row ended, and how long it took from admission to its last sample."""
        at, cells = self.at, self._cells
        bucket = bisect.bisect_left(layout.BUCKETS_S, latency_s)
        with self._lock:
            cells[at + RowCell.LATENCY + bucket] += 1
            cells[at + RowCell.LATENCY_SUM_US] += max(0, int(latency_s * 1e6))
            cells[at + RowCell.AUDIO_MS] += max(0, audio_ms)
            cells[at + outcome] += 1

    def mirror_ended(self, outcome: Outcome, *, latency_s: float) -> None:
        """How a copy ended. Counts as evidence like a listener's row, and apart as a copy."""
        with self._lock:
            if outcome is Outcome.SUCCESS:
                self._cells[self.at + RowCell.MIRROR_SUCCESSES] += 1
            elif outcome.is_error:
                self._cells[self.at + RowCell.MIRROR_ERRORS] += 1
        self.ended(outcome, latency_s=latency_s, audio_ms=0)

    def first_audio(self, delay_s: float) -> None:
        """The first samples are there, `delay_s` after admission."""
        bucket = bisect.bisect_left(layout.BUCKETS_S, delay_s)
        with self._lock:
            self._cells[self.at + RowCell.FIRST_AUDIO + bucket] += 1
            self._cells[self.at + RowCell.FIRST_AUDIO_SUM_US] += max(0, int(delay_s * 1e6))

    def shielded(self) -> None:
        """A failure that the listener never noticed; the failure itself is counted by `ended`."""
        self._add(RowCell.SHIELDED)

    def cache_hit(self) -> None:
        """Answered from the result cache: neither success nor error."""
        self._add(RowCell.CACHE_HITS)

    def listener_joined(self) -> None:
        """Somebody speaks with it who spoke with another voice before."""
        self._add(RowCell.LISTENERS_JOINED)

    def listener_left(self) -> None:
        """Somebody who spoke with it speaks with another voice now."""
        self._add(RowCell.LISTENERS_LEFT)

    def spoke(self, text: str) -> None:
        """Set the text's bit, so that distinct texts can be counted across workers and pods."""
        bit = text_bit(text)
        cell = self.at + RowCell.TEXTS + bit // 64
        with self._lock:
            self._cells[cell] |= 1 << bit % 64

    def _add(self, cell: RowCell) -> None:
        with self._lock:
            self._cells[self.at + cell] += 1


def text_bit(text: str) -> int:
    """Which of the 512 bits a text sets."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % layout.TEXT_BITS
