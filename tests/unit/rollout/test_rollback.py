"""The way back: what takes it, in which order, and what is remembered."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.fakes.cluster import ApiDown
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

from segue.model import ConditionStatus, Phase
from segue.rollout import Alert, Event, QueryResult, SetPointer, Verdict
from segue.wire import ProbePhase

V1, V2, V3 = revision("v1"), revision("v2"), revision("v3")
SKIP = {"rollout": {"canary": {"mode": "Skip"}}}


def wanted(world: World) -> str:
    return str(world.cluster.read(KEY).spec.weights["acoustic"].uri)


def failing_world(**sections: object) -> World:
    """`v2` has flipped everywhere, and from now on fails half of its requests."""
    world = serving_world(pods=2)
    change(world, "v2", **{**SKIP, **sections})
    run_to(world, Phase.WATCHING, every=1)
    world.tempers[V2] = Temper(error_rate=0.5)
    return world


def rolled_back(world: World) -> World:
    run_until(world, lambda status: status.phase is Phase.IDLE and status.last_rollback is not None, every=2)
    return world


def conditions(world: World) -> dict[str, ConditionStatus]:
    return {each.type: each.status for each in status_of(world).conditions}


def test_a_version_that_fails_live_goes_back_and_the_spec_with_it() -> None:
    world = rolled_back(failing_world())
    assert actives(world) == {V1}
    assert wanted(world) == "file:///voices/v1.npz"
    last = status_of(world).last_rollback
    assert last is not None
    assert (last.from_revision, last.to_revision, last.reason, last.reverted) == (V2, V1, "ErrorRateExceeded", True)
    assert conditions(world)["Promoted"] is ConditionStatus.FALSE
    assert conditions(world)["Ready"] is ConditionStatus.TRUE
    assert world.refusals == []


def test_promoted_is_false_until_the_next_promotion() -> None:
    world = rolled_back(failing_world())
    world.run(KEY, seconds=3600, every=60)
    promoted = status_of(world).condition("Promoted")
    assert promoted is not None
    assert (promoted.status, promoted.reason) == (ConditionStatus.FALSE, "RolledBack")
    change(world, "v3")
    run_until(world, lambda status: status.stable_revision == V3)
    world.settle_or_go_on(KEY)
    assert conditions(world)["Promoted"] is ConditionStatus.TRUE


def test_pods_go_back_even_while_the_api_server_is_away() -> None:
    world = failing_world()
    world.pass_time(40)
    snapshot = world.observe(KEY)
    world.cluster.down = True
    with pytest.raises(ApiDown):
        world.act_on(snapshot)
    assert actives(world) == {V1}
    world.pass_time(60)
    world.cluster.down = False
    rolled_back(world)
    assert actives(world) == {V1}


def test_an_operator_that_died_before_it_wrote_the_rollback_does_not_flip_forward_again() -> None:
    world = failing_world()
    world.tempers[V2] = Temper()  # from now on its requests look well: only the pods know
    snapshot = world.observe_with(KEY, alerts=[_alert(world)])
    world.pass_time(1)
    world.cluster.down = True
    with pytest.raises(ApiDown):
        world.act_on(snapshot)
    world.cluster.down = False
    world.restart_operator()
    told = len(world.commands)
    rolled_back(world)
    assert not [c for _, _, c in world.commands[told:] if isinstance(c, SetPointer) and c.active == V2]


def _alert(world: World, **labels: str) -> Alert:
    ours = {"segue_namespace": "default", "segue_voice": "narrator"}
    return Alert(name="VoiceSilent", labels={**ours, **labels}, starts_at=world.clock.now() + timedelta(seconds=1))


@pytest.mark.parametrize(
    ("labels", "goes_back"), [({}, True), ({"segue_voice": "other"}, False), ({"segue_namespace": "x"}, False)]
)
def test_alerts_count_only_for_this_voice(labels: dict[str, str], goes_back: bool) -> None:
    world = serving_world()
    change(world, "v2", **SKIP)
    run_to(world, Phase.WATCHING)
    world.act_on(world.observe_with(KEY, alerts=[_alert(world, **labels)]))
    assert (phase_of(world) is Phase.ROLLING_BACK) is goes_back


def test_an_alert_from_before_the_flip_does_not_count() -> None:
    world = serving_world()
    alert = _alert(world)
    change(world, "v2", **SKIP)
    run_to(world, Phase.WATCHING)
    world.act_on(world.observe_with(KEY, alerts=[alert]))
    assert phase_of(world) is Phase.WATCHING


@pytest.mark.parametrize(
    ("verdict", "goes_back"), [(Verdict.FAILING, True), (Verdict.INCONCLUSIVE, False), (Verdict.PASSING, False)]
)
def test_queries_fail_a_watch_only_by_a_result(verdict: Verdict, goes_back: bool) -> None:
    world = serving_world()
    change(world, "v2", **SKIP)
    run_to(world, Phase.WATCHING)
    query = QueryResult(name="loudness", verdict=verdict, message="1 series")
    world.act_on(world.observe_with(KEY, queries=[query]))
    assert (phase_of(world) is Phase.ROLLING_BACK) is goes_back


def test_a_failed_verification_never_reaches_a_pointer() -> None:
    world = serving_world()
    world.tempers[V2] = Temper(probe=ProbePhase.FAILED)
    change(world, "v2")
    rolled_back(world)
    assert not [c for _, _, c in world.commands if isinstance(c, SetPointer) and V2 in (c.active, c.candidate)]
    assert status_of(world).failed_revisions[0].reason == "VerificationFailed"
    assert wanted(world) == "file:///voices/v1.npz"


def test_a_failed_first_revision_leaves_the_voice_without_one() -> None:
    world = new_world()
    world.tempers[V1] = Temper(probe=ProbePhase.FAILED)
    world.cluster.apply(voice_document("v1", **QUICK))
    rolled_back(world)
    world.settle_or_go_on(KEY)
    assert actives(world) == {None}
    assert wanted(world) == "file:///voices/v1.npz"
    said = conditions(world)
    assert (said["Ready"], said["Stalled"]) == (ConditionStatus.FALSE, ConditionStatus.TRUE)
    assert next(iter(world.pods.values())).sidecar.holds(KEY) == {}


def test_the_watch_of_a_first_revision_reports_and_never_acts() -> None:
    world = new_world()
    world.tempers[V1] = Temper(error_rate=0.5)
    world.cluster.apply(voice_document("v1", **QUICK))
    run_to(world, Phase.WATCHING)
    world.run(KEY, seconds=60)
    assert status_of(world).reason == "ErrorRateExceeded"
    run_until(world, lambda status: status.stable_revision == V1)
    assert actives(world) == {V1}


def test_a_file_that_is_not_what_was_promised_fails_at_once() -> None:
    world = serving_world()
    world.tempers[V2] = Temper(load_failure="DigestMismatch")
    change(world, "v2")
    began = world.clock.now()
    rolled_back(world)
    assert status_of(world).failed_revisions[0].reason == "DigestMismatch"
    assert world.clock.now() - began < timedelta(minutes=1)


def test_no_progress_until_the_deadline_goes_back() -> None:
    world = serving_world()
    world.tempers[V2] = Temper(load_s=1e6)
    change(world, "v2")
    rolled_back(world)
    assert status_of(world).failed_revisions[0].reason == "ProgressDeadlineExceeded"


def test_a_probe_that_cannot_run_is_asked_for_again_and_brands_nothing() -> None:
    world = serving_world()
    world.tempers[V2] = Temper(probe=ProbePhase.ERROR)
    change(world, "v2")
    run_until(
        world,
        lambda status: status.rollout is not None and status.rollout.probe_round == 1,
    )
    world.tempers[V2] = Temper()
    run_until(world, lambda status: status.stable_revision == V2)


def test_a_canary_that_fails_is_taken_out_of_the_word() -> None:
    world = serving_world(pods=2)
    world.tempers[V2] = Temper(error_rate=0.3)
    change(world, "v2")
    rolled_back(world)
    assert {pod.sidecar.pointer(KEY).candidate for pod in world.pods.values()} == {None}
    assert not [c for _, _, c in world.commands if isinstance(c, SetPointer) and c.active == V2]


def test_a_machine_that_dies_brands_no_revision() -> None:
    world = serving_world(pods=2)
    change(world, "v2", **SKIP)
    run_to(world, Phase.WATCHING)
    world.tempers[V2] = Temper(error_rate=0.3)
    for pod in world.pods.values():
        pod.sidecar.others_error_rate = 0.3
    run_until(world, lambda status: status.reason == "ErrorsElsewhereToo")
    world.run(KEY, seconds=1200, every=10)
    assert actives(world) == {V2}
    status = run_until(world, lambda status: status.stable_revision == V2, every=30)
    watched = status.condition("Watched")
    assert watched is not None
    assert watched.status is ConditionStatus.UNKNOWN


def test_the_guard_after_the_watch_still_goes_back() -> None:
    world = serving_world()
    change(world, "v2", **SKIP)
    run_until(world, lambda status: status.stable_revision == V2)
    world.tempers[V2] = Temper(error_rate=0.5)
    run_until(world, lambda status: status.stable_revision == V1)
    assert actives(world) == {V1}
    assert [entry.revision for entry in status_of(world).history] == [V1]
    assert wanted(world) == "file:///voices/v1.npz"


def test_the_guard_stays_on_while_the_next_version_is_prepared() -> None:
    world = serving_world()
    change(world, "v2", **SKIP)
    run_until(world, lambda status: status.stable_revision == V2)
    world.tempers[V3] = Temper(load_s=600)
    change(world, "v3", **SKIP)
    run_to(world, Phase.PRELOADING)
    world.tempers[V2] = Temper(error_rate=0.5)
    run_until(world, lambda status: status.stable_revision == V1, every=2)
    assert actives(world) == {V1}
    world.tempers[V3] = Temper()
    run_until(world, lambda status: status.stable_revision == V3)


def test_a_pod_that_was_out_of_reach_goes_back_as_soon_as_it_answers() -> None:
    world = failing_world()
    lost = world.pods["pod-2"].sidecar
    world.pass_time(10)
    world.observe(KEY)
    lost.reachable = False
    rolled_back(world)
    lost.reachable = True
    world.settle_or_go_on(KEY)
    assert lost.pointer(KEY).active == V1


def test_a_spec_that_says_stable_again_is_a_rollback_and_no_rollout() -> None:
    world = serving_world()
    attempts = status_of(world).attempt
    for phase in (Phase.VERIFYING, Phase.CANARY, Phase.FLIPPING, Phase.WATCHING):
        change(world, "v2")
        run_to(world, phase, every=1)
        world.settle_or_go_on(KEY) if phase is Phase.CANARY else None
        change(world, "v1")
        run_to(world, Phase.IDLE, every=1)
        world.run(KEY, seconds=10)
        attempts += 1
        assert (actives(world), status_of(world).attempt) == ({V1}, attempts)
        assert status_of(world).failed_revisions == ()
    assert world.refusals == []


def test_a_persons_rollback_acts_once_and_is_remembered() -> None:
    world = serving_world()
    change(world, "v2")
    run_until(world, lambda status: status.stable_revision == V2)
    world.cluster.annotate(KEY, rollback="now")
    run_until(world, lambda status: status.stable_revision == V1)
    world.run(KEY, seconds=600, every=30)
    assert actives(world) == {V1}
    assert status_of(world).failed_revisions[0].reason == "ManualRollback"


def test_a_rollback_with_nothing_to_go_back_to_is_refused() -> None:
    world = serving_world()
    world.cluster.annotate(KEY, rollback="now")
    world.run(KEY, seconds=30)
    assert actives(world) == {V1}
    assert "no earlier revision" in next(e.message for e in world.events if e.reason == "TokenUnused")


def test_a_self_revert_is_taken_as_a_rollback() -> None:
    world = failing_world()
    world.run(KEY, seconds=0)
    world.pass_time(200)  # the operator is out of reach; the pods judge by themselves
    assert actives(world) == {V1}
    rolled_back(world)
    assert V2 in [each.revision for each in status_of(world).failed_revisions]
    assert all(pod.sidecar.state().voices[KEY].self_reverted is None for pod in world.pods.values())


def test_a_failed_revision_is_not_tried_again_without_another_policy_or_a_token() -> None:
    world = rolled_back(failing_world())
    attempt = status_of(world).attempt
    change(world, "v2", **SKIP)
    world.run(KEY, seconds=3600, every=60)
    assert status_of(world).attempt == attempt
    assert wanted(world) == "file:///voices/v2.npz"
    said = conditions(world)
    assert (said["Ready"], said["Stalled"]) == (ConditionStatus.FALSE, ConditionStatus.TRUE)
    assert "segue.dev/retry" in status_of(world).message


@pytest.mark.parametrize("how", ["token", "policy"])
def test_a_retry_token_or_another_policy_tries_it_again(how: str) -> None:
    world = rolled_back(failing_world())
    world.tempers[V2] = Temper()
    if how == "token":
        change(world, "v2", **SKIP)
        world.run(KEY, seconds=10)
        world.cluster.annotate(KEY, retry="1")
    else:
        change(world, "v2", **SKIP, watch={**QUICK["watch"], "maxErrorRate": 0.02})
    run_until(world, lambda status: status.stable_revision == V2)
    assert status_of(world).failed_revisions == ()


def test_a_retry_token_acts_once() -> None:
    world = rolled_back(failing_world())
    change(world, "v2", **SKIP)
    world.cluster.annotate(KEY, retry="1")
    attempt = status_of(world).attempt
    world.run(KEY, seconds=1800, every=5)
    assert status_of(world).attempt == attempt + 1
    assert actives(world) == {V1}


def test_a_spec_that_git_owns_is_not_written() -> None:
    world = failing_world()
    world.owner = "Argo CD"
    rolled_back(world)
    world.run(KEY, seconds=60)
    assert wanted(world) == "file:///voices/v2.npz"
    assert actives(world) == {V1}
    said = conditions(world)
    assert (said["Ready"], said["Stalled"], said["Promoted"]) == (
        ConditionStatus.FALSE,
        ConditionStatus.TRUE,
        ConditionStatus.FALSE,
    )


@pytest.mark.parametrize(
    ("mode", "owner", "reverted"),
    [("StatusOnly", None, False), ("RevertSpec", "Argo CD", True), ("Auto", None, True), ("Auto", "Flux", False)],
)
def test_rollback_modes(mode: str, owner: str | None, reverted: bool) -> None:
    world = failing_world(rollback={"mode": mode})
    world.owner = owner
    rolled_back(world)
    assert (wanted(world) == "file:///voices/v1.npz") is reverted


def test_a_bad_version_that_is_re_applied_after_our_revert_is_not_fought() -> None:
    world = failing_world()
    reverts = 0
    for _ in range(200):
        world.reconcile(KEY)
        if wanted(world) == "file:///voices/v1.npz":
            reverts += 1
            change(world, "v2", **SKIP)  # what self-heal does
        world.pass_time(2)
    assert reverts == 1
    assert actives(world) == {V1}
    assert phase_of(world) is Phase.IDLE


def test_a_revert_puts_back_what_the_bad_version_added_and_took_away() -> None:
    world = serving_world(options={"speed": 1.2})
    world.tempers[""] = Temper(probe=ProbePhase.FAILED)
    document = voice_document("v2", **QUICK)
    document["spec"]["reference"] = {"uri": "file:///r.wav", "sha256": "a" * 64}
    world.cluster.apply(document)
    rolled_back(world)
    spec = world.cluster.read(KEY).spec
    assert (spec.options, spec.reference, wanted(world)) == ({"speed": 1.2}, None, "file:///voices/v1.npz")


def test_wrong_settings_are_no_revision_and_are_never_reverted() -> None:
    world = serving_world()
    world.cluster.edit_spec(KEY, lambda spec: spec.update(verification={"minSimilarity": 1.0}))
    world.run(KEY, seconds=600, every=30)
    assert world.cluster.read(KEY).spec.verification.min_similarity == 1.0
    assert status_of(world).attempt == 1


def test_every_rollback_says_why() -> None:
    world = rolled_back(failing_world())
    warning = next(event for event in world.events if event.reason == "RolledBack")
    assert isinstance(warning, Event)
    assert warning.warning
    assert "requests failed" in warning.message
