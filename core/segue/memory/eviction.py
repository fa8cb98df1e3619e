"""Who makes room when the pool is full.

Pure and separate from the pool: the pool knows bytes and descriptors, this knows what a revision is worth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

HALF_LIFE_S = 3600.0
"""After an hour without a request a use counts half."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """A revision in memory.

    Attributes
    ----------
    revision
        Its name.
    parts
        Digest to size in bytes; parts that others share free nothing.
    protected
        Active, candidate or previous of an open rollout or watch, pinned, or spoken with right now: never evicted.
    uses
        Requests, decayed by `decayed_uses` up to `last_used_s`.
    last_used_s
        Monotonic seconds.
    """

    revision: str
    parts: Mapping[str, int]
    protected: bool
    uses: float
    last_used_s: float


def decayed_uses(uses: float, *, last_used_s: float, now_s: float) -> float:
    """What past uses count now: halved every hour."""
    return float(uses * 0.5 ** (max(0.0, now_s - last_used_s) / HALF_LIFE_S))


def eviction_order(residents: Iterable[Resident], *, now_s: float) -> list[Resident]:
    """Those that may go, the first to go first: fewest decayed uses, then longest unused, then by name."""

    def worth(resident: Resident) -> tuple[float, float, str]:
        uses = decayed_uses(resident.uses, last_used_s=resident.last_used_s, now_s=now_s)
        return uses, resident.last_used_s, resident.revision

    return sorted((resident for resident in residents if not resident.protected), key=worth)


def choose_evictions(residents: Sequence[Resident], *, needed_bytes: int, now_s: float) -> tuple[str, ...] | None:
    """The fewest revisions, in eviction order, whose own parts come to `needed_bytes`; None if all do not.

    A part counts only once nobody who stays needs it. None evicts nobody: half a sacrifice helps no one.
    """
    if needed_bytes <= 0:
        return ()
    users = Counter(digest for resident in residents for digest in resident.parts)
    freed_bytes = 0
    chosen: list[Resident] = []
    for resident in eviction_order(residents, now_s=now_s):
        freed = _leave(resident, users)
        if not freed:
            continue
        chosen.append(resident)
        freed_bytes += freed
        if freed_bytes >= needed_bytes:
            return tuple(one.revision for one in chosen)
    return None


def _leave(resident: Resident, users: Counter[str]) -> int:
    freed = 0
    for digest, size_bytes in resident.parts.items():
        users[digest] -= 1
        if users[digest] == 0:
            freed += size_bytes
    return freed
