"""Corners that a world rarely walks into: one snapshot each, changed by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.fakes.sidecar import Temper
from tests.fakes.world import World
from tests.support.rollouts import change, run_to, run_until, serving_world
from tests.support.voices import KEY, revision

from segue.model import Phase
from segue.rollout import Action, PodView, SetPointer, Snapshot, next_action
from segue.rollout.snapshot import RevisionView
from segue.wire import RevisionPhase

V1, V2 = revision("v1"), revision("v2")


def decide(world: World, snapshot: Snapshot) -> Action:
    action = next_action(snapshot, world.clock.now())
    assert action is not None
    return action


def with_pods(snapshot: Snapshot, alter: Callable[[PodView], PodView]) -> Snapshot:
    return replace(snapshot, pods=tuple(alter(pod) for pod in snapshot.pods))


def with_copy(pod: PodView, name: str, phase: RevisionPhase) -> PodView:
    return replace(pod, revisions={**pod.revisions, name: RevisionView(revision=name, phase=phase)})


def test_a_failed_copy_of_an_earlier_attempt_is_let_go_before_the_next_begins() -> None:
    world = serving_world()
    change(world, "v2")
    snapshot = with_pods(world.observe(KEY), lambda pod: with_copy(pod, V2, RevisionPhase.FAILED))
    status = decide(world, snapshot).status
    assert status is not None
    assert (status.phase, status.reason) == (Phase.IDLE, "Clearing")


def test_a_mark_of_an_earlier_attempt_is_taken_off_before_the_next_begins() -> None:
    world = serving_world()
    change(world, "v2")
    action = decide(world, with_pods(world.observe(KEY), lambda pod: replace(pod, withdrawn=V2)))
    assert action.status is not None
    assert action.status.phase is Phase.IDLE
    assert [(c.active, c.withdrawn) for c in action.commands if isinstance(c, SetPointer)] == [(V1, None)]


def test_the_spec_is_not_touched_while_a_pod_still_serves_the_bad_version() -> None:
    world = serving_world(pods=2)
    change(world, "v2", rollout={"canary": {"mode": "Skip"}})
    run_to(world, Phase.WATCHING, every=1)
    flipped = world.observe(KEY).pods
    world.cluster.annotate(KEY, rollback="1")
    world.reconcile(KEY)
    action = decide(world, replace(world.observe(KEY), pods=flipped))
    assert action.revert is None
    assert action.status is None
    assert {uid for c in action.commands if isinstance(c, SetPointer) for uid in c.pods} == {"pod-1", "pod-2"}


def test_a_pod_without_the_way_back_is_not_flipped() -> None:
    world = serving_world()
    change(world, "v2", rollout={"canary": {"mode": "Skip"}})
    run_to(world, Phase.FLIPPING, every=1)
    snapshot = with_pods(world.observe(KEY), lambda pod: with_copy(pod, V1, RevisionPhase.PREPARING))
    action = decide(world, snapshot)
    assert not [c for c in action.commands if isinstance(c, SetPointer)]


def test_a_late_pod_that_turns_up_in_mid_flip_speaks_before_it_is_flipped() -> None:
    rollout = {"canary": {"mode": "Skip"}, "maxFailedPods": 1, "progressDeadline": "1m", "preloadWaves": ["100%"]}
    world = serving_world(pods=2)
    world.pods["pod-2"].sidecar.tempers = {V2: Temper(load_s=70), "": Temper()}
    change(world, "v2", rollout=rollout)
    run_to(world, Phase.FLIPPING, every=1)
    for _ in range(40):
        world.reconcile(KEY)
        world.pass_time(1)
    assert world.pods["pod-2"].sidecar.pointer(KEY).active == V2
    assert world.pods["pod-2"].sidecar.unproven == []


def test_a_voice_out_of_reach_everywhere_is_left_alone() -> None:
    world = serving_world(pods=2)
    change(world, "v2", rollout={"canary": {"mode": "Skip"}})
    run_to(world, Phase.WATCHING, every=1)
    action = decide(world, with_pods(world.observe(KEY), lambda pod: replace(pod, in_reach=False, windows=None)))
    assert action.commands == ()
    assert action.status is None or action.status.phase is Phase.WATCHING


def test_a_pod_that_is_not_ready_yet_is_led_to_the_stable_version_before_anybody_is_sent_to_it() -> None:
    world = serving_world(pods=2)
    joiner = world.add_pod()
    world.set_ready(joiner.facts.uid, False)
    run_until(world, lambda _: joiner.sidecar.pointer(KEY).active == V1)
    assert not joiner.facts.ready


def test_a_pod_that_is_not_ready_yet_is_led_to_the_stable_version_in_mid_rollout_too() -> None:
    world = serving_world(pods=2)
    change(world, "v2")
    run_to(world, Phase.VERIFYING)
    joiner = world.add_pod()
    world.set_ready(joiner.facts.uid, False)
    run_until(world, lambda _: joiner.sidecar.pointer(KEY).active == V1)
    assert world.cluster.read(KEY).status.phase is not Phase.IDLE
