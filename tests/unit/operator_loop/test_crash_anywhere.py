"""The operator is killed at every single write and every single command of every story; each has one end.

The real controller, loops and desired sets run over fakes in simulated time (tests/support/operators.py, stories.py).
The next operator knows nothing but what was written, and commands under a higher term.
"""

from __future__ import annotations

from contextlib import closing

import pytest
from tests.support.stories import STORIES, Stage, Story


def play(story: Story, *, crash_at: int | None = None, after: bool = False) -> tuple[Stage, list[float]]:
    """The whole story with one death; and when the first operator had its effects."""
    with closing(Stage(story)) as stage:
        first = stage.operators[0]
        stage.crash.arm(crash_at, after=after)
        stage.play()
        return stage, first.effects


@pytest.mark.parametrize("story", STORIES, ids=str)
def test_a_story_ends_as_it_should(story: Story) -> None:
    stage, effects = play(story)
    stage.ended_well()
    assert len(effects) > 5


@pytest.mark.parametrize("story", STORIES, ids=str)
def test_an_operator_that_dies_after_any_effect_ends_where_it_would_have(story: Story) -> None:
    _, effects = play(story)
    for point in range(1, len(effects) + 1):
        stage, _ = play(story, crash_at=point, after=True)
        stage.ended_well(f"died after effect {point} of {len(effects)}")


@pytest.mark.parametrize("story", STORIES, ids=str)
def test_an_operator_that_dies_before_any_effect_ends_where_it_would_have(story: Story) -> None:
    """Where no time passed since the effect before, this is the death after that one, which was played above."""
    _, effects = play(story)
    for point in [1, *(number for number in range(2, len(effects) + 1) if effects[number - 1] > effects[number - 2])]:
        stage, _ = play(story, crash_at=point)
        stage.ended_well(f"died before effect {point} of {len(effects)}")


def test_an_operator_that_dies_after_every_single_effect_still_comes_to_the_end() -> None:
    """Each one lives for one write or command only."""
    for story in STORIES:
        with closing(Stage(story)) as stage:
            stage.dies_each_time = True
            stage.crash.arm(1, after=True)
            stage.play()
            stage.follow()
            stage.ended_well("died after every effect")
