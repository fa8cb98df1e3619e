"""One worker's revisions by name, those included whose row in the stats page was given to another one.

Separate because a page has 1,024 rows and a worker lives for months: without this, totals would go down one day.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from segue.memory.stats_reader import Counters, RowReading

UNNAMED = ("unknown", "")


@dataclass(frozen=True, slots=True)
class RevisionKey:
    """A voice (`namespace/name`) and the digest of one of its revisions; empty: all that are long gone."""

    voice: str
    revision: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One revision's numbers. `retired`: the worker has let it go."""

    key: RevisionKey
    counters: Counters
    retired: bool


class Ledger:
    """Remembers retired rows until they are gone, and then their sum by voice."""

    def __init__(self) -> None:
        self._retired: dict[int, Entry] = {}
        self._gone: dict[str, Counters] = {}

    def read(self, rows: Mapping[int, RowReading], names: Mapping[int, tuple[str, str]]) -> Iterator[Entry]:
        """Everything, for a page's rows as they are now. Ask often enough: a row must be seen once while retired."""
        for handle in [handle for handle in self._retired if handle not in rows]:
            entry = self._retired.pop(handle)
            self._gone[entry.key.voice] = self._gone.get(entry.key.voice, Counters()) + entry.counters
        for handle, row in rows.items():
            entry = Entry(RevisionKey(*names.get(handle, UNNAMED)), row.counters, row.retired)
            if row.retired:
                self._retired[handle] = entry
            else:
                self._retired.pop(handle, None)
            yield entry
        for voice, counters in self._gone.items():
            yield Entry(RevisionKey(voice, ""), counters, retired=True)
