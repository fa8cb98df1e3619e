"""The real loop over a real folder: a voice comes, changes, goes bad, goes; and the operator dies at every write."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.cluster import Crashed
from tests.fakes.sidecar import Temper
from tests.support.folder_world import KEY, FolderWorld

from segue.errors import Conflict, StaleFence
from segue.model import ConditionStatus, Phase
from segue.wire import ProbePhase

QUICK: dict[str, Any] = {
    "rollout": {"canary": {"mode": "Skip"}},
    "watch": {
        "duration": "20s",
        "sustainedFor": "10s",
        "minRequests": 5,
        "minErrors": 2,
        "insufficientTraffic": "Proceed",
    },
}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[FolderWorld]:
    made = FolderWorld(tmp_path)
    yield made
    made.close()


def live(world: FolderWorld, *, seconds: float = 60) -> None:
    asyncio.run(world.run(seconds=seconds, every=2))


def test_the_first_version_of_a_voice_is_verified_and_served(world: FolderWorld) -> None:
    world.write_voice("v1", **QUICK)
    live(world)
    assert world.status.phase is Phase.IDLE
    assert world.sidecar.pointer(KEY).active == world.status.stable_revision == world.revision_of_file()
    promoted = world.status.condition("Promoted")
    assert promoted is not None
    assert promoted.status is ConditionStatus.TRUE


def test_an_edit_rolls_the_new_version_out(world: FolderWorld) -> None:
    world.write_voice("v1", **QUICK)
    live(world)
    before = world.status.stable_revision
    world.write_voice("v2", **QUICK)
    live(world)
    assert world.status.stable_revision == world.revision_of_file() != before
    assert [entry.reason for entry in world.events.since(0)][:1] == ["Preloading"]


def test_weights_that_are_overwritten_in_place_are_a_new_version(world: FolderWorld) -> None:
    world.write_voice("v1", **QUICK)
    live(world)
    before = world.status.stable_revision
    (world.folder / "v1.bin").write_text("other weights", encoding="utf-8")
    from tests.support.folder_world import age

    age(world.folder / "v1.bin")
    live(world)
    assert world.status.stable_revision not in (before, None)


def test_a_version_that_fails_on_live_requests_goes_back_and_the_yaml_is_reverted(world: FolderWorld) -> None:
    world.write_voice("v1", **QUICK)
    live(world)
    good, text = world.status.stable_revision, (world.folder / "narrator.yaml").read_text(encoding="utf-8")
    world.write_voice("v2", **QUICK)
    fail_live(world)
    live(world, seconds=120)
    assert world.sidecar.pointer(KEY).active == good
    assert (world.folder / "narrator.yaml").read_text(encoding="utf-8") == text
    assert world.status.last_rollback is not None
    assert world.status.last_rollback.reverted
    promoted = world.status.condition("Promoted")
    assert promoted is not None
    assert promoted.reason == "RolledBack"


def fail_live(world: FolderWorld) -> None:
    """Every version but the one that is served fails half of its requests."""
    good = world.status.stable_revision
    assert good is not None
    world.sidecar.requests_per_s = 10
    world.sidecar.tempers = {good: Temper(load_s=1, probe_s=1), "": Temper(load_s=1, probe_s=1, error_rate=0.5)}


def test_a_version_that_fails_its_verification_is_never_pointed_at(world: FolderWorld) -> None:
    world.write_voice("v1", **QUICK)
    live(world)
    good = world.status.stable_revision
    world.sidecar.tempers = {"": Temper(probe=ProbePhase.FAILED)}
    world.write_voice("v2", **QUICK)
    live(world)
    assert {after for _, _, _, after in world.sidecar.flips} == {good}


def test_a_deleted_file_releases_the_voice(world: FolderWorld) -> None:
    path = world.write_voice("v1", **QUICK)
    live(world)
    path.unlink()
    live(world)
    assert world.sidecar.state().voices == {}
    assert world.cluster.keys() == frozenset()
    assert not list((world.state / "status").glob("*.json"))


def test_a_voice_is_not_forgotten_while_a_pod_is_out_of_reach(world: FolderWorld) -> None:
    path = world.write_voice("v1", **QUICK)
    live(world)
    path.unlink()
    world.sidecar.reachable = False
    live(world, seconds=20)
    assert world.cluster.keys() == {KEY}
    world.sidecar.reachable = True
    live(world, seconds=20)
    assert world.cluster.keys() == frozenset()


def test_a_conflicting_write_of_the_person_wins_over_the_revert(world: FolderWorld) -> None:
    world.write_voice("v1", **QUICK)
    live(world)
    world.write_voice("v2", **QUICK)
    fail_live(world)
    real_edit = world.cluster.edit

    def person_is_faster(*arguments: Any) -> object:
        world.cluster.edit = real_edit
        world.write_voice("v3", **QUICK)
        world.sidecar.tempers = {"": Temper()}
        return real_edit(*arguments)

    world.cluster.edit = person_is_faster
    live(world, seconds=40)
    assert "v3.bin" in (world.folder / "narrator.yaml").read_text(encoding="utf-8")


def test_a_pod_out_of_reach_is_commanded_again_when_it_is_back(world: FolderWorld) -> None:
    world.write_voice("v1", **QUICK)
    world.sidecar.reachable = False
    live(world, seconds=10)
    world.sidecar.reachable = True
    live(world)
    assert world.sidecar.pointer(KEY).active == world.revision_of_file()


def test_a_leader_with_a_term_that_fell_behind_takes_a_higher_one(world: FolderWorld) -> None:
    world.write_voice("v1", **QUICK)
    live(world)
    (world.state / "leader.json").unlink()
    world.clock._now = world.clock.now().replace(year=2020)
    world.start_operator()
    world.write_voice("v2", **QUICK)
    live(world, seconds=100)
    assert world.sidecar.pointer(KEY).active == world.revision_of_file()
    assert any(isinstance(refusal, StaleFence) for refusal in world.control.refused)


def crash_points(tmp_path: Path) -> int:
    """How many writes the whole story makes."""
    world = FolderWorld(tmp_path / "counting")
    world.crash.arm(None)
    tell_story(world)
    world.close()
    return world.crash.writes


def tell_story(world: FolderWorld) -> str:
    """A good version, then one that fails on live requests; returns the good one."""
    world.write_voice("v1", **QUICK)
    world.run_through(seconds=40, every=5)
    good = world.revision_of_file()
    world.write_voice("v2", **QUICK)
    fail_live(world)
    world.run_through(seconds=60, every=5)
    return good


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_an_operator_that_dies_at_any_write_or_command_ends_where_it_would_have(tmp_path: Path, after: bool) -> None:
    (tmp_path / "counting").mkdir()
    total = crash_points(tmp_path)
    assert total > 15
    for point in range(1, total + 1):
        root = tmp_path / f"{point}"
        root.mkdir()
        world = FolderWorld(root)
        world.crash.arm(point, after=after)
        good = tell_story(world)
        assert world.sidecar.pointer(KEY).active == good, f"died at write {point}: {world.status}"
        assert world.status.phase is Phase.IDLE, f"died at write {point}: {world.status}"
        assert "v1.bin" in (world.folder / "narrator.yaml").read_text(encoding="utf-8"), f"died at write {point}"
        world.close()


def test_nothing_is_commanded_on_a_word_that_somebody_else_changed(world: FolderWorld) -> None:
    world.write_voice("v1", **QUICK)
    live(world)
    assert not [refusal for refusal in world.control.refused if isinstance(refusal, Conflict)]


def test_the_crash_switch_really_kills(world: FolderWorld) -> None:
    world.write_voice("v1", **QUICK)
    world.crash.arm(1)
    with pytest.raises(Crashed):
        live(world)
