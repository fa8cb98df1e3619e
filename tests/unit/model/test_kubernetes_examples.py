"""The manifests of `examples/kubernetes` are what the folder's examples are, with files where the image has them."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.harness import sha256_of
from ruamel.yaml import YAML

from segue.model import VoiceModel

EXAMPLES = Path(__file__).parents[3] / "examples"
IN_IMAGE = "file:///usr/share/segue/examples/"
MANIFESTS = sorted((EXAMPLES / "kubernetes").glob("*.yaml"))


def voice(path: Path) -> VoiceModel:
    return VoiceModel.parse(YAML(typ="safe").load(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.name)
def test_every_file_is_in_the_image_with_the_digest_that_is_named(manifest: Path) -> None:
    spec = voice(manifest).spec
    assert spec.reference is not None
    for source in (*spec.weights.values(), spec.reference):
        assert source.uri.startswith(IN_IMAGE)
        assert source.sha256 == sha256_of(EXAMPLES / source.uri.removeprefix(IN_IMAGE))


def test_the_first_is_the_narrator_of_the_folder_and_the_second_changes_its_weights_only() -> None:
    first, second = (voice(EXAMPLES / "kubernetes" / name).spec for name in ("narrator.yaml", "narrator-v2.yaml"))
    folder = YAML(typ="safe").load((EXAMPLES / "voices" / "narrator.yaml").read_text(encoding="utf-8"))["spec"]
    assert first.reference is not None
    assert first.reference.text == folder["reference"]["text"]
    assert [case.text for case in first.verification.cases] == [c["text"] for c in folder["verification"]["cases"]]
    assert first.model_copy(update={"weights": second.weights}) == second
    assert first.weights != second.weights
