"""The desired set: what is written, when, and what is left alone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.objects import Body, FakeApi, FakeObjects
from tests.fakes.stepped_loop import SteppedLoop, SteppedTime
from tests.support.voices import revision, voice_document
from typing_extensions import override

from segue.desired import LABEL_FLEET, SHARDS, DesiredEntry, config_map_name, data_key, shard_of
from segue.model import VoiceModel
from segue.model.revision import source_of
from segue.rollout import Event
from segue_operator.fleet.records import FleetKey
from segue_operator.kubernetes import desired
from segue_operator.kubernetes.desired import FIRST_LOOK_S, LOOK_AGAIN_S, SPACING_S, DesiredSets
from segue_operator.leader import FileFences, NotLeading

START = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


class Desk:
    """One leader's desired sets over an in-memory API server, in simulated time."""

    def __init__(self, objects: FakeObjects | None = None, *, term: int = 7) -> None:
        self.time = SteppedTime()
        self.loop = SteppedLoop(lambda: self.time.now_s)
        self.objects = objects or FakeObjects()
        self.voices: dict[str, VoiceModel] = {}
        self.told: list[tuple[str, Event]] = []
        self.reads: list[str] = []
        self.config_maps: dict[FleetKey, str] = {}
        self.fences = TermFences(term)
        self.sets = DesiredSets(
            api=FakeApi(self.objects),
            fences=self.fences,
            select=fleet_of,
            read_voice=self._read,
            tell=lambda voice, event: self.told.append((voice, event)),
            fleets=lambda: [FleetKey(namespace="default", name="default")],
            config_map_of=lambda fleet: self.config_maps.get(fleet, ""),
            clock=lambda: self.time.now_s,
            random=random.Random(1),
        )
        self.task = self.loop.create_task(self.sets.run())

    async def _read(self, key: str) -> VoiceModel | None:
        self.reads.append(key)
        return self.voices.get(key)

    def keep(self, found: VoiceModel) -> None:
        """The voice exists so, and its loop says so."""
        self.voices[found.key] = found
        self.loop.call_soon(self.sets.keep, found)

    def live(self, seconds: float) -> None:
        until_s = self.time.now_s + seconds
        while self.time.now_s < until_s:
            self.time.advance(0.25)
            self.loop.run_due()

    def entry(self, key: str, *, fleet: str = "default", namespace: str = "default") -> DesiredEntry | None:
        body = self.objects.stored.get(path_of(key, fleet=fleet, namespace=namespace), {})
        text = (body.get("data") or {}).get(data_key(key))
        return None if text is None else DesiredEntry.from_json(text)

    @property
    def writes(self) -> int:
        return self.objects.calls["PUT"] + self.objects.calls["POST"]

    def close(self) -> None:
        self.loop.end()


class TermFences(FileFences):
    """Fences of a leader whose tenure a test ends."""

    def __init__(self, term: int) -> None:
        super().__init__(file=Path("unused"), term=term)
        self.over = False

    @override
    def check(self) -> None:
        if self.over:
            raise NotLeading("the test says so")

    @override
    def under_way(self) -> Any:
        self.check()
        return super().under_way()


def fleet_of(found: VoiceModel) -> FleetKey:
    return FleetKey(namespace=found.metadata.namespace, name=found.spec.fleet)


def path_of(key: str, *, fleet: str = "default", namespace: str = "default") -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps/{config_map_name(fleet, shard_of(key))}"


def stable(*versions: str, name: str = "narrator", uid: str = "uid-1", **status: Any) -> VoiceModel:
    """A voice whose history is these versions, the latest first."""
    document = voice_document(versions[0] if versions else "v1")
    document["metadata"] |= {"name": name, "uid": uid, "generation": 1}
    found = VoiceModel.parse(document)
    history = [
        {
            **source_of(VoiceModel.parse(voice_document(version)).spec).model_dump(mode="json"),
            "since": (START - timedelta(hours=index)).isoformat(),
        }
        for index, version in enumerate(versions)
    ]
    body = found.dump()
    body["status"] = {"history": history, "stableRevision": history[0]["revision"] if history else None, **status}
    return VoiceModel.parse(body)


def way_back(*versions: str, at: datetime = START + timedelta(minutes=1)) -> VoiceModel:
    """A voice that went back from v2 to the first of these."""
    last = {"fromRevision": revision("v2"), "toRevision": revision(versions[0]), "reason": "ManualRollback"}
    return stable(*versions, lastRollback={**last, "at": at.isoformat()})


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


def settled(desk: Desk) -> Desk:
    """v1 was written, and everything was looked at."""
    desk.keep(stable("v1"))
    desk.live(FIRST_LOOK_S + SPACING_S + 5)
    assert desk.writes == 1
    return desk


def test_a_confirmed_revision_is_written_with_uid_and_fence(desk: Desk) -> None:
    settled(desk)
    entry = desk.entry("default/narrator")
    assert entry is not None
    assert (entry.revision, entry.uid, entry.order.term) == (revision("v1"), "uid-1", 7)
    assert entry.request.weights["acoustic"].uri == "file:///voices/v1.npz"


def test_config_maps_carry_labels_to_delete_them_by(desk: Desk) -> None:
    settled(desk)
    labels = desk.objects.stored[path_of("default/narrator")]["metadata"]["labels"]
    assert labels[LABEL_FLEET] == "default"
    assert labels["app.kubernetes.io/managed-by"] == "segue-operator"


def test_nothing_is_written_while_nothing_changes(desk: Desk) -> None:
    settled(desk)
    for _ in range(50):
        desk.keep(stable("v1"))
        desk.live(1)
    assert desk.writes == 1


def test_a_voice_without_a_confirmed_revision_has_no_entry(desk: Desk) -> None:
    desk.keep(stable())
    desk.live(60)
    assert desk.writes == 0


def test_a_new_confirmed_revision_waits_for_the_shard_to_be_due(desk: Desk) -> None:
    desk.keep(stable("v1"))
    desk.live(2)
    desk.keep(stable("v2", "v1"))
    desk.live(SPACING_S - 3)
    assert desk.writes == 1
    desk.live(5)
    entry = desk.entry("default/narrator")
    assert entry is not None
    assert entry.revision == revision("v2")


def test_a_way_back_is_written_at_once(desk: Desk) -> None:
    desk.keep(stable("v2", "v1"))
    desk.live(2)
    desk.keep(way_back("v1"))
    desk.live(0.5)
    entry = desk.entry("default/narrator")
    assert entry is not None
    assert entry.revision == revision("v1")


def test_a_revision_that_is_being_withdrawn_is_not_what_new_pods_start_on(desk: Desk) -> None:
    desk.keep(stable("v2", "v1"))
    desk.live(2)
    rollback = {"fromRevision": revision("v2"), "toRevision": revision("v1"), "reason": "WatchTripped", "failed": True}
    desk.keep(stable("v2", "v1", rollback={**rollback, "startedAt": START.isoformat()}))
    desk.live(0.5)
    entry = desk.entry("default/narrator")
    assert entry is not None
    assert entry.revision == revision("v1")


def test_a_confirmation_after_an_old_way_back_is_not_urgent(desk: Desk) -> None:
    desk.keep(stable("v3"))
    desk.live(2)
    went_back = way_back("v1", at=START - timedelta(days=2)).dump()["status"]["lastRollback"]
    desk.keep(stable("v1", "v3", lastRollback=went_back))
    desk.live(SPACING_S / 2)
    assert desk.writes == 1


def test_fences_of_later_writes_are_higher(desk: Desk) -> None:
    settled(desk)
    first = desk.entry("default/narrator")
    desk.keep(stable("v2", "v1"))
    desk.live(SPACING_S + 2)
    second = desk.entry("default/narrator")
    assert first is not None
    assert second is not None
    assert second.order > first.order


def test_an_entry_keeps_its_fence_under_another_leader(desk: Desk) -> None:
    settled(desk)
    before = dict(desk.objects.stored)
    successor = Desk(desk.objects, term=8)
    successor.keep(stable("v1"))
    successor.live(FIRST_LOOK_S + SPACING_S)
    assert desk.objects.stored == before
    successor.close()


def test_a_new_leader_writes_what_its_predecessor_did_not_live_to(desk: Desk) -> None:
    settled(desk)
    successor = Desk(desk.objects, term=8)
    successor.keep(stable("v2", "v1"))
    successor.live(5)
    entry = successor.entry("default/narrator")
    assert entry is not None
    assert (entry.revision, entry.order.term) == (revision("v2"), 8)
    successor.close()


def test_the_entry_of_a_deleted_voice_goes(desk: Desk) -> None:
    settled(desk)
    desk.voices.clear()
    desk.loop.call_soon(desk.sets.withdraw, stable("v1"))
    desk.live(5)
    assert desk.entry("default/narrator") is None


def test_a_voice_that_was_deleted_while_no_operator_led_goes_after_the_first_look(desk: Desk) -> None:
    settled(desk)
    successor = Desk(desk.objects, term=8)
    successor.live(FIRST_LOOK_S - 1)
    assert successor.entry("default/narrator") is not None
    successor.live(5)
    assert successor.entry("default/narrator") is None
    successor.close()


def test_a_voice_that_exists_keeps_its_entry_though_its_loop_has_said_nothing_yet(desk: Desk) -> None:
    settled(desk)
    successor = Desk(desk.objects, term=8)
    successor.voices["default/narrator"] = stable("v1")
    successor.live(FIRST_LOOK_S + 5)
    assert successor.entry("default/narrator") is not None
    assert successor.writes == desk.writes
    successor.close()


def test_an_entry_of_an_earlier_object_of_the_same_name_goes(desk: Desk) -> None:
    settled(desk)
    desk.keep(stable(uid="uid-2"))
    desk.live(SPACING_S + 2)
    assert desk.entry("default/narrator") is None


def test_an_entry_that_nobody_can_read_goes_and_others_stay(desk: Desk) -> None:
    settled(desk)
    path = path_of("default/narrator")
    desk.objects.edit(path, lambda body: body["data"].update({"default.other": "{", "note": "hello"}))
    desk.live(LOOK_AGAIN_S + 5)
    assert desk.objects.stored[path]["data"].keys() == {"default.narrator"}


def test_a_deleted_config_map_is_made_again(desk: Desk) -> None:
    settled(desk)
    del desk.objects.stored[path_of("default/narrator")]
    desk.live(LOOK_AGAIN_S + 5)
    assert desk.entry("default/narrator") is not None


def test_somebody_elses_edit_is_read_again_and_kept(desk: Desk) -> None:
    settled(desk)
    path = path_of("default/narrator")
    desk.objects.edit(path, lambda body: body["metadata"]["labels"].update(team="voices"))
    desk.keep(stable("v2", "v1"))
    desk.live(SPACING_S + 2)
    entry = desk.entry("default/narrator")
    assert entry is not None
    assert entry.revision == revision("v2")
    assert desk.objects.stored[path]["metadata"]["labels"]["team"] == "voices"


def test_an_api_server_that_is_away_is_waited_for(desk: Desk) -> None:
    desk.objects.down = True
    desk.keep(stable("v1"))
    desk.live(90)
    desk.objects.down = False
    desk.live(desired.LONGEST_RETRY_S + 1)
    assert desk.entry("default/narrator") is not None


def test_a_deposed_leader_writes_nothing(desk: Desk) -> None:
    settled(desk)
    desk.fences.over = True
    desk.keep(way_back("v9"))
    desk.live(60)
    entry = desk.entry("default/narrator")
    assert entry is not None
    assert entry.revision == revision("v1")
    assert isinstance(desk.task.exception(), NotLeading)


def test_what_does_not_fit_is_left_out_and_said(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    settled(desk)
    shard = shard_of("default/narrator")
    names = [name for name in (f"voice-{index}" for index in range(400)) if shard_of(f"default/{name}") == shard]
    monkeypatch.setattr(desired, "LIMIT_BYTES", 3000)
    for name in names:
        desk.keep(stable("v1", name=name, uid=f"uid-{name}"))
    desk.live(SPACING_S + 5)
    stored = desk.objects.stored[path_of("default/narrator")]["data"]
    assert sum(len(key) + len(text) for key, text in stored.items()) <= 3000
    assert "default.narrator" in stored
    left_out = {f"default/{name}" for name in names} - {DesiredEntry.from_json(text).voice for text in stored.values()}
    assert left_out
    assert sorted(voice for voice, _ in desk.told) == sorted(left_out)
    assert {event.reason for _, event in desk.told} == {"DesiredSetFull"}


def test_a_thousand_voices_fit_and_are_written_in_at_most_one_write_a_shard(desk: Desk) -> None:
    for index in range(1000):
        desk.keep(stable("v1", name=f"voice-{index}", uid=f"uid-{index}"))
    desk.live(FIRST_LOOK_S + 5)
    assert desk.writes <= SHARDS
    sizes = [sum(map(len, body["data"].values())) for body in desk.objects.stored.values()]
    assert sum(len(body["data"]) for body in desk.objects.stored.values()) == 1000
    assert sum(sizes) / 1000 < 900, "an entry is to be about 0.7 kB"


def test_what_is_wanted_again_while_its_removal_is_written_stays(desk: Desk) -> None:
    settled(desk)
    real = desk.sets.api.call

    async def slow(verb: str, path: str, *, body: Any = None) -> Body:
        answer = await real(verb, path, body=body)
        if verb == "PUT":
            await asyncio.sleep(1)
        return answer

    desk.sets.api.call = slow  # type: ignore[method-assign]
    desk.loop.call_soon(desk.sets.withdraw, stable("v1"))
    desk.live(1.5)
    desk.keep(stable("v1", uid="uid-2"))
    desk.live(SPACING_S + 10)
    entry = desk.entry("default/narrator")
    assert entry is not None
    assert entry.uid == "uid-2"


OWNER = "segue-default"
OWNER_PATH = f"/api/v1/namespaces/default/configmaps/{OWNER}"


def owners_of_what_is_written(desk: Desk) -> list[Any]:
    desk.config_maps[FleetKey(namespace="default", name="default")] = OWNER
    desk.keep(stable("v1"))
    desk.live(SPACING_S)
    owners: list[Any] = desk.objects.stored[path_of("default/narrator")]["metadata"].get("ownerReferences", [])
    return owners


def test_what_is_written_goes_with_the_configuration_of_the_fleet(desk: Desk) -> None:
    made = desk.objects.call("POST", OWNER_PATH.rpartition("/")[0], {"metadata": {"name": OWNER}})
    expected = {"apiVersion": "v1", "kind": "ConfigMap", "name": OWNER, "uid": made["metadata"]["uid"]}
    assert owners_of_what_is_written(desk) == [expected]


def test_it_is_written_without_an_owner_where_the_configuration_is_gone(desk: Desk) -> None:
    assert owners_of_what_is_written(desk) == []


def test_an_owner_is_not_given_to_what_exists(desk: Desk) -> None:
    settled(desk)
    desk.objects.call("POST", OWNER_PATH.rpartition("/")[0], {"metadata": {"name": OWNER}})
    desk.config_maps[FleetKey(namespace="default", name="default")] = OWNER
    desk.keep(stable("v2", "v1"))
    desk.live(2 * SPACING_S)
    assert desk.entry("default/narrator") is not None
    assert not desk.objects.stored[path_of("default/narrator")]["metadata"].get("ownerReferences")
