"""A status that somebody else wrote: the voice goes on, from what is known to be good."""

from __future__ import annotations

import pytest
from tests.fakes.world import World
from tests.support.rollouts import actives, change, new_world, run_to, run_until, serving_world, status_of
from tests.support.voices import KEY, revision, voice_document

from segue.model import ConditionStatus, Phase, Status
from segue.rollout import next_action

V1, V2 = revision("v1"), revision("v2")
OPEN = [phase for phase in Phase if phase is not Phase.IDLE]


def in_phase(phase: Phase) -> World:
    """A world whose rollout of `v2` stands there."""
    world = serving_world(pods=2)
    change(world, "v2")
    if phase is not Phase.ROLLING_BACK:
        run_to(world, phase, every=1)
        return world
    run_to(world, Phase.WATCHING, every=1)
    world.cluster.annotate(KEY, rollback="1")
    run_to(world, phase, every=1)
    return world


def lose_records(world: World) -> None:
    """What a restore from a backup, or an edit of the status, may leave behind."""
    world.cluster.edit_status(KEY, lambda status: [status.pop(name, None) for name in ("rollout", "rollback")])


@pytest.mark.parametrize("phase", OPEN)
def test_a_status_without_its_record_is_mended_and_said(phase: Phase) -> None:
    world = in_phase(phase)
    lose_records(world)
    action = next_action(world.observe(KEY), world.clock.now())
    assert action is not None
    assert not action.commands, "what is heard stays until the next look"
    assert action.status is not None
    assert (action.status.phase, action.status.stable_revision) == (Phase.IDLE, V1)
    assert [(event.reason, event.warning) for event in action.events] == [("StatusMended", True)]
    assert str(phase) in action.events[0].message


@pytest.mark.parametrize("phase", OPEN)
def test_the_rollout_begins_anew_and_ends(phase: Phase) -> None:
    world = in_phase(phase)
    lose_records(world)

    def over(status: Status) -> bool:
        return status.phase is Phase.IDLE and status.reason not in {"StatusMended", "Clearing"}

    status = run_until(world, over)
    heard = V1 if phase is Phase.ROLLING_BACK else V2
    assert (status.stable_revision, actives(world)) == (heard, {heard})
    promoted = status.condition("Promoted")
    assert promoted is not None
    assert (promoted.status is ConditionStatus.TRUE) == (heard == V2)


def test_a_first_revision_that_lost_its_record_is_heard_all_the_while() -> None:
    world = new_world()
    world.cluster.apply(voice_document("v1"))
    run_to(world, Phase.WATCHING, every=1)
    lose_records(world)

    def over(_: Status) -> bool:
        assert actives(world) == {V1}
        return status_of(world).stable_revision == V1

    run_until(world, over)
