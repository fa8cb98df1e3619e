"""What listeners heard: an hour of ten-second buckets per revision, made from the workers' stats pages.

The workers only count; once a second the sidecar reads how far each counter went since the last time and adds that to
the bucket of now. A worker that died takes its open requests with it: those are errors of their revision.

Evidence of voices in a rollout is journalled when a bucket closes, with the counters' readings at that time. After a
restart the next reading of a worker is taken against those, so that nothing is counted twice and nothing is lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from segue.memory.eviction import decayed_uses
from segue.memory.stats_layout import RowCell
from segue.memory.stats_reader import Counters
from segue.wire import BUCKET_S, Bucket, OthersWindow, RevisionWindows, WindowsDocument
from segue_sidecar.journal import Journal
from segue_sidecar.workers import Worker

KEPT_S = 3600
KEPT_WHEN_GONE_S = 60
DIED = "died"
_TEXTS_AT = RowCell.TEXTS - RowCell.ADMITTED
"""The bitmap of texts never shrinks, so it says nothing about growth."""

Owner = tuple[str, str]
"""Voice (`namespace/name`) and revision."""


@dataclass(slots=True)
class _Tally:
    """One bucket while it is filled."""

    successes: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    shielded: int = 0
    mirrored: int = 0
    latency_ms_sum: float = 0.0

    def add(self, grown: Counters) -> None:
        self.successes += grown.successes
        for kind, count in grown.errors_by_kind.items():
            if count:
                self.errors[kind] = self.errors.get(kind, 0) + count
        self.shielded += grown[RowCell.SHIELDED]
        self.mirrored += grown[RowCell.MIRROR_SUCCESSES] + grown[RowCell.MIRROR_ERRORS]
        self.latency_ms_sum += grown[RowCell.LATENCY_SUM_US] / 1e3

    @property
    def says_something(self) -> bool:
        """Whether anything ended in it."""
        return bool(self.successes or self.errors or self.shielded)

    def bucket(self, start_s: int) -> Bucket:
        return Bucket(
            start_s=start_s,
            successes=self.successes,
            errors=dict(self.errors),
            shielded=self.shielded,
            mirrored=self.mirrored,
            latency_ms_sum=round(self.latency_ms_sum, 3),
        )


@dataclass(slots=True)
class _Record:
    """All that is known of one revision's requests. `in_a_row` are its successes since the latest error."""

    buckets: dict[int, _Tally] = field(default_factory=dict)
    in_a_row: int = 0
    texts: int = 0
    uses: float = 0.0
    last_used_s: float = 0.0


@dataclass(slots=True)
class Sample:
    """How many requests ended between two samples, and how long they took together."""

    ended: int = 0
    latency_s: float = 0.0


class Evidence:
    """All records. `owner_of` tells whose a handle is."""

    def __init__(self, *, owner_of: Callable[[int], Owner | None], journal: Journal) -> None:
        self._owner_of = owner_of
        self._journal = journal
        self._records: dict[Owner, _Record] = {}
        self._seen: dict[str, dict[int, Counters]] = {}
        self._closed: dict[str, set[int]] = {}
        self._closed_s = 0
        self._unsampled = Sample()

    # --- taking in --------------------------------------------------------------------------------------------------

    def meet(self, worker: Worker) -> None:
        """A worker introduced itself. What it counted before, and nobody wrote down, is not of now."""
        if worker.live and _key(worker) not in self._seen:
            self._seen[_key(worker)] = {handle: row.counters for handle, row in worker.stats.rows().items()}

    def sample(self, workers: Iterable[Worker], *, now_s: float | None = None) -> Sample:
        """Read every worker's page and add what grew to the bucket of now. Returns what ended, over all revisions."""
        self.look(workers, now_s=now_s)
        total, self._unsampled = self._unsampled, Sample()
        return total

    def look(self, workers: Iterable[Worker], *, now_s: float | None = None) -> None:
        """Take in what grew, for whoever must know now who was asked for; what ended is told by the next sample."""
        now_s = time.time() if now_s is None else now_s
        for worker in workers:
            self._read(worker, self._unsampled, now_s=now_s)

    def reopen(self, handle: int) -> None:
        """A worker is ready for this handle, be it again: its row, which may have been closed, counts on."""
        for closed in self._closed.values():
            closed.discard(handle)

    def bury(self, worker: Worker, *, now_s: float | None = None) -> dict[Owner, int]:
        """The worker died: what it had open counts as errors. Returns how many, by revision."""
        now_s = time.time() if now_s is None else now_s
        self._read(worker, Sample(), now_s=now_s)
        lost: dict[Owner, int] = {}
        for handle, counters in self._seen.pop(_key(worker), {}).items():
            owner = self._owner_of(handle)
            if owner is not None and counters.in_flight:
                lost[owner] = lost.get(owner, 0) + counters.in_flight
        for owner, count in lost.items():
            tally = self._tally(owner, now_s)
            tally.errors[DIED] = tally.errors.get(DIED, 0) + count
            self._records[owner].in_a_row = 0
        self._closed.pop(_key(worker), None)
        self._journal.remove(f"seen {_key(worker)}")
        return lost

    def _read(self, worker: Worker, total: Sample, *, now_s: float) -> None:
        seen = self._seen.setdefault(_key(worker), {})
        closed = self._closed.setdefault(_key(worker), set())
        for handle, row in worker.stats.rows(skip=closed).items():
            owner = self._owner_of(handle)
            if owner is None:
                continue
            if row.retired:
                closed.add(handle)
            grown = row.counters.since(_reading_before(seen, handle, row.counters))
            seen[handle] = row.counters
            self._add(owner, grown, now_s=now_s)
            total.ended += grown.latency.total
            total.latency_s += grown.latency.sum_s

    def _add(self, owner: Owner, grown: Counters, *, now_s: float) -> None:
        if not any(grown.cells[:_TEXTS_AT]):
            return
        self._tally(owner, now_s).add(grown)
        record = self._records[owner]
        record.in_a_row = 0 if grown.errors else record.in_a_row + grown.successes
        record.texts |= grown.texts
        admitted = grown[RowCell.ADMITTED] + grown[RowCell.CACHE_HITS]
        if admitted:
            at_s = time.monotonic()
            record.uses = decayed_uses(record.uses, last_used_s=record.last_used_s, now_s=at_s) + admitted
            record.last_used_s = at_s

    def _tally(self, owner: Owner, now_s: float) -> _Tally:
        start_s = int(now_s) // BUCKET_S * BUCKET_S
        return self._records.setdefault(owner, _Record()).buckets.setdefault(start_s, _Tally())

    def expire(self, *, resident: Container[Owner], now_s: float | None = None) -> None:
        """Forget what is older than an hour; of revisions that left the pod, what is older than a minute."""
        now_s = time.time() if now_s is None else now_s
        for owner, record in list(self._records.items()):
            oldest_s = int(now_s) - (KEPT_S if owner in resident else KEPT_WHEN_GONE_S)
            for start_s in [start for start in record.buckets if start + BUCKET_S <= oldest_s]:
                del record.buckets[start_s]
                self._journal.remove(_bucket_key(owner, start_s))
            if not record.buckets and owner not in resident:
                del self._records[owner]

    # --- giving out -------------------------------------------------------------------------------------------------

    def uses(self, voice: str, revision: str) -> tuple[float, float]:
        """How often a revision was asked for (decayed), and when last (monotonic seconds)."""
        record = self._records.get((voice, revision), _Record())
        return record.uses, record.last_used_s

    def in_a_row(self, voice: str, revision: str) -> int:
        """Successes since the latest error, copies included; since the start, where the sidecar has seen none."""
        return self._records.get((voice, revision), _Record()).in_a_row

    def buckets(self, voice: str, revision: str, *, since_s: float = 0) -> tuple[Bucket, ...]:
        """Oldest first; empty ones are left out."""
        record = self._records.get((voice, revision), _Record())
        return tuple(
            tally.bucket(start_s)
            for start_s, tally in sorted(record.buckets.items())
            if start_s + BUCKET_S > since_s and tally.says_something
        )

    def windows(self, voice: str, *, since_s: int, now_s: float | None = None) -> WindowsDocument:
        """The evidence of one voice, and what all others did at the same time."""
        revisions = {
            revision: RevisionWindows(
                buckets=self.buckets(voice, revision, since_s=since_s), texts=f"{record.texts:0128x}"
            )
            for (name, revision), record in self._records.items()
            if name == voice
        }
        now = int(time.time() if now_s is None else now_s)
        return WindowsDocument(voice=voice, now_s=now, revisions=revisions, others=self.others(voice, since_s=since_s))

    def others(self, voice: str, *, since_s: float) -> tuple[OthersWindow, ...]:
        """What all voices but this one did."""
        sums: dict[int, tuple[int, int]] = {}
        for (name, _), record in self._records.items():
            if name == voice:
                continue
            for start_s, tally in record.buckets.items():
                if start_s + BUCKET_S > since_s:
                    requests, errors = sums.get(start_s, (0, 0))
                    failed = sum(tally.errors.values())
                    sums[start_s] = (requests + tally.successes + failed, errors + failed)
        return tuple(
            OthersWindow(start_s=start_s, requests=requests, errors=errors)
            for start_s, (requests, errors) in sorted(sums.items())
        )

    # --- over a restart ---------------------------------------------------------------------------------------------

    def journal_closed(self, voices: frozenset[str], *, now_s: float | None = None) -> None:
        """Once per bucket: write down those of these voices that closed, and how far the counters are."""
        now_s = time.time() if now_s is None else now_s
        current_s = int(now_s) // BUCKET_S * BUCKET_S
        if current_s == self._closed_s:
            return
        since_s, self._closed_s = self._closed_s, current_s
        for owner, record in self._records.items():
            if owner[0] in voices:
                for start_s, tally in record.buckets.items():
                    if since_s <= start_s <= current_s:
                        self._journal.put(_bucket_key(owner, start_s), _tally_record(tally, record.texts))
        for key, seen in self._seen.items():
            cells = {str(handle): list(counters.cells) for handle, counters in seen.items()}
            if cells and voices:
                self._journal.put(f"seen {key}", cells)

    def restore(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        """Take up what `journal_closed` wrote."""
        for key, record in records.items():
            kind, _, rest = key.partition(" ")
            if kind == "seen":
                self._seen[rest] = {int(handle): Counters(tuple(cells)) for handle, cells in record.items()}
            elif kind == "bucket":
                voice, revision, start = rest.split(" ")
                owned = self._records.setdefault((voice, revision), _Record())
                owned.buckets[int(start)] = _Tally(*record["tally"])
                owned.texts |= int(record["texts"], 16)


def _reading_before(seen: Mapping[int, Counters], handle: int, now: Counters) -> Counters:
    """What was read of a handle last; a row that was given away meanwhile began at zero again."""
    before = seen.get(handle, Counters())
    return before if before[RowCell.ADMITTED] <= now[RowCell.ADMITTED] else Counters()


def _key(worker: Worker) -> str:
    return f"{worker.id}.{worker.generation}.{worker.pid}"


def _bucket_key(owner: Owner, start_s: int) -> str:
    return f"bucket {owner[0]} {owner[1]} {start_s}"


def _tally_record(tally: _Tally, texts: int) -> dict[str, Any]:
    return {
        "tally": [tally.successes, tally.errors, tally.shielded, tally.mirrored, tally.latency_ms_sum],
        "texts": f"{texts:x}",
    }
