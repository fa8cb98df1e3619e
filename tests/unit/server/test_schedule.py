"""Who is stepped next: fair to quiet voices, quick to new listeners, never slow for copies."""

from __future__ import annotations

import pytest
from tests.support.tone_engine import ToneEngine, tone_part

from segue.engine import Device, PartView, SynthesisRequest, VoiceView
from segue_server.synthesis.rows import EngineRow, Priority, RowEnd, Samples
from segue_server.synthesis.schedule import WARM_UP_EVERY_S, Schedule

PART = tone_part(440.0)
VOICE = ToneEngine().build(VoiceView(parts={"tone": PartView(tensors=PART.tensors, meta=PART.meta)}), Device())


class Ignored:
    """A sink that is never told anything here."""

    def on_audio(self, samples: Samples) -> None: ...

    def on_end(self, end: RowEnd) -> None: ...

    def on_released(self) -> None: ...


def row(
    *, group: int = 1, priority: Priority = Priority.LIVE, arrived_s: float = 0.0, spoken_s: float | None = None
) -> EngineRow:
    made = EngineRow(VOICE, SynthesisRequest(text="x"), group=group, priority=priority, sink=Ignored())
    made.arrived_s = arrived_s
    if spoken_s is not None:
        made.first_audio_s, made.audio_s = arrived_s, spoken_s
    return made


def scheduled(*rows: EngineRow, max_rows: int = 16) -> Schedule:
    schedule = Schedule(max_rows=max_rows)
    for each in rows:
        schedule.add(each)
    return schedule


def test_nothing_waits_nothing_is_stepped() -> None:
    assert list(scheduled().next_batch(0.0)) == []


def test_rows_of_one_revision_go_together_and_revisions_take_turns() -> None:
    first, second, other = row(group=1), row(group=1), row(group=2)
    schedule = scheduled(first, second, other)
    turns = [{id(each) for each in schedule.next_batch(0.0)} for _ in range(4)]
    assert turns == [{id(first), id(second)}, {id(other)}] * 2


def test_a_popular_voice_does_not_keep_a_quiet_one_waiting() -> None:
    quiet = row(group=2, arrived_s=99.0)
    schedule = scheduled(*(row(group=1) for _ in range(200)), quiet, max_rows=4)
    assert quiet in [*schedule.next_batch(0.0), *schedule.next_batch(0.0)]


def test_who_runs_out_of_sound_first_goes_first() -> None:
    ahead = row(arrived_s=0.0, spoken_s=30.0)
    hungry = row(arrived_s=0.0, spoken_s=2.0)
    fresh = row(arrived_s=3.0)
    schedule = scheduled(ahead, fresh, hungry, max_rows=2)
    assert list(schedule.next_batch(5.0)) == [hungry, fresh]


def test_without_batching_one_row_is_stepped() -> None:
    assert len(scheduled(row(), row(), max_rows=1).next_batch(0.0)) == 1


def test_a_paused_row_is_left_out() -> None:
    paused, other = row(), row()
    paused.paused = True
    assert list(scheduled(paused, other).next_batch(0.0)) == [other]


def test_copies_wait_while_a_listener_can_be_served() -> None:
    copy, listener = row(group=2, priority=Priority.MIRROR), row(group=1)
    schedule = scheduled(copy, listener)
    assert [list(schedule.next_batch(0.0)) for _ in range(3)] == [[listener]] * 3
    listener.paused = True
    assert list(schedule.next_batch(0.0)) == [copy]


def test_a_first_row_gets_in_between_batches_but_not_often() -> None:
    first, listener = row(group=2, priority=Priority.WARM_UP), row(group=1)
    schedule = scheduled(first, listener)
    seen = [schedule.next_batch(1.0 + step * WARM_UP_EVERY_S / 5)[0] is first for step in range(20)]
    assert seen[0]
    assert sum(seen) == pytest.approx(4, abs=1)


def test_a_row_that_is_over_is_forgotten() -> None:
    over = row()
    schedule = scheduled(over)
    schedule.remove(over)
    assert (len(schedule), list(schedule.next_batch(0.0))) == (0, [])
