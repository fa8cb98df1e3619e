"""The small parts of the operator: leadership, fences, slots, clock offset, events, configuration."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from segue.rollout import Event
from segue.wire import Fence, ProbeKind, ProbePhase, ProbeReport, StateDocument
from segue_operator.changes import Changes
from segue_operator.config import InvalidConfig, load_config
from segue_operator.events import EventLog
from segue_operator.leader import NotLeader, take_leadership
from segue_operator.reports import ReportBook
from segue_operator.slots import SlotBook


def test_there_is_one_leader_and_the_loser_names_it(tmp_path: Path) -> None:
    leadership = take_leadership(tmp_path)
    with pytest.raises(NotLeader, match=r"pid \d+"):
        take_leadership(tmp_path)
    leadership.release()
    take_leadership(tmp_path).release()


def test_a_term_rises_at_each_start_even_when_the_clock_was_set_back(tmp_path: Path) -> None:
    first = take_leadership(tmp_path, unix_s=lambda: 1_000_000.0)
    first.release()
    second = take_leadership(tmp_path, unix_s=lambda: 5.0)
    assert (first.fences.term, second.fences.term) == (1_000_000, 1_000_001)
    second.release()


def test_a_term_is_written_down_before_it_is_used(tmp_path: Path) -> None:
    leadership = take_leadership(tmp_path)
    assert json.loads((tmp_path / "leader.json").read_text(encoding="utf-8"))["term"] == leadership.fences.term
    asyncio.run(leadership.fences.outrun(leadership.fences.term + 10))
    assert json.loads((tmp_path / "leader.json").read_text(encoding="utf-8"))["term"] == leadership.fences.term
    leadership.release()


def test_fences_rise_with_every_command(tmp_path: Path) -> None:
    leadership = take_leadership(tmp_path)
    fences = [leadership.fences.next() for _ in range(3)]
    assert fences == sorted(set(fences))
    asyncio.run(leadership.fences.outrun(fences[-1].term + 1))
    assert leadership.fences.next() > Fence(fences[-1].term + 1, 0)
    leadership.release()


def test_a_slot_goes_to_whoever_waits_longest() -> None:
    book = SlotBook(1)
    book.note("a", holds=True, queued=False)
    for name in ("b", "c"):
        assert book.seen_by(name).taken == 1 + book.seen_by(name).ahead
        book.note(name, holds=False, queued=True)
    assert book.note("a", holds=False, queued=False) == {"b", "c"}
    assert book.seen_by("b").taken == 0
    assert book.seen_by("c").taken == 1
    assert book.seen_by("d").taken == 2


def event_log(path: Path) -> EventLog:
    return EventLog.open(path, changes=Changes(), now=lambda: datetime(2026, 11, 22, tzinfo=UTC))


def test_events_are_numbered_over_restarts_and_a_torn_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    event_log(path).publish("default/a", Event(reason="One", message="first"))
    with path.open("a", encoding="utf-8") as stream:
        stream.write('{"id": 2, "at"')
    again = event_log(path)
    again.publish("default/a", Event(reason="Two", message="second", warning=True))
    assert [(entry.id, entry.reason, entry.kind) for entry in again.since(0)] == [
        (1, "One", "Normal"),
        (2, "Two", "Warning"),
    ]


def test_the_same_event_twice_in_a_row_is_said_once(tmp_path: Path) -> None:
    log = event_log(tmp_path / "events.jsonl")
    for _ in range(3):
        log.publish("default/a", Event(reason="One", message="first"))
    assert len(log.since(0)) == 1


def test_a_change_wakes_whoever_waits_for_it() -> None:
    async def scene() -> int:
        changes = Changes()
        waiting = asyncio.create_task(changes.wait_after(changes.version, timeout_s=30))
        await asyncio.sleep(0)
        changes.bump()
        await waiting
        return changes.version

    assert asyncio.run(scene()) == 1


def state_with(report: ProbeReport) -> StateDocument:
    revision = {"revision": "a" * 64, "phase": "Ready", "report": report.model_dump()}
    voice = {"uid": "u", "fence": "1.1", "revisions": {"a" * 64: revision}}
    return StateDocument.model_validate({"pod": {"uid": "p"}, "voices": {"default/a": voice}})


def test_the_figures_of_a_refused_revision_outlive_it_and_a_restart(tmp_path: Path) -> None:
    book = ReportBook(tmp_path)
    book.note(state_with(ProbeReport(key="k", kind=ProbeKind.FULL, phase=ProbePhase.RUNNING)))
    assert not book.of("default/a")
    book.note(state_with(ProbeReport(key="k", kind=ProbeKind.FULL, phase=ProbePhase.FAILED, similarity=0.4)))
    assert ReportBook(tmp_path).of("default/a")["a" * 64].similarity == 0.4


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "is no YAML"),
        ("voices: /v\nvoyces: /w\n", "voyces"),
        ("voices: /v\n", "fleet"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "operator.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidConfig, match=complaint):
        load_config(path)
