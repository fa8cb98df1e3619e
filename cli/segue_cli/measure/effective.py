"""From a commanded flip to its effect in every worker, read from the workers' stats pages.

Separate because it is the definition of `command_to_effective_ms`, for bench and demo alike: t0 is the commander's
clock before it writes the command, t1 the later of the store and the last admission, in any worker, that still used the
old word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from segue.memory.page import Word
from segue.memory.stats_reader import StatsReader, Transition
from segue_cli.measure.latency import Spread

EPOCHS = 1 << 16


class Flip(NamedTuple):
    """One store that was commanded. All times CLOCK_MONOTONIC ns of this machine."""

    voice: str
    epoch: int
    sent_ns: int
    received_ns: int
    stored_ns: int
    answered_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FlipDelays:
    """What a run of flips came to."""

    command_to_effective_ms: Spread
    receive_to_store_ms: Spread
    store_to_last_old_ms: Spread
    round_trip_ms: Spread
    flips: int
    seen_by_workers: int
    """Flips that at least one worker admitted a request under, old word before and new word after."""


def flip_delays(
    flips: Sequence[Flip], *, slots: Mapping[str, int], transitions: Mapping[int, Sequence[Transition]]
) -> FlipDelays:
    """Match each flip with each worker's crossing from an older to this or a newer epoch.

    Parameters
    ----------
    slots
        Voice to its slot in the pointer page.
    transitions
        Worker pid to the changes of word that it noted.
    """
    crossings = [_crossings(worker) for worker in transitions.values()]
    effective, after_store, seen = [], [], 0
    for flip in flips:
        last_old_ns = [found for worker in crossings if (found := worker.get((slots[flip.voice], flip.epoch)))]
        seen += bool(last_old_ns)
        latest = max([flip.stored_ns, *last_old_ns])
        effective.append((latest - flip.sent_ns) / 1e6)
        after_store.append(max(0, latest - flip.stored_ns) / 1e6)
    return FlipDelays(
        command_to_effective_ms=Spread.of(effective),
        receive_to_store_ms=Spread.of([(flip.stored_ns - flip.received_ns) / 1e6 for flip in flips]),
        store_to_last_old_ms=Spread.of(after_store),
        round_trip_ms=Spread.of([(flip.answered_ns - flip.sent_ns) / 1e6 for flip in flips]),
        flips=len(flips),
        seen_by_workers=seen,
    )


def read_transitions(pages: Mapping[int, StatsReader], heads: Mapping[int, int]) -> dict[int, list[Transition]]:
    """What each worker noted since the heads."""
    return {pid: page.transitions(after=heads.get(pid, 0)) for pid, page in pages.items()}


def heads_of(pages: Mapping[int, StatsReader]) -> dict[int, int]:
    """The number of the latest change of word of each worker."""
    return {pid: max((t.number for t in page.transitions()), default=0) for pid, page in pages.items()}


def _crossings(worker: Sequence[Transition]) -> dict[tuple[int, int], int]:
    """(slot, epoch) to the last admission under an older word; one crossing may span several epochs."""
    found: dict[tuple[int, int], int] = {}
    for transition in worker:
        old, new = Word.unpack(transition.old_word).epoch, Word.unpack(transition.new_word).epoch
        for step in range(1, (new - old) % EPOCHS + 1):
            found[(transition.slot, (old + step) % EPOCHS)] = transition.last_old_ns
    return found
