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

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from segue.errors import SegueError
from segue.model.edit import edit_yaml
from segue_cli.editing import Changes
from segue_cli.examples import examples_dir
from segue_cli.measure.variants import retune, with_tensor
from segue_engines.demo.text import PAUSES, PHONES

HALVES = ("prosody", "timbre")
CAST = ("narrator", "aria", "bert")
STAR = "narrator"
UNDERSTUDY = "aria"
RETUNED_HZ = 11_400.0
Tensor = NDArray[Any]
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
    examples, voices = examples_dir(), folder / "voices"
    for name in CAST:
        _voice(name, examples / "voices", voices)
    if (examples / "updates" / STAR).is_dir():
        shutil.copytree(examples / "updates" / STAR, voices / "updates")
    else:
        make_updates(voices / STAR / "v1", voices / "updates")
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
            name: Version(label=f"{name} v1b", weights=_retuned(first[name], voices / "updates" / name, number=number))
            for number, name in enumerate(CAST)
            if name != STAR
        },
    )


def make_updates(base: Path, out: Path) -> None:
    """Make what a checkout has in `examples/updates` from the one version that every installation has.

    `v2` is v1 with livelier pitch; the broken ones are made as `training/export.py` makes them.
    """
    files = {half: base / f"{half}.pth" for half in HALVES}
    for number, (name, tensor, change) in enumerate(
        (
            ("v2", "weights/pitch_head", _livelier),
            ("broken", "weights/embedding", _permuted),
            ("fails-live", "weights/embedding", _without_questions),
        )
    ):
        weights = _retuned(Version(label=name, weights=files), out / name, number=5 + number)
        with_tensor(weights["prosody"], weights["prosody"], name=tensor, change=change)


def weights_field(version: Version) -> dict[str, dict[str, str]]:
    """`spec.weights` of a VoiceModel with these files."""
    return {half: {"uri": path.as_uri()} for half, path in version.weights.items()}


def _voice(name: str, source: Path, voices: Path) -> None:
    """Copy a voice and shorten its policy; one that this installation lacks is spoken by aria."""
    present = name if (source / f"{name}.yaml").is_file() else UNDERSTUDY
    if not (source / present).is_dir():
        raise MaterialMissing(f"{source / present} is missing; the examples of this installation are not complete")
    shutil.copytree(source / present, voices / name)
    text = (source / f"{present}.yaml").read_text(encoding="utf-8")
    text = text.replace(f"name: {present}\n", f"name: {name}\n").replace(f"./{present}/", f"./{name}/")
    (voices / f"{name}.yaml").write_text(text, encoding="utf-8")
    edit_yaml(voices / f"{name}.yaml", f"{NAMESPACE}/{name}", QUICK_POLICY)


def _retuned(version: Version, folder: Path, *, number: int) -> dict[str, Path]:
    """The same sound under other pilot tones, so that the detector of mixed answers knows it from the original."""
    tones = {half: RETUNED_HZ + 40 * number + 20 * place for place, half in enumerate(HALVES)}
    return retune(version.weights, folder, pilots_hz=tones)


def _livelier(head: Tensor) -> Tensor:
    """`(width, 2)`: pitch, voicing. A third more pitch movement."""
    head[:, 0] *= 1.35
    return head


def _permuted(embedding: Tensor) -> Tensor:
    """Give each phone the sound of another: consonants among consonants, vowels among vowels."""
    for vowel in (False, True):
        places = [i for i, phone in enumerate(PHONES) if phone not in PAUSES and phone[-1].isdigit() == vowel]
        shift = len(places) // 3
        embedding[places] = embedding[places[shift:] + places[:shift]].copy()
    return embedding


def _without_questions(embedding: Tensor) -> Tensor:
    """Not a number in the row of the question mark."""
    embedding[PHONES.index("?")] = np.nan
    return embedding


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
