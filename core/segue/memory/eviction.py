"""Who makes room when the pool is full.

Pure and separate from the pool: the pool knows bytes and descriptors, this knows what a revision is worth.
"""

from __future__ import annotations

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
    rank
        Whoever has a lower one goes first, however much it is used.
    """

    revision: str
    parts: Mapping[str, int]
    protected: bool
    uses: float
    last_used_s: float
    rank: int = 0


def decayed_uses(uses: float, *, last_used_s: float, now_s: float) -> float:
    """What past uses count now: halved every hour."""
    return float(uses * 0.5 ** (max(0.0, now_s - last_used_s) / HALF_LIFE_S))


def eviction_order(residents: Iterable[Resident], *, now_s: float) -> list[Resident]:
    """Those that may go, the first to go first: by rank, fewest decayed uses, longest unused, then by name."""

    def worth(resident: Resident) -> tuple[int, float, float, str]:
        uses = decayed_uses(resident.uses, last_used_s=resident.last_used_s, now_s=now_s)
        return resident.rank, uses, resident.last_used_s, resident.revision

    return sorted((resident for resident in residents if not resident.protected), key=worth)


def choose_evictions(residents: Sequence[Resident], *, needed_bytes: int, now_s: float) -> tuple[str, ...] | None:
    """Revisions to evict, in eviction order, so that at least `needed_bytes` get free; None if all would not do.

    A part is freed only when nobody who stays needs it. Nobody goes in vain: without any one of those chosen it would
    not be enough. None evicts nobody.
    """
    chosen: list[Resident] = []
    for resident in eviction_order(residents, now_s=now_s):
        if _freed_bytes(residents, leaving=chosen) >= needed_bytes:
            break
        chosen.append(resident)
    if _freed_bytes(residents, leaving=chosen) < needed_bytes:
        return None
    for spared in reversed(chosen.copy()):
        others = [one for one in chosen if one is not spared]
        if _freed_bytes(residents, leaving=others) >= needed_bytes:
            chosen = others
    return tuple(one.revision for one in chosen)


def _freed_bytes(residents: Sequence[Resident], *, leaving: Sequence[Resident]) -> int:
    gone = {id(one) for one in leaving}
    kept = {digest for one in residents if id(one) not in gone for digest in one.parts}
    freed = {digest: size for one in leaving for digest, size in one.parts.items() if digest not in kept}
    return sum(freed.values())
