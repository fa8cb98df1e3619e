"""Versions of a voice, and manifests that roll them out in seconds.

Separate because every case needs some: good ones in any number (the narrator under other pilot tones, which the
detector of mixed answers tells apart), and the two bad ones of `examples/updates`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.harness import copy_weights, sha256_of

from segue.model import VoiceSpec, revision_of
from segue.model.voice import API_VERSION, KIND
from segue_cli.examples import examples_dir
from segue_cli.measure.renderings import RevisionFiles
from segue_cli.measure.variants import numbered

REFERENCE_TEXT = "reference.txt"

QUICK: Mapping[str, Any] = {
    "verification": {
        "minSimilarity": 0,
        "cases": [{"text": "Please measure the rope twice, then cut it once."}],
    },
    "rollout": {
        "preloadWaves": [1, "100%"],
        "canary": {"mode": "Skip", "steps": ["50%"], "successes": 20, "timeout": "60s"},
        "progressDeadline": "90s",
    },
    "watch": {
        "duration": "3s",
        "sustainedFor": "2s",
        "minRequests": 5,
        "minErrors": 3,
        "insufficientTraffic": "Proceed",
    },
    "rollback": {"keepWarm": "10m"},
}
"""Seconds, where a service would say minutes: enough of everything to see it happen."""

SPLIT: Mapping[str, Any] = {"rollout": {"canary": {"mode": "Split"}}}
"""Laid over `QUICK`: half of the listeners first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """Weight files, and what else makes the sound.

    Attributes
    ----------
    content
        Further fields of the spec that are heard: `options`, `reference`.
    """

    label: str
    weights: Mapping[str, Path]
    content: Mapping[str, Any] = field(default_factory=dict)

    def with_content(self, label: str, **content: Any) -> Version:
        """The same files with other options or another reference."""
        return Version(label=label, weights=self.weights, content={**self.content, **content})

    @property
    def spec(self) -> dict[str, Any]:
        """What of a spec is heard."""
        weights = {name: {"uri": path.as_uri(), "sha256": sha256_of(path)} for name, path in self.weights.items()}
        return {"engine": "demo", "weights": weights, **copy.deepcopy(dict(self.content))}

    @property
    def revision(self) -> str:
        """Its name."""
        return revision_of(VoiceSpec.model_validate(self.spec))

    def files(self, voice: str) -> RevisionFiles:
        """For the renderings."""
        options = dict(self.content.get("options", {}))
        return RevisionFiles(voice=voice, revision=self.revision, weights=self.weights, options=options)


class Wardrobe:
    """Makes versions in a folder that the sidecars may read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._examples = examples_dir()
        self._count = 0
        self.narrator = self._copied("narrator v1", "voices/narrator/v1")
        self.livelier = self._copied("narrator v2", "updates/narrator/v2")
        self.wrong_words = self._copied("broken", "updates/narrator/broken")
        self.fails_on_questions = self._copied("fails-live", "updates/narrator/fails-live")
        reference = folder / "reference.wav"
        reference.write_bytes((self._examples / "voices" / "narrator" / "reference.wav").read_bytes())
        text = " ".join((self._examples / "voices" / "narrator" / REFERENCE_TEXT).read_text(encoding="utf-8").split())
        self.reference = {
            "uri": reference.as_uri(),
            "sha256": sha256_of(reference),
            "text": text,
            "language": "en",
        }

    def fresh(self) -> Version:
        """A good version that nobody has heard yet."""
        self._count += 1
        label = f"v{self._count}"
        return Version(label=label, weights=numbered(self.narrator.weights, self.folder / label, number=self._count))

    def _copied(self, label: str, place: str) -> Version:
        return Version(label=label, weights=copy_weights(self._examples / place, self.folder / label.replace(" ", "-")))


def manifest(name: str, namespace: str, version: Version, *policies: Mapping[str, Any]) -> dict[str, Any]:
    """A VoiceModel of a version, with the quick policy and what is laid over it."""
    spec = dict(version.spec)
    for policy in (QUICK, *policies):
        spec = laid_over(spec, policy)
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def laid_over(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """Both, mapping by mapping; what is on top wins."""
    merged = {**copy.deepcopy(dict(base))}
    for key, value in top.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = laid_over(below, value) if both else copy.deepcopy(value)  # type: ignore[arg-type]
    return merged
