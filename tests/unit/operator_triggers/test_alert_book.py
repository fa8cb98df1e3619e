"""The book of alerts: the order of calls does not matter, nothing fires for ever, and it stays small."""

from __future__ import annotations

from datetime import timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.clock import FakeClock

from segue.rollout import Alert
from segue_operator.triggers.alert_book import PER_VOICE, AlertBook, Notice

KEY = "default/narrator"
TTL = timedelta(minutes=30)


def notice(clock: FakeClock, *, began_s: float = 0, fires: bool = True, **more: object) -> Notice:
    fields: dict[str, object] = {"voice": KEY, "fingerprint": "f1", "ends_at": None, **more}
    name = str(fields["fingerprint"])
    alert = Alert(name=name, labels={}, starts_at=clock.now() + timedelta(seconds=began_s))
    return Notice(alert=alert, fires=fires, **fields)  # type: ignore[arg-type]


def new_book() -> tuple[AlertBook, FakeClock]:
    clock = FakeClock()
    return AlertBook(now=clock.now, ttl=TTL), clock


def names(book: AlertBook, key: str = KEY) -> set[str]:
    return {alert.name for alert in book.firing(key)}


def test_an_alert_fires_until_it_is_resolved() -> None:
    book, clock = new_book()
    assert book.note([notice(clock)]) == {KEY}
    assert names(book) == {"f1"}
    assert book.note([notice(clock, fires=False)]) == {KEY}
    assert names(book) == set()


def test_the_same_again_is_no_news() -> None:
    book, clock = new_book()
    book.note([notice(clock)])
    assert book.note([notice(clock)]) == frozenset()
    book.note([notice(clock, fires=False)])
    assert book.note([notice(clock, fires=False)]) == frozenset()


def test_a_resolution_of_something_unknown_is_no_news() -> None:
    book, clock = new_book()
    assert book.note([notice(clock, fires=False)]) == frozenset()


def test_a_late_repetition_does_not_undo_a_resolution() -> None:
    book, clock = new_book()
    first = notice(clock)
    book.note([first, notice(clock, fires=False)])
    assert book.note([first]) == frozenset()
    assert names(book) == set()


def test_an_alert_that_fires_again_has_begun_again() -> None:
    book, clock = new_book()
    book.note([notice(clock), notice(clock, fires=False)])
    assert book.note([notice(clock, began_s=60)]) == {KEY}
    assert names(book) == {"f1"}


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=5))
def test_the_order_of_calls_does_not_matter(calls: list[tuple[int, bool]]) -> None:
    ends = set()
    for order in permutations(calls):
        book, clock = new_book()
        for began_s, fires in order:
            book.note([notice(clock, began_s=began_s, fires=fires)])
        ends.add(tuple(alert.starts_at for alert in book.firing(KEY)))
    assert len(ends) == 1


def test_a_lost_resolution_does_not_fire_for_ever() -> None:
    book, clock = new_book()
    book.note([notice(clock)])
    clock.advance(TTL.total_seconds() - 1)
    assert names(book) == {"f1"}
    clock.advance(1)
    assert names(book) == set()


def test_a_repeated_alert_lives_on() -> None:
    book, clock = new_book()
    first = notice(clock)
    for _ in range(10):
        book.note([first])
        clock.advance(TTL.total_seconds() / 2)
    assert names(book) == {"f1"}


def test_an_end_that_the_sender_names_is_kept_to() -> None:
    book, clock = new_book()
    book.note([notice(clock, ends_at=clock.now() + timedelta(seconds=10))])
    clock.advance(10)
    assert names(book) == set()


def test_of_too_many_alerts_those_stay_that_began_last() -> None:
    book, clock = new_book()
    for number in range(1000):
        book.note([notice(clock, fingerprint=str(number), began_s=number)])
    assert len(book) == PER_VOICE
    assert names(book) == {str(number) for number in range(1000 - PER_VOICE, 1000)}


def test_resolved_alerts_make_room_first() -> None:
    book, clock = new_book()
    book.note([notice(clock)])
    book.note(notice(clock, fingerprint=f"old{number}", began_s=1, fires=False) for number in range(100))
    assert names(book) == {"f1"}


@pytest.mark.parametrize("fires", [True, False])
def test_voices_that_nobody_asks_for_are_let_go(fires: bool) -> None:
    book, clock = new_book()
    book.note(notice(clock, voice=f"default/v{number}", fires=fires) for number in range(50))
    assert len(book) == 50
    clock.advance(TTL.total_seconds())
    book.note([notice(clock)])
    assert len(book) == 1
