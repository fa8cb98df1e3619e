"""Voices that are not hot, as the rollout engine treats them: asleep is fine, and a rollout wakes whom it needs."""

from __future__ import annotations

from typing import Any

import pytest
from tests.fakes.world import World
from tests.support.rollouts import actives, change, run_to, run_until, serving_world, status_of
from tests.support.voices import KEY, revision

from segue.model import ConditionStatus, Phase
from segue.rollout import DropRevision, EnsureRevision, RunProbe
from segue.wire import RevisionPhase, Tier

V1, V2 = revision("v1"), revision("v2")
COLD: dict[str, Any] = {"residency": {"tier": "cold"}}


def cold_world(*, pods: int = 3, traffic: float = 0.0) -> World:
    """A cold voice whose `v1` is stable and at rest everywhere; every pod knows it."""
    world = serving_world(pods=pods, traffic=traffic, **COLD)
    world.run(KEY, seconds=20)
    put_to_rest(world)
    world.commands.clear()
    return world


def put_to_rest(world: World) -> None:
    """Nobody has asked for long."""
    for pod in world.pods.values():
        pod.sidecar.rest(KEY)


def phases(world: World, name: str) -> list[RevisionPhase | None]:
    """Where a revision stands, on each pod."""
    return [pod.sidecar.holds(KEY).get(name) for pod in world.pods.values()]


def sent(world: World, kind: type) -> list[Any]:
    """Commands of a kind, once per pod."""
    return [command for _, _, command in world.commands if isinstance(command, kind)]


def test_every_pod_learns_of_a_cold_voice_and_only_the_first_wave_loads_it() -> None:
    world = serving_world(pods=3, traffic=0.0, **COLD)
    world.run(KEY, seconds=20)
    assert actives(world) == {V1}
    assert sorted(str(phase) for phase in phases(world, V1)) == ["Cold", "Cold", "Ready"]
    assert {command.resident for command in sent(world, EnsureRevision)} == {True, False}


def test_a_voice_at_rest_is_served_and_left_alone() -> None:
    world = cold_world()
    world.run(KEY, seconds=600, every=30)
    assert world.commands == []
    assert phases(world, V1) == [RevisionPhase.COLD] * 3
    status = status_of(world)
    ready = status.condition("Ready")
    assert ready is not None
    assert (ready.status, ready.reason) == (ConditionStatus.TRUE, "Serving")
    assert "3 of them bring it up" in ready.message
    assert status.pods.summary == "3/3"


def test_a_rollout_of_a_voice_at_rest_goes_over_the_first_wave_and_redirects_the_others() -> None:
    world = cold_world()
    change(world, "v2", **COLD)
    run_until(world, lambda status: status.stable_revision == V2)
    world.run(KEY, seconds=20)
    assert actives(world) == {V2}
    assert sorted(str(phase) for phase in phases(world, V2)) == ["Cold", "Cold", "Ready"]
    probed = {uid for _, uid, command in world.commands if isinstance(command, RunProbe)}
    assert len(probed) == 1
    assert world.refusals == []


def test_a_pod_where_somebody_asks_takes_part_in_the_rollout() -> None:
    world = cold_world()
    for uid in list(world.pods)[:2]:
        world.pods[uid].sidecar.want(KEY)
    world.pass_time(5)
    change(world, "v2", **COLD)
    run_until(world, lambda status: status.stable_revision == V2)
    assert sum(phase is RevisionPhase.READY for phase in phases(world, V2)) == 2


def test_the_canary_has_the_stable_revision_at_hand() -> None:
    world = cold_world(pods=1)
    change(world, "v2", **COLD)
    run_to(world, Phase.CANARY)
    world.run(KEY, seconds=10)
    (pod,) = world.pods.values()
    assert pod.sidecar.pointer(KEY).candidate == V2
    assert phases(world, V1) == [RevisionPhase.READY]


def test_going_back_redirects_pods_where_nobody_hears_the_voice() -> None:
    world = cold_world()
    change(world, "v2", **COLD)
    run_until(world, lambda status: status.stable_revision == V2)
    world.run(KEY, seconds=20)
    put_to_rest(world)
    world.commands.clear()
    world.cluster.annotate(KEY, rollback="1")
    run_until(world, lambda status: status.stable_revision == V1)
    world.run(KEY, seconds=20)
    assert actives(world) == {V1}
    assert world.refusals == []


def test_a_version_that_goes_back_to_one_at_rest_is_rolled_out_again() -> None:
    """A copy at rest is no leftover of an earlier attempt that would have to be cleared first."""
    world = cold_world(pods=1)
    change(world, "v2", **COLD)
    run_until(world, lambda status: status.stable_revision == V2)
    put_to_rest(world)
    change(world, "v1", **COLD)
    run_until(world, lambda status: status.stable_revision == V1)
    assert actives(world) == {V1}


@pytest.mark.parametrize("tier", ["warm", "cold"])
def test_a_tier_that_changes_reaches_the_pods_without_a_rollout(tier: str) -> None:
    world = serving_world(pods=2, traffic=0.0)
    attempt = status_of(world).attempt
    world.cluster.edit_spec(KEY, lambda spec: spec.update(residency={"tier": tier}))
    world.run(KEY, seconds=90, every=10)
    tiers = {pod.sidecar.state().voices[KEY].revisions[V1].tier for pod in world.pods.values()}
    assert tiers == {Tier(tier)}
    assert phases(world, V1) == [RevisionPhase.READY] * 2
    world.commands.clear()
    world.run(KEY, seconds=90, every=10)
    assert world.commands == []
    assert status_of(world).attempt == attempt


def test_a_voice_that_becomes_hot_is_brought_up_everywhere() -> None:
    world = cold_world()
    world.cluster.edit_spec(KEY, lambda spec: spec.update(residency={"tier": "hot"}))
    world.run(KEY, seconds=90, every=10)
    assert phases(world, V1) == [RevisionPhase.READY] * 3


def test_a_cold_voice_that_is_deleted_is_let_go_everywhere() -> None:
    world = cold_world()
    world.release(KEY)
    assert phases(world, V1) == [None] * 3
    assert sent(world, DropRevision)
