"""A folder of voices that do not fit into memory together, as a person would write it.

Each is an example voice under pilot tones of its own, so every arena is another one. Rollouts take seconds: one test
sentence, a short watch.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from bench.harness import example_versions
from segue.engine import PrepareOptions
from segue.memory.arena import ArenaPlan
from segue_cli.measure.variants import numbered
from segue_engines.registry import get_engine

TIERS = ("hot", *itertools.repeat("cold", 5), *itertools.repeat("warm", 4))
"""In turn: one in ten voices is hot."""
SLACK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Company:
    """The folder. `voices`: name to tier, in the order of their popularity."""

    folder: Path
    voices: Mapping[str, str]
    largest_bytes: int


def make_company(folder: Path, *, count: int) -> Company:
    """Write `count` demo voices."""
    folder.mkdir(parents=True)
    examples = example_versions()
    tiers = dict(zip((f"voice-{number:02}" for number in range(count)), itertools.cycle(TIERS), strict=False))
    largest_bytes = 0
    for number, (name, tier) in enumerate(tiers.items()):
        source = examples[number % len(examples)]
        weights = {half: source / f"{half}.pth" for half in ("prosody", "timbre")}
        own = numbered(weights, folder / name, number=3000 + number)
        _write(folder / f"{name}.yaml", name=name, tier=tier, weights=own)
        largest_bytes = max(largest_bytes, arena_bytes(own))
    return Company(folder=folder, voices=tiers, largest_bytes=largest_bytes)


def arena_bytes(weights: Mapping[str, Path]) -> int:
    """What a demo voice takes in memory."""
    prepared = get_engine("demo").prepare(dict(weights), PrepareOptions())
    return sum(ArenaPlan.of(part).total_bytes for part in prepared.parts.values())


def read_company(folder: Path) -> Mapping[str, str]:
    """The voices of a folder that somebody made: name to tier."""
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        document = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
        found[document["metadata"]["name"]] = document["spec"].get("residency", {}).get("tier", "hot")
    return found


def _write(path: Path, *, name: str, tier: str, weights: Mapping[str, Path]) -> None:
    document = {
        "apiVersion": "segue.dev/v1alpha1",
        "kind": "VoiceModel",
        "metadata": {"name": name},
        "spec": {
            "engine": "demo",
            "weights": {half: {"uri": file.as_uri()} for half, file in weights.items()},
            "verification": {"cases": [{"text": "The train to the coast leaves at ten past nine from platform two."}]},
            "watch": {"duration": "2s", "sustainedFor": "1s", "insufficientTraffic": "Proceed"},
            "residency": {"tier": tier},
        },
    }
    with path.open("w", encoding="utf-8") as stream:
        YAML(typ="safe", pure=True).dump(document, stream)
