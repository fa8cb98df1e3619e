"""What alerts and queries do to a voice in each phase, and whom they are held against."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
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
from segue.rollout import Alert, QueryResult, Verdict, needs

V1, V2, V3 = revision("v1"), revision("v2"), revision("v3")
SKIP = {"rollout": {"canary": {"mode": "Skip"}}}
QUERY = {"queries": [{"name": "loudness", "promql": "loud > 3"}]}
ASKED: dict[str, Any] = {"watch": {**QUICK["watch"], **QUERY}}


def alert(world: World, *, began_s: float = -1) -> Alert:
    """An alert about this voice that began so many seconds from now."""
    labels = {"segue_namespace": "default", "segue_voice": "narrator"}
    return Alert(name="VoiceSilent", labels=labels, starts_at=world.clock.now() + timedelta(seconds=began_s))


def act_with(world: World, *alerts: Alert, verdict: Verdict | None = None) -> None:
    queries = [QueryResult(name="loudness", verdict=verdict, message="7")] if verdict is not None else []
    world.act_on(world.observe_with(KEY, alerts=alerts, queries=queries))


def guarded_world() -> World:
    """`v2` is stable, its watch is over, and `v1` is warm."""
    world = serving_world()
    change(world, "v2", **SKIP)
    run_until(world, lambda status: status.stable_revision == V2)
    return world


def test_an_alert_after_the_watch_takes_the_guarded_revision_back() -> None:
    world = guarded_world()
    act_with(world, alert(world))
    run_until(world, lambda status: status.phase is Phase.IDLE)
    assert actives(world) == {V1}


def test_an_alert_that_begins_in_a_canary_is_held_against_the_candidate() -> None:
    world = guarded_world()
    change(world, "v3")
    run_to(world, Phase.CANARY)
    world.pass_time(2)
    act_with(world, alert(world))
    run_until(world, lambda status: status.phase is Phase.IDLE)
    assert actives(world) == {V2}
    last = status_of(world).last_rollback
    assert last is not None
    assert (last.from_revision, last.to_revision, last.reason) == (V3, V2, "AlertFiring")


def test_an_alert_from_before_a_canary_stops_no_canary() -> None:
    world = serving_world()
    before = alert(world)
    change(world, "v2")
    run_to(world, Phase.CANARY)
    act_with(world, before)
    assert phase_of(world) is Phase.CANARY


def test_one_alert_takes_one_revision_back_and_not_the_next_one_with_it() -> None:
    world = guarded_world()
    change(world, "v3")
    run_to(world, Phase.CANARY)
    world.pass_time(2)
    firing = alert(world)
    act_with(world, firing)
    run_until(world, lambda status: status.phase is Phase.IDLE)
    late = alert(world, began_s=20)  # Prometheus fires late, on errors that the candidate made
    world.pass_time(25)
    for _ in range(30):
        act_with(world, firing, late)
        world.pass_time(10)
    assert actives(world) == {V2}
    assert status_of(world).stable_revision == V2


def test_queries_are_not_asked_while_they_could_speak_of_another_revision() -> None:
    world = serving_world(**ASKED)
    change(world, "v2", **SKIP, **ASKED)
    run_to(world, Phase.WATCHING)
    assert asks(world)
    run_until(world, lambda status: status.stable_revision == V2)
    assert asks(world), "the guard asks on"
    change(world, "v3", **ASKED)
    run_to(world, Phase.CANARY)
    assert not asks(world), "two revisions are heard"
    world.pass_time(2)
    act_with(world, alert(world))
    run_until(world, lambda status: status.phase is Phase.IDLE)
    assert not asks(world), "Prometheus still remembers the candidate"
    world.pass_time(30)
    assert asks(world)


def test_nothing_is_asked_without_a_flip_to_judge() -> None:
    world = new_world()
    world.cluster.apply(voice_document("v1", **{**QUICK, **ASKED}))
    run_to(world, Phase.VERIFYING)
    assert not asks(world)
    run_to(world, Phase.WATCHING)
    assert asks(world)
    run_until(world, lambda status: status.stable_revision == V1)
    assert not asks(world)


def asks(world: World) -> bool:
    voice = world.cluster.read(KEY)
    return needs(voice.spec, voice.status, world.clock.now()).queries


@pytest.mark.parametrize("by_query", [False, True], ids=["alert", "query"])
def test_a_first_revision_is_reported_and_kept(by_query: bool) -> None:
    world = new_world()
    world.cluster.apply(voice_document("v1", **QUICK))
    run_to(world, Phase.WATCHING)
    world.pass_time(2)
    alerts = () if by_query else (alert(world),)
    act_with(world, *alerts, verdict=Verdict.FAILING if by_query else None)
    reason = "QueryFailed" if by_query else "AlertFiring"
    assert (phase_of(world), status_of(world).reason) == (Phase.WATCHING, reason)
    assert actives(world) == {V1}
    assert reason in {event.reason for event in world.events}


def test_a_watch_whose_queries_had_no_answer_does_not_call_itself_watched() -> None:
    world = serving_world()
    change(world, "v2", **SKIP)
    run_to(world, Phase.WATCHING)
    act_with(world, verdict=Verdict.INCONCLUSIVE)
    for _ in range(200):
        act_with(world, verdict=Verdict.INCONCLUSIVE)
        world.pass_time(5)
        if phase_of(world) is Phase.IDLE:
            break
    watched = status_of(world).condition("Watched")
    assert watched is not None
    assert watched.status is ConditionStatus.UNKNOWN
    assert "query loudness is inconclusive" in watched.message
    assert actives(world) == {V2}
