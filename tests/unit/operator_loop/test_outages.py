"""The API server is away for a minute, or the leader is stopped as by SIGSTOP and continues when another one leads.

With the real election on a Lease: a leader that cannot renew commands and polls no more, and what it had in its hands
when it was stopped changes nothing afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from tests.support.operators import Operator
from tests.support.stories import STEP_S, STORIES, Stage, Story, in_phase

from segue.model import Phase

GOOD = next(story for story in STORIES if story.name == "a good update")
BAD = next(story for story in STORIES if "fails in its watch, and the spec is written back" in story.name)
BY_HAND = next(story for story in STORIES if story.name == "a rollback by hand after the watch")
AWAY_S = 60.0


@contextmanager
def stage_with_leader(story: Story) -> Iterator[tuple[Stage, Operator]]:
    """The first operator leads, nothing has happened yet."""
    with closing(Stage(story, elects=True)) as stage:
        (first,) = stage.operators
        stage.deeds.clear()
        stage.until(lambda: first.fences is not None)
        stage.deeds += story.deeds
        yield stage, first


@pytest.mark.parametrize(
    ("story", "phase"),
    [
        *((GOOD, phase) for phase in Phase if phase is not Phase.ROLLING_BACK),
        (BAD, Phase.FLIPPING),
        (BAD, Phase.WATCHING),
        (BAD, Phase.ROLLING_BACK),
        (BY_HAND, Phase.ROLLING_BACK),
    ],
    ids=str,
)
def test_an_api_server_that_is_away_for_a_minute_changes_no_end(story: Story, phase: Phase) -> None:
    with stage_with_leader(story) as (stage, first):
        stage.goes_away_in = phase
        stage.until(lambda: stage.world.cluster.down)
        led_before = first.fences
        stage.live(AWAY_S - STEP_S)
        assert first.controller is None, "it commands though it could not renew"
        commands = len(stage.world.commands)
        stage.live(STEP_S)
        assert len(stage.world.commands) == commands
        stage.set_api_server(down=False)
        stage.play()
        stage.ended_well(f"API server away in {phase}")
        assert first.fences is not led_before


@pytest.mark.parametrize("story", [GOOD, BAD], ids=str)
def test_a_leader_that_is_stopped_at_any_effect_changes_nothing_when_it_continues(story: Story) -> None:
    for point in range(1, effects_of(story) + 1):
        with stage_with_leader(story) as (stage, first):
            second = stage.start_operator()
            first.stop_at = point
            stage.play()
            stage.follow()
            where = f"stopped before effect {point}"
            stage.ended_well(where)
            assert_deposed(stage, first, second, where)
            stage.live(3 * STEP_S)
            stage.ended_well(where)


def assert_deposed(stage: Stage, first: Operator, second: Operator, where: str) -> None:
    """The second leads; the first continues, and nothing comes of it."""
    assert first.loop.frozen, where
    assert first.fences is not None
    assert second.fences is not None
    assert second.fences.term > first.fences.term
    before = stage.everything()
    first.loop.frozen = False
    first.run_due()
    assert stage.everything() == before, where
    assert first.controller is None, f"{where}: it goes on commanding"


def effects_of(story: Story) -> int:
    """How many the first operator has when nothing stops it."""
    with stage_with_leader(story) as (stage, first):
        stage.play()
        assert len(first.effects) > 10
        return len(first.effects)


def test_a_handover_in_mid_rollout_is_quick_and_loses_nothing() -> None:
    with stage_with_leader(GOOD) as (stage, first):
        second = stage.start_operator()
        stage.until(lambda: in_phase(Phase.CANARY)(stage.status))
        first.loop.call_soon(first.election.stop)
        began_s = stage.world.clock.unix_s()
        while second.fences is None:
            stage.step(0.1)
            assert stage.world.clock.unix_s() - began_s < 2.0
        assert first.controller is None
        stage.play()
        stage.ended_well("handed over in the canary")
