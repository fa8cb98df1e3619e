"""Who goes from one voice to another is counted on both sides, and nobody is remembered for ever."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from segue.memory.messages import VoiceName
from segue_server.revisions.resident import Resident
from segue_server.revisions.roster import Roster
from segue_server.synthesis.listeners import ListenerBook
from segue_server.synthesis.spec import Listener


class House:
    """Residents by handle, each with what was counted of it."""

    def __init__(self, **more: int) -> None:
        self.residents: dict[int, Any] = {}
        self.book = ListenerBook(cast(Roster, SimpleNamespace(resident=self.residents.get)), **more)

    def add(self, handle: int, voice: str) -> Resident:
        counted: list[str] = []
        stats = SimpleNamespace(
            counted=counted,
            listener_joined=lambda: counted.append("joined"),
            listener_left=lambda: counted.append("left"),
        )
        ref = SimpleNamespace(voice=VoiceName("default", voice))
        self.residents[handle] = SimpleNamespace(handle=handle, ref=ref, stats=stats)
        return cast(Resident, self.residents[handle])

    def counted(self, handle: int) -> list[str]:
        found: list[str] = self.residents[handle].stats.counted
        return found


def listener(**known: str) -> Listener:
    return Listener(request_id="r", **known)


def test_going_to_another_voice_counts_on_both_sides() -> None:
    house = House()
    one, other = house.add(1, "narrator"), house.add(2, "villain")
    for resident in (one, one, other, other):
        house.book.note(listener(session="s"), resident)
    assert (house.counted(1), house.counted(2)) == (["left"], ["joined"])


def test_another_revision_of_the_same_voice_is_no_switch() -> None:
    house = House()
    old, new = house.add(1, "narrator"), house.add(2, "narrator")
    house.book.note(listener(user="u"), old)
    house.book.note(listener(user="u"), new)
    assert house.counted(1) == house.counted(2) == []


def test_who_left_is_told_of_the_revision_that_was_heard_last() -> None:
    house = House()
    old, new, other = house.add(1, "narrator"), house.add(2, "narrator"), house.add(3, "villain")
    for resident in (old, new, other):
        house.book.note(listener(session="s"), resident)
    assert (house.counted(1), house.counted(2), house.counted(3)) == ([], ["left"], ["joined"])


def test_a_revision_that_was_let_go_misses_nobody() -> None:
    house = House()
    one, other = house.add(1, "narrator"), house.add(2, "villain")
    house.book.note(listener(session="s"), one)
    del house.residents[1]
    house.book.note(listener(session="s"), other)
    assert house.counted(2) == ["joined"]


def test_an_address_is_no_listener() -> None:
    house = House()
    for resident in (house.add(1, "narrator"), house.add(2, "villain")):
        house.book.note(listener(api_key="k", client="10.0.0.1"), resident)
    assert len(house.book) == 0
    assert house.counted(1) == house.counted(2) == []


def test_those_not_heard_of_for_longest_are_forgotten() -> None:
    house = House(remembered=2)
    one, other = house.add(1, "narrator"), house.add(2, "villain")
    for name in ("a", "b", "a", "c"):
        house.book.note(listener(session=name), one)
    assert len(house.book) == 2
    house.book.note(listener(session="b"), other)
    assert house.counted(2) == [], "b was forgotten"
    house.book.note(listener(session="c"), other)
    assert house.counted(2) == ["joined"]
