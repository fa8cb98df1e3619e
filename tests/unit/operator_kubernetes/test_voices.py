"""What the adapter makes of answers that a healthy API server does not give: the rest is tested against a real one."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from tests.support.kubernetes_bodies import Body, source, spec, voice_body
from tests.unit.operator_kubernetes.scripted import ScriptedApi

from segue.errors import InvalidVoiceModel
from segue.model import Phase, Status, VoiceModel
from segue.rollout import Event, RevertSpec
from segue_operator.fleet.records import FleetKey, Holding
from segue_operator.kubernetes.api import ApiRefused, ApiUnavailable, ObjectNotFound
from segue_operator.kubernetes.voices import KubernetesCluster, RevertRefused, UnusableVoice
from segue_operator.ports import WriteConflict

KEY = "voices/narrator"

Found = TypeVar("Found")


class World:
    """Objects by key, and the adapter before them."""

    def __init__(self, *bodies: Body) -> None:
        self.objects = {f"{body['metadata']['namespace']}/{body['metadata']['name']}": body for body in bodies}
        self.fails: Exception | None = None
        self.told: list[Event] = []
        self.forbidden: set[str] = set()
        self.api = ScriptedApi(self._answer)
        self.cluster = KubernetesCluster(
            api=self.api, require_allowed=self._require_allowed, tell=lambda _, event: self.told.append(event)
        )

    def _answer(self, verb: str, path: str, body: Any) -> Body:
        if self.fails is not None:
            raise self.fails
        parts = path.split("/")
        key = f"{parts[5]}/{parts[7]}"
        if key not in self.objects:
            raise ObjectNotFound(key)
        if verb == "PUT":
            self.objects[key] = {**self.objects[key], "status": body["status"]}
            self.bump(key)
        return self.objects[key]

    def _require_allowed(self, voice: VoiceModel) -> None:
        if voice.spec.fleet in self.forbidden:
            raise InvalidVoiceModel("may not use it", field="spec.fleet")

    def bump(self, key: str = KEY, **changes: Any) -> None:
        metadata = {**self.objects[key]["metadata"]}
        metadata["resourceVersion"] = str(int(metadata["resourceVersion"]) + 1)
        if "spec" in changes:
            metadata["generation"] += 1
        self.objects[key] = {**self.objects[key], **changes, "metadata": metadata}

    def read(self, key: str = KEY) -> VoiceModel | None:
        return run(self.cluster.read(key))


def run(work: Coroutine[Any, Any, Found]) -> Found:
    return asyncio.run(work)


def unknown_field(letter: str) -> Body:
    return spec(letter, fromTheFuture=True)


def test_nothing_is_concluded_while_the_api_server_does_not_answer() -> None:
    world = World(voice_body())
    world.read()
    world.fails = ApiUnavailable("down")
    with pytest.raises(ApiUnavailable):
        world.read()
    assert world.cluster.keys() == {KEY}
    assert run(world.cluster.deleted(KEY)) is None


def test_a_spec_that_cannot_be_used_leaves_what_runs_as_it_was() -> None:
    world = World(voice_body())
    before = world.read()
    assert before is not None
    world.bump(spec=unknown_field("b"), status={"phase": "Watching"})
    voice = world.read()
    assert voice is not None
    assert voice.spec == before.spec
    assert voice.metadata.generation == 1, "what was observed is the last spec that could be used"
    assert voice.metadata.resource_version == "2"
    assert voice.status.phase is Phase.WATCHING
    (problem,) = world.cluster.problems()
    assert problem.voices == (KEY,)
    assert "fromTheFuture" in str(problem)


def test_a_mistake_is_told_once_and_forgotten_when_it_is_mended() -> None:
    world = World(voice_body())
    world.read()
    world.bump(spec=unknown_field("b"))
    for _ in range(3):
        world.read()
    assert [event.reason for event in world.told] == ["InvalidSpec"]
    world.bump(spec=spec("c"))
    voice = world.read()
    assert voice is not None
    assert voice.metadata.generation == 3
    assert world.cluster.problems() == ()


def test_a_status_is_written_under_a_spec_that_cannot_be_used() -> None:
    world = World(voice_body())
    world.read()
    world.bump(spec=unknown_field("b"))
    voice = world.read()
    assert voice is not None
    run(world.cluster.write_status(voice, Status(phase=Phase.IDLE)))
    assert world.objects[KEY]["spec"] == unknown_field("b")
    assert world.objects[KEY]["status"]["phase"] == "Idle"


def test_a_spec_that_cannot_be_used_is_not_reverted() -> None:
    world = World(voice_body())
    world.read()
    world.bump(spec=unknown_field("b"))
    voice = world.read()
    assert voice is not None
    revert = RevertSpec(generation=1, failed=source(spec("a")).revision, to=source(spec("0")))
    with pytest.raises(RevertRefused):
        run(world.cluster.revert_spec(voice, revert))


def test_a_voice_of_which_no_usable_spec_was_ever_seen_is_left_alone() -> None:
    world = World(voice_body(spec_=unknown_field("b")))
    with pytest.raises(UnusableVoice, match="fromTheFuture"):
        world.read()
    assert world.cluster.voices() == []
    assert world.cluster.keys() == {KEY}


def test_a_voice_that_may_not_use_its_fleet_is_no_voice() -> None:
    world = World(voice_body(spec_=spec("a", fleet="gold")))
    world.forbidden = {"gold"}
    with pytest.raises(UnusableVoice, match=r"spec\.fleet: may not use it"):
        world.read()


def test_a_missing_digest_is_a_mistake_here() -> None:
    without = spec("a")
    del without["weights"]["timbre"]["sha256"]
    with pytest.raises(UnusableVoice, match="sha256"):
        World(voice_body(spec_=without)).read()


def test_a_new_object_of_the_same_name_and_fleet_takes_the_place_at_once() -> None:
    world = World(voice_body())
    world.read()
    world.objects[KEY] = voice_body(uid="uid-2", version=9)
    voice = world.read()
    assert voice is not None
    assert voice.metadata.uid == "uid-2"
    assert run(world.cluster.deleted(KEY)) is None


def test_a_new_object_in_another_fleet_waits_until_the_old_one_was_let_go() -> None:
    world = World(voice_body())
    world.read()
    world.objects[KEY] = voice_body(uid="uid-2", version=9, spec_=spec("a", fleet="gold"))
    assert world.read() is None
    gone = run(world.cluster.deleted(KEY))
    assert gone is not None
    assert (gone.metadata.uid, gone.spec.fleet) == ("uid-1", "default")
    run(world.cluster.forget(KEY))
    voice = world.read()
    assert voice is not None
    assert voice.metadata.uid == "uid-2"


def test_a_deleted_voice_that_comes_back_while_it_is_let_go_lives_on() -> None:
    world = World(voice_body())
    world.read()
    del world.objects[KEY]
    assert world.read() is None
    world.objects[KEY] = voice_body(uid="uid-2", version=9)
    assert world.read() is not None
    assert run(world.cluster.deleted(KEY)) is None


def test_a_voice_that_vanished_before_it_could_be_used_is_let_go_all_the_same() -> None:
    world = World()
    world.cluster.seen.take("ADDED", voice_body(spec_=unknown_field("b")))
    assert world.read() is None
    gone = run(world.cluster.deleted(KEY))
    assert gone is not None
    assert (gone.key, gone.metadata.uid, gone.spec.fleet) == (KEY, "uid-1", "default")


def test_what_pods_hold_and_nobody_asks_for_is_let_go() -> None:
    world = World(voice_body("alive"))
    fleet = FleetKey(namespace="fleets", name="gold")
    held = [Holding(voice=f"voices/{name}", uid=f"uid-{name}", fleet=fleet) for name in ("alive", "dead")]
    run(world.cluster.adopt_orphans(held))
    gone = run(world.cluster.deleted("voices/dead"))
    assert gone is not None
    assert (gone.metadata.uid, gone.spec.fleet) == ("uid-dead", "gold")
    assert run(world.cluster.deleted("voices/alive")) is None
    assert world.cluster.keys() == {"voices/alive", "voices/dead"}
    assert run(world.cluster.seen.changed()) == {"voices/alive", "voices/dead"}


def test_what_we_may_not_look_at_is_not_taken_for_gone() -> None:
    world = World()
    world.fails = ApiRefused("403", status=403)
    fleet = FleetKey(namespace="fleets", name="gold")
    run(world.cluster.adopt_orphans([Holding(voice=KEY, uid="uid-1", fleet=fleet)]))
    assert world.cluster.keys() == frozenset()


def test_a_revert_that_is_refused_is_no_conflict_and_one_that_came_late_is() -> None:
    world = World(voice_body())
    voice = world.read()
    assert voice is not None
    revert = RevertSpec(generation=1, failed=source(spec("a")).revision, to=source(spec("0")))
    answer = world.api.answer

    def refusing(verb: str, path: str, body: Any) -> Body:
        if verb == "PATCH":
            raise ApiRefused("422", status=422)
        return answer(verb, path, body)

    world.api.answer = refusing
    with pytest.raises(RevertRefused):
        run(world.cluster.revert_spec(voice, revert))
    world.bump()
    with pytest.raises(WriteConflict):
        run(world.cluster.revert_spec(voice, revert))


def test_nothing_is_written_on_a_version_that_is_not_the_latest_seen() -> None:
    world = World(voice_body())
    voice = world.read()
    assert voice is not None
    world.cluster.seen.take("MODIFIED", voice_body(version=2, generation=2, spec_=spec("b")))
    with pytest.raises(WriteConflict):
        run(world.cluster.write_status(voice, Status()))
    assert [verb for verb, _, _ in world.api.calls] == ["GET"]


def test_changes_begin_when_everything_was_listed() -> None:
    world = World()

    async def main() -> list[frozenset[str]]:
        changes = aiter(world.cluster.changes())
        first = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0)
        assert not first.done()
        world.cluster.seen.take(None, voice_body("one"))
        world.cluster.seen.take(None, voice_body("two"))
        world.cluster.complete.set()
        found = [await first]
        await world.cluster.seen.changed()
        world.cluster.seen.take("ADDED", voice_body("three"))
        found.append(await anext(changes))
        return found

    assert run(main()) == [{"voices/one", "voices/two"}, {"voices/three"}]
