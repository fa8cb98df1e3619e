"""What the demo plays with: a copy of the example voices, and the updates, good and bad, that are tried on them.

Separate because nobody's own files may be touched: everything is copied into the demo's folder first, and the policies
of the copies are shortened so that a rollout takes seconds instead of half an hour.
"""

from __future__ import annotations

import pickle
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import override

from segue.errors import SegueError
from segue.model.edit import edit_yaml
from segue_cli.editing import Changes
from segue_cli.examples import examples_dir
from segue_cli.measure.variants import retune

HALVES = ("prosody", "timbre")
CAST = ("narrator", "aria", "bert")
STAR = "narrator"
NAMESPACE = "default"

QUICK_POLICY: Changes = {
    "spec.rollout": {
        "canary": {"steps": ["50%"], "successes": 20, "maxErrors": 3, "timeout": "25s"},
        "progressDeadline": "90s",
    },
    "spec.watch": {"duration": "6s", "sustainedFor": "3s", "minRequests": 10, "minErrors": 3},
}
"""Seconds, where a service would say minutes: enough of everything to see it happen."""


class MaterialMissing(SegueError):
    """The examples are not complete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One pair of weight files, and what people call it."""

    label: str
    weights: Mapping[str, Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Everything that is tried, by what it is."""

    voices: Path
    first: Mapping[str, Version]
    """Voice to the version that it begins with."""
    good: Version
    wrong_speaker: Version
    wrong_words: Version
    corrupt: Version
    malicious: Version
    proof_of_execution: Path
    """Exists if the malicious pickle was ever executed."""
    fails_live: Version
    retuned: Mapping[str, Version]
    """Voice to another good version of it, for the chapters in which processes die."""


def prepare_material(folder: Path) -> Material:
    """Copy and make all of it below `folder`.

    Raises
    ------
    MaterialMissing
        An example file is missing.
    """
    examples = examples_dir()
    voices = folder / "voices"
    for name in CAST:
        _copy(examples / "voices" / name, voices / name)
        shutil.copy(examples / "voices" / f"{name}.yaml", voices / f"{name}.yaml")
        edit_yaml(voices / f"{name}.yaml", f"{NAMESPACE}/{name}", QUICK_POLICY)
    _copy(examples / "updates" / STAR, voices / "updates")
    first = {name: _version(f"{name} v1", voices / name / "v1") for name in CAST}
    proof = folder / "the-pickle-was-executed"
    return Material(
        voices=voices,
        first=first,
        good=_version(f"{STAR} v2", voices / "updates" / "v2"),
        wrong_speaker=Version(label=f"{STAR} with aria's weights", weights=first["aria"].weights),
        wrong_words=_version(f"{STAR}, wrong words", voices / "updates" / "broken"),
        corrupt=_corrupt(first[STAR], voices / "updates" / "corrupt"),
        malicious=_malicious(first[STAR], voices / "updates" / "malicious", proof=proof),
        proof_of_execution=proof,
        fails_live=_version(f"{STAR}, fails on questions", voices / "updates" / "fails-live"),
        retuned={
            name: Version(
                label=f"{name} v1b",
                weights=retune(
                    first[name].weights,
                    voices / "updates" / f"{name}-v1b",
                    pilots_hz={half: 11_400 + 40 * number + 20 * place for place, half in enumerate(HALVES)},
                ),
            )
            for number, name in enumerate(CAST)
            if name != STAR
        },
    )


def weights_field(version: Version) -> dict[str, dict[str, str]]:
    """`spec.weights` of a VoiceModel with these files."""
    return {half: {"uri": path.as_uri()} for half, path in version.weights.items()}


def _copy(source: Path, target: Path) -> None:
    if not source.is_dir():
        raise MaterialMissing(f"{source} is missing; the examples of this installation are not complete")
    shutil.copytree(source, target)


def _version(label: str, folder: Path) -> Version:
    weights = {half: folder / f"{half}.pth" for half in HALVES}
    for path in weights.values():
        if not path.is_file():
            raise MaterialMissing(f"{path} is missing; the examples of this installation are not complete")
    return Version(label=label, weights=weights)


def _corrupt(version: Version, folder: Path) -> Version:
    """A file that was cut in the middle, as an interrupted upload leaves it."""
    folder.mkdir(parents=True)
    weights = {half: Path(shutil.copy(path, folder)) for half, path in version.weights.items()}
    whole = weights["timbre"].read_bytes()
    weights["timbre"].write_bytes(whole[: len(whole) * 2 // 3])
    return Version(label=f"{STAR}, cut file", weights=weights)


class _Gadget:
    """Unpickled by `pickle.load`, it would make a file; a real one would do worse."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    @override
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (str(self.proof),)


def _malicious(version: Version, folder: Path, *, proof: Path) -> Version:
    """A weight file whose pickle asks for a function call."""
    folder.mkdir(parents=True)
    weights = {half: Path(shutil.copy(path, folder)) for half, path in version.weights.items()}
    with zipfile.ZipFile(weights["prosody"], "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"config": _Gadget(proof)}, protocol=2))
        archive.writestr("archive/version", "3\n")
    return Version(label=f"{STAR}, malicious pickle", weights=weights)
