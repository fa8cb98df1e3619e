"""A rollout that goes well, and everything it waits for."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest
from tests.fakes.sidecar import Temper
from tests.fakes.world import World
from tests.support.rollouts import (
    QUICK,
    actives,
    change,
    new_world,
    phase_of,
    run_to,
    run_until,
    serving_world,
    status_of,
)
from tests.support.voices import KEY, revision, voice_document

from segue.model import ConditionStatus, Phase, Status
from segue.rollout import EnsureRevision, RunProbe, SetPointer, Slots
from segue.wire import CanaryMode, ProbeKind

V1, V2, V3 = revision("v1"), revision("v2"), revision("v3")


def condition(world: World, kind: str) -> tuple[ConditionStatus, str]:
    found = status_of(world).condition(kind)
    assert found is not None
    return found.status, found.reason


def _is_stable(name: str, status: Status) -> bool:
    return status.stable_revision == name


def phases_seen(world: World) -> list[str]:
    names = {phase.value for phase in Phase}
    return [event.reason for event in world.events if event.reason in names]


def test_the_first_revision_has_no_canary_and_becomes_stable_after_its_watch() -> None:
    world = serving_world()
    assert phases_seen(world) == ["Preloading", "Verifying", "Flipping", "Watching"]
    assert actives(world) == {V1}
    assert condition(world, "Promoted") == (ConditionStatus.TRUE, "Confirmed")
    assert world.refusals == []


def test_an_update_goes_through_every_phase_in_order() -> None:
    world = serving_world(pods=3)
    world.events.clear()
    change(world, "v2")
    run_until(world, lambda status: status.stable_revision == V2)
    assert phases_seen(world) == ["Preloading", "Verifying", "Canary", "Flipping", "Watching"]
    assert actives(world) == {V2}
    assert [entry.revision for entry in status_of(world).history] == [V2, V1]
    assert world.refusals == []


def test_flipping_is_persisted_before_any_pod_is_told() -> None:
    world = serving_world(pods=2)
    change(world, "v2")
    run_to(world, Phase.CANARY)
    told = len(world.commands)
    while phase_of(world) is Phase.CANARY:
        world.reconcile(KEY)
        world.pass_time(1)
    flips = [c for _, _, c in world.commands[told:] if isinstance(c, SetPointer) and c.active == V2]
    assert phase_of(world) is Phase.FLIPPING
    assert flips == []


def test_every_flip_hands_over_the_way_back() -> None:
    world = serving_world(pods=2)
    change(world, "v2")
    run_to(world, Phase.WATCHING)
    for pod in world.pods.values():
        watch = pod.sidecar.watch(KEY)
        assert watch is not None
        assert watch.previous == V1
        assert V1 in pod.sidecar.holds(KEY)


def test_full_verification_runs_on_the_first_wave_only() -> None:
    world = serving_world(pods=5)
    started = len(world.commands)
    change(world, "v2")
    run_to(world, Phase.CANARY)
    probes = [(uid, c.kind) for _, uid, c in world.commands[started:] if isinstance(c, RunProbe)]
    assert sorted(kind for _, kind in probes) == [ProbeKind.FULL] + [ProbeKind.SENTENCE] * 4
    assert len({uid for uid, _ in probes}) == 5


def test_each_engine_build_and_device_class_is_verified_in_full_once() -> None:
    world = new_world(pods=2)
    world.add_pod(build="b2")
    world.add_pod(build="b2", device_class="h200")
    world.cluster.apply(voice_document("v1", **QUICK))
    run_to(world, Phase.WATCHING)
    classes = {(each.engine_build, each.device_class) for each in status_of(world).verifications}
    full = [c for _, _, c in world.commands if isinstance(c, RunProbe) and c.kind is ProbeKind.FULL]
    assert classes == {("b1", "cpu"), ("b2", "cpu"), ("b2", "h200")}
    assert len(full) == 3


def test_no_wave_begins_before_the_one_before_it_is_proven() -> None:
    world = serving_world(pods=4, rollout={**QUICK["rollout"], "preloadWaves": [1, "50%", "100%"]})
    world.tempers[V2] = Temper(load_s=30)
    started = len(world.commands)
    change(world, "v2", rollout={**QUICK["rollout"], "preloadWaves": [1, "50%", "100%"]})
    run_to(world, Phase.CANARY)
    asked = [at for at, _, c in world.commands[started:] if isinstance(c, EnsureRevision)]
    assert len(asked) == 4
    assert asked[1] - asked[0] >= timedelta(seconds=30)
    assert asked[2] - asked[1] >= timedelta(seconds=30)


def test_the_canary_gives_every_pod_the_same_word() -> None:
    world = serving_world(pods=3)
    change(world, "v2", rollout={"canary": {**QUICK["rollout"]["canary"], "mode": "Mirror", "steps": ["12.5%"]}})
    run_to(world, Phase.CANARY)
    world.settle_or_go_on(KEY)
    words = {(p.candidate, p.weight, p.mode) for p in (pod.sidecar.pointer(KEY) for pod in world.pods.values())}
    assert words == {(V2, 1250, CanaryMode.MIRROR)}


def test_canary_steps_are_taken_one_after_the_other() -> None:
    world = serving_world()
    change(world, "v2", rollout={"canary": {"steps": ["5%", "20%", "50%"], "successes": 20, "timeout": "2m"}})
    run_to(world, Phase.WATCHING)
    weights = [c.weight for _, _, c in world.commands if isinstance(c, SetPointer) and c.candidate == V2]
    assert weights == [500, 2000, 5000]


def test_no_canary_where_none_is_asked_for() -> None:
    world = serving_world()
    change(world, "v2", rollout={"canary": {"mode": "Skip"}})
    run_to(world, Phase.WATCHING)
    assert not [c for _, _, c in world.commands if isinstance(c, SetPointer) and c.candidate]


def test_a_quiet_voice_is_topped_up_with_sentences_and_their_share_is_said() -> None:
    world = serving_world(traffic=0)
    change(world, "v2")
    run_to(world, Phase.FLIPPING)
    message = next(event.message for event in reversed(world.events) if event.reason == "Flipping")
    assert "0 live requests and" in message
    assert "verification sentences" in message


def test_a_quiet_canary_holds_for_promote_where_that_is_asked_for() -> None:
    canary = {**QUICK["rollout"]["canary"], "insufficientTraffic": "Hold"}
    world = serving_world(traffic=0)
    change(world, "v2", rollout={"canary": canary})
    run_until(world, lambda status: status.reason == "CanaryHold")
    world.run(KEY, seconds=600, every=30)
    assert phase_of(world) is Phase.CANARY
    world.cluster.annotate(KEY, promote="1")
    run_to(world, Phase.FLIPPING)


def test_manual_approval_waits_for_promote_and_the_token_acts_once() -> None:
    rollout = {**QUICK["rollout"], "approval": "Manual"}
    world = serving_world()
    for version in ("v2", "v3"):
        change(world, version, rollout=rollout)
        run_until(world, lambda status: status.reason == "AwaitingApproval")
        world.run(KEY, seconds=1200, every=60)
        assert status_of(world).reason == "AwaitingApproval"
        assert status_of(world).deadline is None
        world.cluster.annotate(KEY, promote=f"yes-{version}")
        run_until(world, partial(_is_stable, revision(version)))


def test_a_promote_that_finds_nothing_to_promote_does_not_approve_a_later_version() -> None:
    rollout = {**QUICK["rollout"], "approval": "Manual"}
    world = serving_world()
    world.cluster.annotate(KEY, promote="too-early")
    change(world, "v2", rollout=rollout)
    run_until(world, lambda status: status.reason == "AwaitingApproval")
    world.run(KEY, seconds=60)
    assert status_of(world).reason == "AwaitingApproval"
    assert any(event.reason == "TokenUnused" for event in world.events)


def test_a_jump_in_pitch_is_held_until_promoted() -> None:
    world = serving_world()
    world.tempers[V2] = Temper(drift="median pitch 3.1 st higher, limit 1 st")
    change(world, "v2", continuity={"maxPitchDelta": "1st"})
    status = run_until(world, lambda status: status.reason == "ContinuityHold")
    assert "3.1 st" in status.message
    world.cluster.annotate(KEY, promote="1")
    run_until(world, lambda status: status.stable_revision == V2)


def test_a_first_revision_is_not_held_for_drift() -> None:
    world = new_world()
    world.tempers[V1] = Temper(drift="3 st")
    world.cluster.apply(voice_document("v1", continuity={"maxPitchDelta": "1st"}, **QUICK))
    run_to(world, Phase.WATCHING)


@pytest.mark.parametrize(("window", "phase"), [("preloadWindow", Phase.IDLE), ("switchWindow", Phase.VERIFYING)])
def test_windows_hold_back_what_has_not_begun(window: str, phase: Phase) -> None:
    world = serving_world()  # ten in the morning, UTC
    rollout = {**QUICK["rollout"], window: {"schedule": "0 2 * * *", "duration": "3h", "timeZone": "Asia/Shanghai"}}
    change(world, "v2", rollout=rollout)
    status = run_until(world, lambda status: status.reason == "WindowClosed")
    assert status.phase is phase
    assert "18:00:00" in status.message
    run_until(world, lambda status: status.stable_revision == V2, seconds=12 * 3600, every=60)
    assert world.clock.now().hour == 18


def test_windows_do_not_hold_back_the_first_revision() -> None:
    world = new_world()
    closed = {"schedule": "0 2 * * *", "duration": "1h"}
    world.cluster.apply(voice_document("v1", rollout={"preloadWindow": closed, "switchWindow": closed}))
    run_to(world, Phase.WATCHING)


def test_a_pause_holds_every_forward_step() -> None:
    world = serving_world()
    change(world, "v2")
    run_to(world, Phase.VERIFYING)
    world.cluster.edit_spec(KEY, lambda spec: spec["rollout"].update(paused=True))
    world.run(KEY, seconds=3600, every=60)
    assert (phase_of(world), status_of(world).reason) == (Phase.VERIFYING, "Paused")
    world.cluster.edit_spec(KEY, lambda spec: spec["rollout"].update(paused=False))
    run_until(world, lambda status: status.stable_revision == V2)


def test_a_full_fleet_queues_the_rollout_with_figures() -> None:
    world = serving_world()
    world.slots = Slots(taken=10, limit=10, ahead=3)
    change(world, "v2")
    world.run(KEY, seconds=3600, every=60)
    assert (phase_of(world), status_of(world).reason) == (Phase.IDLE, "Queued")
    assert "10 of 10" in status_of(world).message
    world.slots = Slots(taken=9, limit=10)
    run_until(world, lambda status: status.stable_revision == V2)


def test_a_full_pool_queues_the_rollout_and_does_not_fail_it() -> None:
    world = serving_world()
    sidecar = next(iter(world.pods.values())).sidecar
    sidecar.room = False
    change(world, "v2")
    world.run(KEY, seconds=3600, every=60)
    assert (phase_of(world), status_of(world).reason) == (Phase.PRELOADING, "Queued")
    assert "12 MB of 512 MB" in status_of(world).message
    sidecar.room = True
    run_until(world, lambda status: status.stable_revision == V2)


def test_pods_that_join_in_mid_rollout_hold_nothing_up_and_follow() -> None:
    world = serving_world(pods=2)
    change(world, "v2")
    run_to(world, Phase.VERIFYING)
    late = world.add_pod()
    world.tempers[V1] = Temper(load_s=600)
    run_to(world, Phase.WATCHING)
    assert late.sidecar.pointer(KEY).active is None
    world.tempers[V1] = Temper()
    run_until(world, lambda _: actives(world) == {V2})


def test_late_pods_within_the_tolerance_stay_on_stable_and_follow() -> None:
    rollout = {**QUICK["rollout"], "maxFailedPods": 1, "progressDeadline": "1m", "preloadWaves": ["100%"]}
    world = serving_world(pods=3, rollout=rollout)
    slow = world.pods["pod-2"].sidecar
    slow.reachable = False
    change(world, "v2", rollout=rollout)
    run_to(world, Phase.WATCHING)
    assert slow.pointer(KEY).active == V1
    slow.reachable = True
    run_until(world, lambda _: actives(world) == {V2})


def test_together_arms_every_pod_for_one_instant() -> None:
    rollout = {**QUICK["rollout"], "together": True}
    world = serving_world(pods=4, rollout=rollout)
    change(world, "v2", rollout=rollout)
    run_to(world, Phase.FLIPPING)
    world.settle_or_go_on(KEY)
    flips = [c for _, _, c in world.commands if isinstance(c, SetPointer) and c.active == V2]
    assert len({c.at for c in flips}) == 1
    assert flips[0].at is not None
    assert flips[0].at > world.clock.now()
    assert actives(world) == {V1}
    world.pass_time(3)
    assert actives(world) == {V2}


def test_an_instant_that_passed_while_the_operator_was_away_is_chosen_again() -> None:
    rollout = {**QUICK["rollout"], "together": True}
    world = serving_world(pods=2, rollout=rollout)
    change(world, "v2", rollout=rollout)
    run_to(world, Phase.FLIPPING)
    world.pass_time(60)
    world.reconcile(KEY)
    chosen = status_of(world).rollout
    assert chosen is not None
    assert chosen.flip_at is not None
    assert chosen.flip_at > world.clock.now()
    run_until(world, lambda status: status.stable_revision == V2)


def test_a_newer_spec_before_the_flip_replaces_the_shadow() -> None:
    world = serving_world()
    change(world, "v2")
    run_to(world, Phase.CANARY)
    world.settle_or_go_on(KEY)
    change(world, "v3")
    run_until(world, lambda status: status.stable_revision == V3)
    sidecar = next(iter(world.pods.values())).sidecar
    assert V2 not in sidecar.holds(KEY)
    assert status_of(world).failed_revisions == ()
    assert world.refusals == []


def test_a_newer_spec_in_mid_flip_takes_all_back_first() -> None:
    world = serving_world(pods=2)
    change(world, "v2")
    run_to(world, Phase.FLIPPING)
    world.pods["pod-2"].sidecar.reachable = False
    world.settle_or_go_on(KEY)
    change(world, "v3")
    run_to(world, Phase.IDLE, every=1)
    assert actives(world) == {V1}
    assert status_of(world).failed_revisions == ()
    world.pods["pod-2"].sidecar.reachable = True
    run_until(world, lambda status: status.stable_revision == V3)


def test_a_newer_spec_waits_for_an_open_watch() -> None:
    world = serving_world()
    change(world, "v2")
    run_to(world, Phase.WATCHING)
    change(world, "v3")
    world.run(KEY, seconds=30)
    assert (phase_of(world), status_of(world).reason) == (Phase.WATCHING, "WatchOpen")
    world.cluster.annotate(KEY, promote="1")
    world.settle_or_go_on(KEY)
    assert status_of(world).stable_revision == V2
    run_until(world, lambda status: status.stable_revision == V3)


def test_a_newer_spec_does_not_wait_for_the_watch_of_a_first_revision() -> None:
    world = new_world()
    world.cluster.apply(voice_document("v1", **QUICK))
    run_to(world, Phase.WATCHING)
    change(world, "v2")
    world.settle_or_go_on(KEY)
    assert phase_of(world) is Phase.PRELOADING


@pytest.mark.parametrize("phase", [Phase.PRELOADING, Phase.VERIFYING, Phase.CANARY, Phase.FLIPPING, Phase.WATCHING])
def test_a_sidecar_that_loses_everything_in_mid_rollout_serves_again_soon(phase: Phase) -> None:
    world = serving_world(pods=2)
    change(world, "v2")
    run_to(world, phase, every=1)
    world.pods["pod-1"].sidecar.restart(loses_memory=True)
    world.run(KEY, seconds=15)
    assert world.pods["pod-1"].sidecar.pointer(KEY).active in (V1, V2)
    run_until(world, lambda status: status.stable_revision == V2 and actives(world) == {V2})


def test_a_rollout_whose_pods_are_all_replaced_goes_on_with_the_new_ones() -> None:
    world = serving_world(pods=2)
    change(world, "v2")
    run_to(world, Phase.CANARY)
    world.pods.clear()
    world.add_pod()
    world.add_pod()
    run_until(world, lambda status: status.stable_revision == V2)
    run_until(world, lambda _: actives(world) == {V2})
    assert "CandidateLost" in [event.reason for event in world.events]


def test_the_previous_revision_stays_warm_and_is_let_go_in_the_end() -> None:
    world = serving_world(rollback={"keepWarm": "30m"})
    change(world, "v2", rollback={"keepWarm": "30m"})
    run_until(world, lambda status: status.stable_revision == V2)
    sidecar = next(iter(world.pods.values())).sidecar
    world.run(KEY, seconds=600, every=60)
    assert set(sidecar.holds(KEY)) == {V1, V2}
    world.run(KEY, seconds=1800, every=60)
    assert set(sidecar.holds(KEY)) == {V2}


def test_a_moved_file_changes_nothing() -> None:
    world = serving_world()
    world.cluster.edit_spec(KEY, lambda spec: spec["weights"]["acoustic"].update(uri="s3://moved/v1.npz"))
    world.run(KEY, seconds=60)
    assert phase_of(world) is Phase.IDLE
    assert status_of(world).attempt == 1
    assert status_of(world).observed_generation == 2


def test_counters_are_written_rarely_and_a_quiet_voice_not_at_all() -> None:
    world = serving_world()
    world.run(KEY, seconds=60)
    before = world.cluster.read(KEY).metadata.resource_version
    world.run(KEY, seconds=3600, every=60)
    assert world.cluster.read(KEY).metadata.resource_version == before


def test_a_deleted_voice_is_released() -> None:
    world = serving_world(pods=2)
    world.release(KEY)
    assert all(pod.sidecar.holds(KEY) == {} for pod in world.pods.values())
    assert actives(world) == {None}
