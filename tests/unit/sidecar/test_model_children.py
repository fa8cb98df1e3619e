"""What the children refuse, whatever an engine does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.support import sharing_engine, tiny_engine
from tests.support.sharing_engine import write_model
from typing_extensions import override

from segue.errors import WeightsError
from segue_sidecar.children import builds, models, prepare
from segue_sidecar.children.channel import Channel, JobError

SECRETIVE = "tests.support.sharing_engine:SecretiveEngine"


class Unasked(Channel):
    """A channel over which no memory must be asked for."""

    def __init__(self) -> None:
        pass

    @override
    def ask(self, message: Mapping[str, Any]) -> tuple[dict[str, Any], list[int]]:
        raise AssertionError(f"memory was asked for: {message}")


def job(root: Path, place: str) -> dict[str, Any]:
    return {"place": place, "root": str(root), "options": {}, "tensorBytes": 1 << 20, "totalBytes": 1 << 20}


def test_a_model_from_a_place_that_nobody_watches_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path, "ear/values.npy", 1.0, values=10)
    with pytest.raises(
        JobError, match=r"ear was found below .*, but not as elsewhere\.npy: configure the folder"
    ) as told:
        models.run(job(tmp_path, SECRETIVE), [], Unasked())
    assert told.value.reason == "FilesElsewhere"


def test_an_engine_that_shares_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no models that voices share"):
        models.run(job(tmp_path, tiny_engine.PLACE), [], Unasked())


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="nowhere is not a folder"):
        models.run(job(tmp_path / "nowhere", sharing_engine.PLACE), [], Unasked())


def test_a_voices_part_cannot_take_the_name_of_a_shared_model() -> None:
    voice: dict[str, Any] = {
        "place": SECRETIVE,
        "files": {},
        "reference": None,
        "options": {},
        "tensorBytes": 1 << 20,
        "voiceBytes": 1 << 20,
        "shared": [],
        "memory": {"mode": "host", "device": "cpu"},
    }
    with pytest.raises(WeightsError, match=r"calls a voice's part 'shared\.ear'"):
        prepare.run(voice, [], Unasked())


def test_engines_say_who_they_are_and_which_files_they_share() -> None:
    places = {"tiny": tiny_engine.PLACE, "sharing": sharing_engine.PLACE, "gone": "tests.support.nowhere:Engine"}
    answer = builds.run({"places": places}, [], Unasked())
    assert answer["builds"] == {"tiny": "tiny-1", "sharing": "tiny-1"}
    assert answer["models"] == {"sharing": ["ear/values.npy", "eye/left.npy", "eye/right.npy"]}
    assert "cannot be loaded" in answer["errors"]["gone"]
