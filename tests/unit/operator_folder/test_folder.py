"""The folder in the place of the API server: what is read, what is kept, what is left alone."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.folder_world import KEY, FolderWorld, age

from segue.model import Status, VoiceModel
from segue_operator.folder.store import Store, StoreCorrupt
from segue_operator.ports import WriteConflict


@pytest.fixture
def world(tmp_path: Path) -> Iterator[FolderWorld]:
    made = FolderWorld(tmp_path)
    yield made
    made.close()


def read(world: FolderWorld) -> frozenset[str]:
    return asyncio.run(world.cluster.read_folder())


def voice_of(world: FolderWorld) -> VoiceModel:
    return world.cluster.store.records[KEY].voice


def test_a_new_file_is_a_voice_with_uid_generation_and_digests(world: FolderWorld) -> None:
    world.write_voice("v1")
    assert read(world) == {KEY}
    voice = voice_of(world)
    assert voice.metadata.uid
    assert voice.metadata.generation == 1
    source = voice.spec.weights["acoustic"]
    assert source.uri == (world.folder / "v1.bin").as_uri()
    assert source.sha256 is not None


def test_a_changed_spec_is_a_new_generation_of_the_same_voice(world: FolderWorld) -> None:
    world.write_voice("v1")
    read(world)
    before = voice_of(world).metadata
    world.write_voice("v2")
    assert read(world) == {KEY}
    after = voice_of(world).metadata
    assert (after.uid, after.generation) == (before.uid, 2)
    assert after.resource_version != before.resource_version


def test_a_changed_comment_is_no_change(world: FolderWorld) -> None:
    path = world.write_voice("v1")
    read(world)
    before = voice_of(world).metadata
    world.write_text("# better words\n" + path.read_text(encoding="utf-8"))
    assert read(world) == frozenset()
    assert voice_of(world).metadata == before


def test_an_annotation_is_a_change_but_no_new_generation(world: FolderWorld) -> None:
    path = world.write_voice("v1")
    read(world)
    text = path.read_text(encoding="utf-8").replace("name: narrator", "name: narrator\n  annotations: {a: b}")
    world.write_text(text)
    assert read(world) == {KEY}
    assert voice_of(world).metadata.generation == 1


def test_a_broken_file_is_named_with_its_line_and_what_runs_stays(world: FolderWorld) -> None:
    path = world.write_voice("v1")
    read(world)
    before = voice_of(world)
    world.write_text(path.read_text(encoding="utf-8").replace("engine: demo", "engine: dmeo"))
    assert read(world) == frozenset()
    assert voice_of(world) == before
    (problem,) = world.cluster.problems()
    assert (problem.file, problem.line, problem.field) == (str(path), 6, "spec.engine")
    assert problem.voices == (KEY,)


def test_a_broken_file_stops_no_other_voice(world: FolderWorld) -> None:
    world.write_text("kind: VoiceModel\n  oops: [", file="aaa.yaml")
    world.write_voice("v1")
    assert read(world) == {KEY}
    assert len(world.cluster.problems()) == 1


def test_a_restart_with_a_broken_file_goes_on_with_what_ran(world: FolderWorld) -> None:
    world.write_voice("v1")
    read(world)
    uid = voice_of(world).metadata.uid
    world.write_text("{")
    world.start_operator()
    read(world)
    assert voice_of(world).metadata.uid == uid
    assert world.cluster.voices()


def test_a_mistake_that_is_put_right_is_no_problem_any_more(world: FolderWorld) -> None:
    world.write_text("{")
    read(world)
    assert world.cluster.problems()
    world.write_voice("v1")
    read(world)
    assert not world.cluster.problems()


def test_an_emptied_file_is_no_deletion(world: FolderWorld) -> None:
    world.write_voice("v1")
    read(world)
    world.write_text("")
    read(world)
    world.clock.advance(60)
    read(world)
    assert world.cluster.voices()
    assert "holds no VoiceModel" in str(world.cluster.problems()[0])


def test_a_file_that_is_being_written_is_read_a_moment_later(world: FolderWorld) -> None:
    world.write_voice("v1")
    read(world)
    path = world.write_voice("v2")
    os.utime(path)
    world.cluster.again.clear()
    assert read(world) == frozenset()
    assert world.cluster.again.is_set()
    assert not world.cluster.problems()
    age(path)
    assert read(world) == {KEY}


def test_weights_that_are_being_written_have_no_digest_yet(world: FolderWorld) -> None:
    world.write_voice("v1")
    os.utime(world.folder / "v1.bin", (time.time(), time.time()))
    assert read(world) == frozenset()
    assert not world.cluster.problems()
    age(world.folder / "v1.bin")
    assert read(world) == {KEY}


def test_weights_that_are_missing_are_named_with_line_and_field(world: FolderWorld) -> None:
    world.write_voice("v1")
    (world.folder / "v1.bin").unlink()
    read(world)
    (problem,) = world.cluster.problems()
    assert problem.field == "spec.weights.acoustic.uri"
    assert problem.line is not None
    assert "v1.bin" in problem.message


def test_a_remote_file_needs_its_digest(world: FolderWorld) -> None:
    path = world.write_voice("v1")
    world.write_text(path.read_text(encoding="utf-8").replace("uri: v1.bin", "uri: s3://bucket/v1.bin"))
    read(world)
    assert world.cluster.problems()[0].field == "spec.weights.acoustic.sha256"


def test_a_file_that_comes_back_at_once_is_no_deletion(world: FolderWorld) -> None:
    path = world.write_voice("v1")
    read(world)
    uid = voice_of(world).metadata.uid
    text = path.read_text(encoding="utf-8")
    path.unlink()
    read(world)
    world.clock.advance(0.5)
    world.write_text(text)
    read(world)
    world.clock.advance(60)
    read(world)
    assert voice_of(world).metadata.uid == uid


def test_a_file_that_stays_away_is_a_deletion(world: FolderWorld) -> None:
    path = world.write_voice("v1")
    read(world)
    path.unlink()
    assert read(world) == frozenset()
    world.clock.advance(2)
    assert read(world) == {KEY}
    assert not world.cluster.voices()


def test_a_folder_that_cannot_be_read_deletes_nothing(world: FolderWorld) -> None:
    world.write_voice("v1")
    read(world)
    world.folder.rename(world.folder.with_name("away"))
    read(world)
    world.clock.advance(60)
    read(world)
    assert world.cluster.voices()
    assert "cannot be read" in world.cluster.problems()[0].message


def test_a_voice_that_moves_to_another_file_stays_the_same_voice(world: FolderWorld) -> None:
    path = world.write_voice("v1")
    read(world)
    uid = voice_of(world).metadata.uid
    path.rename(world.folder / "other.yml")
    assert read(world) == frozenset()
    assert voice_of(world).metadata.uid == uid
    assert world.cluster.store.records[KEY].file.endswith("other.yml")


def test_two_files_with_one_voice_the_one_it_came_from_keeps_it(world: FolderWorld) -> None:
    world.write_voice("v1")
    read(world)
    world.write_voice("v2", file="aaa.yaml")
    assert read(world) == frozenset()
    (problem,) = world.cluster.problems()
    assert problem.file.endswith("aaa.yaml")
    assert "is there already" in problem.message


def test_the_engine_of_a_voice_cannot_be_changed(world: FolderWorld) -> None:
    path = world.write_voice("v1")
    read(world)
    world.write_text(path.read_text(encoding="utf-8").replace("engine: demo", "engine: gpt-sovits"))
    assert read(world) == frozenset()
    (problem,) = world.cluster.problems()
    assert (problem.line, problem.field) == (6, "spec.engine")


def test_a_deleted_voice_that_comes_back_while_it_is_let_go_is_a_new_one(world: FolderWorld) -> None:
    path = world.write_voice("v1")
    read(world)
    uid = voice_of(world).metadata.uid
    path.unlink()
    read(world)
    world.clock.advance(2)
    read(world)
    world.write_voice("v1")
    assert read(world) == frozenset()
    asyncio.run(world.cluster.forget(KEY))
    assert read(world) == {KEY}
    assert voice_of(world).metadata.uid != uid


def test_a_status_write_on_an_old_version_is_a_conflict(world: FolderWorld) -> None:
    world.write_voice("v1")
    read(world)
    old = voice_of(world)
    asyncio.run(world.cluster.write_status(old, Status(message="first")))
    with pytest.raises(WriteConflict):
        asyncio.run(world.cluster.write_status(old, Status(message="second")))
    assert voice_of(world).status.message == "first"


def test_a_status_write_is_there_after_a_restart(world: FolderWorld) -> None:
    world.write_voice("v1")
    read(world)
    asyncio.run(world.cluster.write_status(voice_of(world), Status(message="kept")))
    world.start_operator()
    assert voice_of(world).status.message == "kept"


def test_own_status_writes_wake_nothing(world: FolderWorld) -> None:
    world.write_voice("v1")
    read(world)
    asyncio.run(world.cluster.write_status(voice_of(world), Status(message="mine")))
    assert read(world) == frozenset()


def test_a_status_file_that_cannot_be_read_stops_the_start_and_is_named(world: FolderWorld) -> None:
    world.write_voice("v1")
    read(world)
    path = world.state / "status" / "default.narrator.json"
    path.write_text("{", encoding="utf-8")
    with pytest.raises(StoreCorrupt, match=r"default\.narrator\.json"):
        Store.open(world.state / "status")


def test_weights_are_hashed_once_even_over_a_restart(world: FolderWorld) -> None:
    world.write_voice("v1")
    read(world)
    (world.folder / "v1.bin").chmod(0o600)  # another ctime: must be hashed again
    read(world)
    stamps = (world.state / "digests.json").read_text(encoding="utf-8")
    world.start_operator()
    read(world)
    assert (world.state / "digests.json").read_text(encoding="utf-8") == stamps
