"""The demo's material: copies only, shortened policies, and faults that are what they claim to be."""

from __future__ import annotations

import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from segue.containers import load_torch_file
from segue.errors import UnsafePickle, WeightsError
from segue.model.documents import read_folder
from segue_cli.demo.material import CAST, HALVES, STAR, make_updates, prepare_material
from segue_cli.demo.script import QUESTIONS, traffic
from segue_cli.examples import NoExamples, examples_dir
from segue_cli.measure.shots import Mode
from segue_engines.demo.text import PHONES


def test_every_voice_is_valid_and_has_a_short_policy(tmp_path: Path) -> None:
    material = prepare_material(tmp_path)
    found = read_folder(material.voices)
    assert not found.mistakes
    assert {located.voice.metadata.name for located in found.voices} == set(CAST)
    assert all(located.voice.spec.watch.duration.total_seconds() <= 10 for located in found.voices)


def test_the_bad_files_are_refused_and_nothing_runs(tmp_path: Path) -> None:
    material = prepare_material(tmp_path)
    with pytest.raises(WeightsError):
        load_torch_file(material.corrupt.weights["timbre"])
    with pytest.raises(UnsafePickle):
        load_torch_file(material.malicious.weights["prosody"])
    assert not material.proof_of_execution.exists()


def test_the_malicious_pickle_would_run_elsewhere(tmp_path: Path) -> None:
    material = prepare_material(tmp_path)
    with zipfile.ZipFile(material.malicious.weights["prosody"]) as archive:
        pickle.loads(archive.read("archive/data.pkl"))
    assert material.proof_of_execution.exists(), "else the demo would show nothing"


def test_an_installation_with_two_voices_makes_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = tmp_path / "small" / "voices"
    small.mkdir(parents=True)
    for name in (STAR, "aria"):
        shutil.copytree(examples_dir() / "voices" / name, small / name)
        shutil.copy(examples_dir() / "voices" / f"{name}.yaml", small)
    monkeypatch.setenv("SEGUE_EXAMPLES", str(small.parent))
    material = prepare_material(tmp_path / "demo")
    assert {located.voice.metadata.name for located in read_folder(material.voices).voices} == set(CAST)
    assert all(path.is_file() for path in material.fails_live.weights.values())


def test_made_updates_have_their_faults(tmp_path: Path) -> None:
    base = examples_dir() / "voices" / STAR / "v1"
    make_updates(base, tmp_path)
    embedding = {
        name: load_torch_file(folder / "prosody.pth").tensors["weights/embedding"]
        for name, folder in {"v1": base, **{path.name: path for path in tmp_path.iterdir()}}.items()
    }
    assert np.flatnonzero(np.isnan(embedding["fails-live"]).any(axis=1)).tolist() == [PHONES.index("?")]
    assert np.array_equal(embedding["v2"], embedding["v1"])
    moved = (embedding["broken"] != embedding["v1"]).any(axis=1)
    assert moved.sum() > len(PHONES) // 2
    assert sorted(embedding["broken"].sum(axis=1)) == sorted(embedding["v1"].sum(axis=1))
    assert all((tmp_path / "v2" / f"{half}.pth").is_file() for half in HALVES)


def test_missing_examples_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGUE_EXAMPLES", str(tmp_path))
    with pytest.raises(NoExamples, match="SEGUE_EXAMPLES"):
        examples_dir()


def test_traffic_is_mixed() -> None:
    shots = traffic(CAST)
    for voice in CAST:
        mine = [shot for shot in shots if shot.voice == voice]
        assert {shot.mode for shot in mine} == set(Mode)
        assert {shot.response_format for shot in mine} == {"wav", "pcm"}
        assert sum(shot.text in QUESTIONS for shot in mine) > len(mine) // 12
        assert len({shot.text for shot in mine}) > 20
