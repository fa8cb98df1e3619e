"""Where each number of a stats page lies. Separate because the writer trusts it and the readers check against it.

The page is an array of native u64 (`memoryview.cast("Q")`, one machine word per store, see `page`)::

    0      64 words      header: identity, gauges and counters of the worker
    64     8,000 x 4     per slot: current word, first and last admission under it (CLOCK_MONOTONIC ns), spare
    …      4,096 x 8     ring of changed words, newest at head - 1
    …      1,024 x 96    one row per revision handle

Only the worker writes, all else map it read-only. Every cell is written whole, so readers see old or new values, never
halves. Cells that belong together are guarded: a ring entry by its own number and a check word, a row by a sequence
that is odd while the row changes hands.

Cells that are named in none of the enums are 0 and may get a meaning under the same version: a reader takes what an
older writer never wrote for nothing counted, which is true.
"""

from __future__ import annotations

from enum import IntEnum

from segue.memory.page import SLOTS

MAGIC = int.from_bytes(b"SEGUEST1", "big")
VERSION = 1

HEADER_CELLS = 64
SLOT_CELLS = 4
RING_ENTRIES = 4_096
RING_CELLS = 8
ROWS = 1_024
ROW_CELLS = 96

SLOTS_AT = HEADER_CELLS
RING_AT = SLOTS_AT + SLOTS * SLOT_CELLS
ROWS_AT = RING_AT + RING_ENTRIES * RING_CELLS
TOTAL_CELLS = ROWS_AT + ROWS * ROW_CELLS
STATS_BYTES = TOTAL_CELLS * 8

SHAPE = VERSION << 48 | ROWS << 32 | RING_ENTRIES

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0)
"""Upper bounds (inclusive) of all histograms of seconds; one more cell holds what is over the last."""

BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64)
"""Upper bounds (inclusive) of the histogram of batch sizes; one more cell holds what is over the last."""

TEXT_BITS = 512
"""Size of the bitmap that counts distinct texts."""


class WorkerCell(IntEnum):
    """Cells of the header. `*_GAUGE` and the first eight are values of now, all else counts up."""

    MAGIC = 0
    SHAPE = 1
    PID = 2
    GENERATION = 3
    CREATED_NS = 4
    STATE_GAUGE = 5
    HEARTBEAT_NS = 6
    RING_HEAD = 7
    QUEUE_GAUGE = 8
    STEP_STARTED_NS = 9
    CACHE_BYTES_GAUGE = 10
    CACHE_ENTRIES_GAUGE = 11
    BUSY_NS = 16
    STEPS = 17
    BATCH_ROWS = 18
    ADMISSIONS = 19
    UNKNOWN_HANDLES = 20
    REFUSED_FULL = 21
    RESPONSES_2XX = 22
    RESPONSES_4XX = 23
    RESPONSES_5XX = 24
    BYTES_SENT = 25
    MIRRORS_DROPPED = 26
    RECONNECTS = 27
    QUEUE_WAIT_SUM_US = 28
    BATCH_SIZES = 32  # and the 7 after
    QUEUE_WAIT = 40  # and the 14 after


class RowCell(IntEnum):
    """Cells of a row. From `ADMITTED` on all count up (the bitmap: bits are only ever set)."""

    HANDLE = 0
    SEQUENCE = 1
    OPENED_NS = 2
    RETIRED = 3
    ADMITTED = 8
    RELEASED = 9
    SUCCESSES = 10
    EXCEPTION = 11
    TIMEOUT = 12
    EMPTY = 13
    SILENT = 14
    NONFINITE = 15
    CAPPED = 16
    CANCELLED = 17
    REJECTED = 18
    SHIELDED = 19
    CACHE_HITS = 20
    MIRROR_ADMITTED = 21
    MIRROR_SUCCESSES = 22
    MIRROR_ERRORS = 23
    AUDIO_MS = 24
    LATENCY_SUM_US = 25
    FIRST_AUDIO_SUM_US = 26
    BUSY_US = 27
    LISTENERS_JOINED = 28
    LISTENERS_LEFT = 29
    LATENCY = 32  # and the 14 after
    FIRST_AUDIO = 48  # and the 14 after
    TEXTS = 64  # and the 7 after


class Outcome(IntEnum):
    """How a row ended; the value is its cell."""

    SUCCESS = RowCell.SUCCESSES
    EXCEPTION = RowCell.EXCEPTION
    TIMEOUT = RowCell.TIMEOUT
    EMPTY = RowCell.EMPTY
    SILENT = RowCell.SILENT
    NONFINITE = RowCell.NONFINITE
    CAPPED = RowCell.CAPPED
    CANCELLED = RowCell.CANCELLED
    """The client left: neither success nor error."""
    REJECTED = RowCell.REJECTED
    """The engine cannot read the text: the client's mistake, neither success nor error."""

    @property
    def is_error(self) -> bool:
        """Whether it counts against the revision."""
        return self in ERRORS


ERRORS = (
    Outcome.EXCEPTION,
    Outcome.TIMEOUT,
    Outcome.EMPTY,
    Outcome.SILENT,
    Outcome.NONFINITE,
    Outcome.CAPPED,
)


class WorkerState(IntEnum):
    """What a worker does."""

    STARTING = 0
    JOINING = 1
    SERVING = 2
    DRAINING = 3
