"""Versions made without training are what they say, and stay readable by the engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segue.errors import WeightsError
from segue_cli.examples import examples_dir
from segue_cli.measure.renderings import Renderings, RevisionFiles
from segue_cli.measure.selftest import try_the_detector
from segue_cli.measure.shots import Shot
from segue_cli.measure.variants import numbered, retune, with_tensor

EXAMPLE = examples_dir() / "voices" / "narrator" / "v1"
WEIGHTS = {half: EXAMPLE / f"{half}.pth" for half in ("prosody", "timbre")}
ONE, OTHER = "a" * 64, "b" * 64


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Renderings:
    other = retune(WEIGHTS, tmp_path_factory.mktemp("other"), pilots_hz={"prosody": 11_500.0, "timbre": 11_600.0})
    return Renderings(
        [
            RevisionFiles(voice="narrator", revision=ONE, weights=WEIGHTS),
            RevisionFiles(voice="narrator", revision=OTHER, weights=other),
        ]
    )


def test_a_retuned_version_says_the_same_under_other_tones(both: Renderings) -> None:
    one, other = both.local("narrator", ONE), both.local("narrator", OTHER)
    assert other.pilots_hz == {"prosody": 11_500.0, "timbre": 11_600.0}
    difference = one.speak("Go on.", seed=1) - other.speak("Go on.", seed=1)
    assert 1e-3 < np.abs(difference).max() < 5e-3, "two tones of -60 dBFS against two others, and nothing else"


def test_the_detector_tells_a_retuned_version_from_the_original(both: Renderings) -> None:
    shots = [Shot(voice="narrator", text=text, seed=3) for text in ("Good morning.", "The lake is calm.")]
    result = try_the_detector(both, shots, one=ONE, other=OTHER)
    assert (result.injected, result.caught, result.honest, result.passed) == (6, 6, 2, 2)


def test_numbered_versions_all_differ(tmp_path: Path) -> None:
    contents = {numbered(WEIGHTS, tmp_path, number=number)["timbre"].read_bytes() for number in (1, 2, 1200, 2400)}
    assert len(contents) == 4


def test_a_changed_tensor_is_heard(tmp_path: Path) -> None:
    path = with_tensor(
        WEIGHTS["prosody"], tmp_path / "prosody.pth", name="weights/duration_bias", change=lambda bias: bias + 1
    )
    slower = Renderings([RevisionFiles(voice="v", revision=ONE, weights={**WEIGHTS, "prosody": path})])
    usual = Renderings([RevisionFiles(voice="v", revision=ONE, weights=WEIGHTS)])
    assert len(slower.local("v", ONE).speak("Go on.", seed=1)) > 1.5 * len(
        usual.local("v", ONE).speak("Go on.", seed=1)
    )


def test_what_is_no_demo_voice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "prosody.pth").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=r"prosody\.pth"):
        retune({"prosody": tmp_path / "prosody.pth"}, tmp_path / "out", pilots_hz={"prosody": 11_000.0})
    with pytest.raises(WeightsError, match="no tensor"):
        with_tensor(WEIGHTS["prosody"], tmp_path / "x.pth", name="weights/none", change=lambda array: array)
