"""What all workers did, the dead ones included.

Separate from the metrics because two readers want it: Prometheus, and people who ask `/stats`. The numbers come from
the workers' stats pages; when a worker dies its page is added up here before it is let go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from segue.memory.stats_layout import BATCH_BUCKETS, BUCKETS_S, WorkerCell
from segue.memory.stats_reader import Counters, WorkerReading
from segue_server.supervisor.child import Child
from segue_server.supervisor.ledger import RevisionKey


@dataclass(slots=True)
class Totals:
    """Everything, added up.

    Attributes
    ----------
    revisions
        Counters by revision.
    resident
        Revisions that some worker still has.
    died
        Rows that a dead worker had in flight, by revision.
    counts
        The workers' own counters.
    batch_sizes, queue_waits
        Histograms of `BATCH_BUCKETS` and `BUCKETS_S`, not cumulative.
    """

    revisions: dict[RevisionKey, Counters] = field(default_factory=dict)
    resident: set[RevisionKey] = field(default_factory=set)
    died: Counter[RevisionKey] = field(default_factory=Counter)
    counts: Counter[WorkerCell] = field(default_factory=Counter)
    batch_sizes: list[int] = field(default_factory=lambda: [0] * (len(BATCH_BUCKETS) + 1))
    queue_waits: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))

    def add(self, child: Child) -> None:
        """Add what a worker did so far."""
        stats = child.stats
        if stats is None:
            return
        for entry in child.ledger.read(stats.rows(), child.names):
            self.revisions[entry.key] = self.revisions.get(entry.key, Counters()) + entry.counters
            if not entry.retired:
                self.resident.add(entry.key)
        worker = stats.worker()
        self.counts.update(worker.counts)
        self.batch_sizes = [a + b for a, b in zip(self.batch_sizes, worker.batch_sizes, strict=True)]
        self.queue_waits = [a + b for a, b in zip(self.queue_waits, worker.queue_waits, strict=True)]

    def bury(self, child: Child) -> None:
        """Add a worker that is dead: what it had in flight will never end."""
        self.add(child)
        self.resident.clear()
        stats = child.stats
        for entry in child.ledger.read(stats.rows(), child.names) if stats is not None else ():
            if entry.counters.in_flight:
                self.died[entry.key] += entry.counters.in_flight

    def copy(self) -> Totals:
        """The same, to go on adding."""
        return Totals(
            revisions=dict(self.revisions),
            died=Counter(self.died),
            counts=Counter(self.counts),
            batch_sizes=list(self.batch_sizes),
            queue_waits=list(self.queue_waits),
        )


def living(children: Iterable[Child]) -> Mapping[str, WorkerReading]:
    """What each living worker says of itself now, by `name/generation`."""
    readings = {f"{child.name}/{child.generation}": child.stats for child in children}
    return {name: stats.worker() for name, stats in readings.items() if stats is not None}
