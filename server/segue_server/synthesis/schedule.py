"""Which rows are stepped next.

Pure, because fairness is easier to prove on paper than on a running server. One batch holds rows of one revision;
revisions take turns, so a popular voice does not keep a quiet one waiting. Within a revision the row whose listener
runs out of sound first goes first: a new request gets its first sound at once, and a stream that is seconds ahead of
its listener waits.

Copies (mirrors) are stepped only while no listener's row can be. A revision's first row (warm-up) may go between two
batches, but not more often than `WARM_UP_EVERY_S`, so that a saturated worker still makes new revisions ready.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Sequence
from operator import attrgetter

from segue_server.synthesis.rows import EngineRow, Priority

WARM_UP_EVERY_S = 0.05


class Schedule:
    """The rows of one engine thread."""

    def __init__(self, *, max_rows: int) -> None:
        """`max_rows` are stepped together at most; 1 means no batching."""
        self._max_rows = max_rows
        self._groups: dict[Priority, OrderedDict[int, list[EngineRow]]] = {p: OrderedDict() for p in Priority}
        self._warmed_s = 0.0

    def __len__(self) -> int:
        return sum(len(rows) for groups in self._groups.values() for rows in groups.values())

    def add(self, row: EngineRow) -> None:
        """The row wants to be stepped."""
        self._groups[row.priority].setdefault(row.group, []).append(row)

    def remove(self, row: EngineRow) -> None:
        """The row is over."""
        groups = self._groups[row.priority]
        groups[row.group].remove(row)
        if not groups[row.group]:
            del groups[row.group]

    def rows(self, priority: Priority) -> list[EngineRow]:
        """All rows of one priority."""
        return [row for rows in self._groups[priority].values() for row in rows]

    def next_batch(self, now_s: float) -> Sequence[EngineRow]:
        """Rows to step together now; empty: nothing can be stepped."""
        if now_s - self._warmed_s >= WARM_UP_EVERY_S:
            batch = self._batch_of(Priority.WARM_UP)
            if batch:
                self._warmed_s = now_s
                return batch
        return self._batch_of(Priority.LIVE) or self._batch_of(Priority.MIRROR) or self._batch_of(Priority.WARM_UP)

    def _batch_of(self, priority: Priority) -> Sequence[EngineRow]:
        groups = self._groups[priority]
        for group, rows in groups.items():
            runnable = [row for row in rows if not row.paused]
            if runnable:
                groups.move_to_end(group)
                if len(runnable) <= self._max_rows:
                    return runnable
                return heapq.nsmallest(self._max_rows, runnable, key=attrgetter("due_s"))
        return ()
