"""The operator dies at every single write and command of a rollout and of a rollback: the end is the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.fakes.cluster import Crashed
from tests.fakes.sidecar import Temper
from tests.fakes.world import World
from tests.support.rollouts import actives, change, serving_world, status_of
from tests.support.voices import KEY, revision

from segue.model import Phase

V1, V2 = revision("v1"), revision("v2")


def good_update() -> World:
    world = serving_world(pods=2)
    change(world, "v2")
    return world


def bad_update() -> World:
    world = serving_world(pods=2)
    world.tempers[V2] = Temper(error_rate=0.5)
    change(world, "v2", rollout={"canary": {"mode": "Skip"}})
    return world


def run_through(world: World, *, crash_at: int | None, after: bool) -> int:
    """Run to the end of it, dying once; returns how many writes and commands there were."""
    world.crash.arm(crash_at, after=after)
    for _ in range(400):
        try:
            world.reconcile(KEY)
        except Crashed:
            world.crash.arm(None)
        world.pass_time(5)
        if status_of(world).phase is Phase.IDLE and status_of(world).attempt == 2 and _at_rest(world):
            break
    return world.crash.writes


def _at_rest(world: World) -> bool:
    return actives(world) == {status_of(world).stable_revision} and status_of(world).reason == "Serving"


def count_writes(begin: Callable[[], World]) -> int:
    return run_through(begin(), crash_at=None, after=False)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("begin", "ends_with"), [(good_update, V2), (bad_update, V1)], ids=["update", "rollback"])
def test_dying_at_any_write_changes_nothing_in_the_end(begin: Callable[[], World], ends_with: str, after: bool) -> None:
    writes = count_writes(begin)
    assert writes > 15
    for crash_at in range(1, writes + 1):
        world = begin()
        run_through(world, crash_at=crash_at, after=after)
        status = status_of(world)
        where = f"died {'after' if after else 'before'} write {crash_at} of {writes}: {status.phase} {status.message}"
        assert (actives(world), status.stable_revision) == ({ends_with}, ends_with), where
        assert status.attempt == 2, where
        assert [pod.sidecar.unproven for pod in world.pods.values()] == [[], []], where
        failed = [each.revision for each in status.failed_revisions]
        assert failed == ([] if ends_with == V2 else [V2]), where
        assert world.cluster.read(KEY).spec.weights["acoustic"].uri.endswith("v2.npz" if ends_with == V2 else "v1.npz")
