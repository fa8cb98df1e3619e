"""The list of voices: what is on top, and that only differences are drawn and told."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.support.console import NEW, FakeSource, rolling, voice_document

from segue_operator.console.attention import CODES, Level, attention
from segue_operator.console.rows import AT_A_TIME, Rows
from segue_operator.ports import Problem


def refreshed(rows: Rows) -> Rows:
    asyncio.run(rows.refresh())
    return rows


def told(rows: Rows, since: int | None) -> dict[str, dict[str, Any]]:
    difference = rows.since(since, epoch=rows.epoch)
    return {row["key"]: row for row in map(json.loads, difference.rows)}


@pytest.mark.parametrize(
    ("voice", "level", "code"),
    [
        (voice_document(), Level.QUIET, "Serving"),
        (voice_document(spec={"rollout": {"paused": True}}), Level.WAITS, "Paused"),
        (voice_document(activeRevision=None), Level.WAITS, "NoVersion"),
        (voice_document(activeRevision=None, spec={"rollout": {"paused": True}}), Level.WAITS, "Paused"),
        (rolling("Canary"), Level.MOVING, "Canary"),
        (rolling("Watching"), Level.WATCHED, "Watching"),
        (rolling("Verifying", reason="AwaitingApproval"), Level.WAITS, "AwaitingApproval"),
        (rolling("Preloading", reason="Queued"), Level.WAITS, "Queued"),
        (rolling("RollingBack"), Level.BAD, "RollingBack"),
        (rolling("Canary", spec={"rollout": {"paused": True}}), Level.WAITS, "Paused"),
        (voice_document(conditions=[{"type": "Stalled", "status": "True"}]), Level.BAD, "Stalled"),
        (
            voice_document(conditions=[{"type": "Promoted", "status": "False", "reason": "RolledBack"}]),
            Level.BAD,
            "RolledBack",
        ),
        (
            voice_document(conditions=[{"type": "Ready", "status": "False", "reason": "NotServed"}]),
            Level.BAD,
            "NotServed",
        ),
        ({"metadata": {"name": "new"}, "spec": {}}, Level.WAITS, "NoVersion"),
    ],
)
def test_what_goes_wrong_is_above_what_waits_and_that_above_what_moves(
    voice: dict[str, Any], level: Level, code: str
) -> None:
    assert attention(voice, unusable=False) == (level, code)
    assert code in CODES


def test_a_file_that_cannot_be_used_is_bad_whatever_the_voice_does() -> None:
    assert attention(rolling("Canary"), unusable=True) == (Level.BAD, "Unusable")


def test_only_a_voice_that_changed_is_drawn_again() -> None:
    source = FakeSource().put(*(voice_document(f"default/v{number}") for number in range(50)))
    rows = refreshed(Rows(source))
    assert rows.drawn == 50
    source.put(rolling("Canary", "default/v7"))
    refreshed(rows)
    refreshed(rows)
    assert rows.drawn == 51
    assert told(rows, 1).keys() == {"default/v7"}
    assert told(rows, 1)["default/v7"]["target"] == NEW


def test_a_change_that_the_list_does_not_show_is_not_told() -> None:
    source = FakeSource().put(voice_document())
    rows = refreshed(Rows(source))
    source.put({**voice_document(), "more": 1})
    refreshed(rows)
    assert told(rows, 1) == {}


def test_a_voice_that_was_taken_back_says_why_and_not_what_serves_since() -> None:
    back = [{"type": "Promoted", "status": "False", "reason": "RolledBack"}]
    source = FakeSource().put(voice_document(conditions=back, lastRollback={"message": "textMatch failed"}))
    assert told(refreshed(Rows(source)), None)["default/narrator"]["message"] == "textMatch failed"


def test_a_voice_that_went_is_told_and_one_that_came_back_is_not_gone() -> None:
    source = FakeSource().put(voice_document(), voice_document("default/other"))
    rows = refreshed(Rows(source))
    del source.voices["default/other"]
    refreshed(rows)
    assert rows.since(1, epoch=rows.epoch).gone == ("default/other",)
    source.put(voice_document("default/other"))
    refreshed(rows)
    assert rows.since(1, epoch=rows.epoch).gone == ()


@pytest.mark.parametrize(("since", "epoch"), [(None, ""), (1, "another process"), (99, "")])
def test_a_page_of_another_process_is_told_everything(since: int | None, epoch: str) -> None:
    rows = refreshed(Rows(FakeSource().put(voice_document())))
    difference = rows.since(since, epoch=epoch or rows.epoch)
    assert difference.whole
    assert len(difference.rows) == 1


def test_a_mistake_in_a_file_is_told_although_the_voice_did_not_change() -> None:
    source = FakeSource().put(voice_document())
    rows = refreshed(Rows(source))
    source.wrong.append(Problem(file="narrator.yaml", message="is no number", voices=("default/narrator",)))
    refreshed(rows)
    assert told(rows, 1)["default/narrator"]["code"] == "Unusable"


def test_drawing_a_thousand_rows_lets_others_have_their_turn() -> None:
    source = FakeSource().put(*(voice_document(f"default/v{number}") for number in range(1000)))
    rows, turns = Rows(source), 0

    async def look() -> None:
        nonlocal turns
        drawing = asyncio.create_task(rows.refresh())
        while not drawing.done():
            await asyncio.sleep(0)
            turns += 1

    asyncio.run(look())
    assert turns >= 1000 / AT_A_TIME
