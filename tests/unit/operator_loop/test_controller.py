"""The controller around the end of a tenure, a restart, and voices that come back while they are let go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from tests.support.operators import Operator
from tests.support.stories import QUICK, STEP_S, STORIES, Stage, confirmed, deletes, in_phase, wants
from tests.support.voices import KEY, revision, voice_document

from segue.model import Phase
from segue.rollout import Slots
from segue.wire import Fence
from segue_operator.slots import SlotBook

GOOD = next(story for story in STORIES if story.name == "a good update")
OTHER = "default/other"


@pytest.fixture
def stage() -> Iterator[Stage]:
    """v1 is served, and nobody wants anything."""
    with closing(Stage(GOOD)) as made:
        made.deeds.clear()
        yield made


def around_effects(operator: Operator, before: Callable[[int], Any]) -> None:
    """Await `before` with the number of each effect that is about to go out."""
    real = operator.effect

    async def effect(do: Callable[[], Any]) -> Any:
        await before(len(operator.effects) + 1)
        return await real(do)

    operator.effect = effect  # type: ignore[method-assign]


def other_voice(version: str) -> dict[str, Any]:
    document = voice_document(version, **QUICK)
    document["metadata"]["name"] = "other"
    return document


def test_nothing_is_sent_or_written_once_the_tenure_has_ended(stage: Stage) -> None:
    (operator,) = stage.operators

    def end(stage: Stage) -> None:
        assert operator.fences is not None
        operator.fences.end("the test says so")

    stage.deeds = [(confirmed("v1"), wants("v2")), (in_phase(Phase.VERIFYING), end)]
    stage.until(lambda: not stage.deeds)
    effects, everything = len(operator.effects), stage.everything()
    stage.live(10 * STEP_S)
    assert len(operator.effects) == effects
    assert stage.everything()[1] == everything[1]
    assert stage.status.phase is Phase.VERIFYING
    assert operator.controller is not None
    assert operator.controller._loops == {}


def test_the_end_of_a_tenure_cancels_no_command_that_is_on_its_way(stage: Stage) -> None:
    (operator,) = stage.operators
    arrived = asyncio.Event()
    commands = len(stage.world.commands)

    async def hold_the_first(number: int) -> None:
        if number == 2:  # the status says Preloading; now the first pod is told
            assert operator.fences is not None
            operator.fences.end("the test says so")
            await arrived.wait()

    stage.world.cluster.apply(other_voice("v5"))
    around_effects(operator, hold_the_first)
    stage.live(5 * STEP_S)
    assert operator.fences is not None
    assert operator.fences.ended.is_set()
    writes = stage.world.cluster.read(KEY).metadata.resource_version
    operator.loop.call_soon(arrived.set)
    stage.live(STEP_S)
    assert len(stage.world.commands) == commands + 1
    stage.live(5 * STEP_S)
    assert len(stage.world.commands) == commands + 1
    assert stage.world.cluster.read(KEY).metadata.resource_version == writes


def test_slots_that_were_taken_before_a_restart_are_still_taken(stage: Stage) -> None:
    stage.deeds = [(confirmed("v1"), wants("v2"))]
    stage.until(lambda: stage.status.phase is Phase.CANARY)
    (old,) = stage.operators
    old.end()
    stage.operators.remove(old)
    book = stage.start_operator()
    stage.step()
    assert book.controller is not None
    fleet = book.controller.fleet_of(stage.world.cluster.read(KEY))
    assert book.controller.slots.seen_by(OTHER, fleet).taken == 1


def test_a_voice_that_is_made_anew_while_it_is_let_go_is_served_again(stage: Stage) -> None:
    (operator,) = stage.operators
    stage.live(STEP_S)
    old_uid = stage.world.cluster.read(KEY).metadata.uid

    async def come_back(number: int) -> None:
        if not stage.world.cluster.has(KEY) and set(stage.actives()) == {None}:
            wants("v1")(stage)

    stage.deeds = [(confirmed("v1"), deletes)]
    stage.until(lambda: not stage.deeds)
    around_effects(operator, come_back)
    stage.until(lambda: stage.world.cluster.has(KEY))
    stage.until(lambda: stage.status.stable_revision == revision("v1"))
    stage.live(20 * STEP_S)
    assert stage.world.cluster.read(KEY).metadata.uid != old_uid
    assert stage.actives() == {revision("v1")}


def test_a_term_that_a_pod_has_outrun_is_raised_and_the_rollout_goes_on(stage: Stage) -> None:
    for pod in stage.world.pods.values():
        pod.sidecar.confirm(KEY, stage.world.cluster.read(KEY).metadata.uid, Fence(10**6, 1))
    stage.deeds = [(confirmed("v1"), wants("v2"))]
    stage.until(lambda: confirmed("v2")(stage.status))
    (operator,) = stage.operators
    assert operator.fences is not None
    assert operator.fences.term > 10**6


def test_each_fleet_has_slots_of_its_own() -> None:
    book = SlotBook(1)
    book.note("default/a", "one", holds=True, queued=False)
    assert book.seen_by("default/b", "one") == Slots(taken=1, limit=1, ahead=0)
    assert book.seen_by("default/c", "two") == Slots(taken=0, limit=1, ahead=0)
    book.note("default/b", "one", holds=False, queued=True)
    book.note("default/d", "two", holds=False, queued=True)
    assert book.note("default/a", "one", holds=False, queued=False) == {"default/b"}
    assert book.forget("default/d") == frozenset()
