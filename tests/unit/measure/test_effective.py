"""A flip is effective when the last worker has stopped using the old word."""

from __future__ import annotations

from segue.memory.page import Word
from segue.memory.stats_reader import Transition
from segue_cli.measure.effective import Flip, flip_delays

MS = 1_000_000


def flip(epoch: int, *, sent_ms: float = 0.0, stored_ms: float = 1.0) -> Flip:
    return Flip("default/v", epoch, int(sent_ms * MS), int(0.5 * MS), int(stored_ms * MS), int(2 * MS))


def crossing(old: int, new: int, *, last_old_ms: float, slot: int = 3) -> Transition:
    return Transition(
        number=1,
        slot=slot,
        old_word=Word(active=1, epoch=old).pack(),
        new_word=Word(active=2, epoch=new).pack(),
        last_old_ns=int(last_old_ms * MS),
        first_new_ns=int((last_old_ms + 1) * MS),
    )


def effective_ms(flips: list[Flip], workers: dict[int, list[Transition]]) -> float:
    return flip_delays(flips, slots={"default/v": 3}, transitions=workers).command_to_effective_ms.max


def test_the_store_counts_where_no_worker_was_late() -> None:
    assert effective_ms([flip(5)], {7: [crossing(4, 5, last_old_ms=0.2)]}) == 1.0


def test_the_latest_worker_counts() -> None:
    workers = {7: [crossing(4, 5, last_old_ms=3.0)], 8: [crossing(4, 5, last_old_ms=9.0)]}
    assert effective_ms([flip(5)], workers) == 9.0


def test_a_worker_that_skipped_an_epoch_crossed_both() -> None:
    workers = {7: [crossing(4, 6, last_old_ms=2.0)]}
    delays = flip_delays([flip(5), flip(6)], slots={"default/v": 3}, transitions=workers)
    assert delays.seen_by_workers == 2


def test_another_slot_says_nothing() -> None:
    delays = flip_delays([flip(5)], slots={"default/v": 3}, transitions={7: [crossing(4, 5, last_old_ms=9, slot=4)]})
    assert (delays.seen_by_workers, delays.command_to_effective_ms.max) == (0, 1.0)


def test_the_epoch_wraps_around() -> None:
    assert effective_ms([flip(0)], {7: [crossing(65_535, 0, last_old_ms=4.0)]}) == 4.0
