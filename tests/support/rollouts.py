"""Worlds in which something has already happened, for tests that begin in the middle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.fakes.world import World
from tests.support.voices import KEY, voice_document

from segue.model import Phase, Status

QUICK: dict[str, Any] = {
    "rollout": {"canary": {"steps": ["10%"], "successes": 20, "timeout": "2m"}},
    "watch": {"duration": "2m", "sustainedFor": "30s", "minRequests": 20},
}
"""A policy whose rollouts take minutes."""


def new_world(*, pods: int = 1, traffic: float = 20.0) -> World:
    """Ready pods, and no voice yet."""
    world = World()
    for _ in range(pods):
        world.add_pod()
    world.set_traffic(traffic)
    return world


def serving_world(*, pods: int = 1, traffic: float = 20.0, **sections: Any) -> World:
    """`v1` is stable, and its guard is over: nothing is in the way of the next version."""
    world = new_world(pods=pods, traffic=traffic)
    world.cluster.apply(voice_document("v1", **{**QUICK, **sections}))
    run_until(world, lambda status: status.stable_revision is not None)
    return world


def change(world: World, version: str, **sections: Any) -> None:
    """Ask for another version, keeping annotations and the rest of the policy."""
    document = voice_document(version, **{**QUICK, **sections})
    document["metadata"]["annotations"] = dict(world.cluster.read(KEY).metadata.annotations)
    world.cluster.apply(document)


def status_of(world: World) -> Status:
    """What is persisted."""
    return world.cluster.read(KEY).status


def phase_of(world: World) -> Phase:
    """Where the voice stands."""
    return status_of(world).phase


def run_until(world: World, reached: Callable[[Status], bool], *, seconds: float = 7200, every: float = 5) -> Status:
    """Let the world run until the status is so; fails with where it stands instead."""
    passed = 0.0
    while not reached(status_of(world)):
        action = world.reconcile(KEY)
        if action is not None and (action.status is not None or action.revert is not None):
            continue
        world.pass_time(every)
        passed += every
        status = status_of(world)
        assert passed < seconds, f"still {status.phase}: {status.reason}: {status.message}"
    return status_of(world)


def run_to(world: World, phase: Phase, *, every: float = 2) -> Status:
    """Let the world run until the voice is in that phase."""
    return run_until(world, lambda status: status.phase is phase, every=every)


def actives(world: World) -> set[str | None]:
    """What the words of all pods say is active."""
    return {pod.sidecar.pointer(KEY).active for pod in world.pods.values()}
