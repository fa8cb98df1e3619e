"""Voices that are shown and nothing else: a source for the console that a test writes into."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from segue.model.edit import FieldPath
from segue_operator.console.source import Document, Whereabouts
from segue_operator.events import Entry
from segue_operator.fleet.pod import Pod
from segue_operator.fleet.records import FleetKey
from segue_operator.ports import Problem

OLD, NEW = "a" * 64, "b" * 64


def voice_document(key: str = "default/narrator", **status: Any) -> dict[str, Any]:
    """A voice that serves its first version, unless `status` says otherwise; `spec` goes into its spec."""
    namespace, _, name = key.partition("/")
    spec = status.pop("spec", {})
    return {
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}", "generation": 1},
        "spec": {"engine": "demo", "fleet": "default", "rollout": {"paused": False}, **spec},
        "status": {
            "phase": "Idle",
            "reason": "Serving",
            "message": "1/1 pods serve aaaaaaaaaa",
            "activeRevision": OLD,
            "stableRevision": OLD,
            "history": [{"revision": OLD, "weights": {}, "since": "2026-11-22T10:00:00Z"}],
            "pods": {"total": 1, "ready": 1, "updated": 1},
            "conditions": [],
            **status,
        },
    }


def rolling(phase: str, key: str = "default/narrator", **more: Any) -> dict[str, Any]:
    """A voice in the middle of a rollout."""
    target = {"targetRevision": NEW, "phaseStartedAt": "2026-11-22T10:05:00Z", "reason": phase}
    rollout = {"startedAt": "2026-11-22T10:01:00Z", "step": 0, "source": {"revision": NEW}}
    return voice_document(key, **{"phase": phase, "rollout": rollout, **target, **more})


@dataclass
class FakeSource:
    """See `console.source.Source` and `Editor`."""

    voices: dict[str, dict[str, Any]] = field(default_factory=dict)
    wrong: list[Problem] = field(default_factory=list)
    lines: list[Entry] = field(default_factory=list)
    here: list[Pod] = field(default_factory=list)
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)
    where: Whereabouts = field(
        default_factory=lambda: Whereabouts(adapter="folder", leading=True, leader="", command="segue")
    )
    edits: list[tuple[str, Mapping[FieldPath, Any]]] = field(default_factory=list)
    told: list[tuple[str, str]] = field(default_factory=list)
    fails: Exception | None = None

    def put(self, *documents: dict[str, Any]) -> FakeSource:
        """These are how these voices are now."""
        for document in documents:
            metadata = document["metadata"]
            self.voices[f"{metadata['namespace']}/{metadata['name']}"] = document
        return self

    def identities(self) -> Mapping[str, object]:
        return self.voices

    def brief(self, key: str) -> Document | None:
        return self.voices.get(key)

    def document(self, key: str) -> Document | None:
        return self.voices.get(key)

    def fleet_of(self, key: str) -> FleetKey | None:
        return FleetKey(namespace="default", name="default") if key in self.voices else None

    def pods(self) -> Iterable[Pod]:
        return self.here

    def problems(self) -> Sequence[Problem]:
        return self.wrong

    def events(self, key: str) -> Sequence[Entry]:
        return [entry for entry in self.lines if entry.voice == key]

    def reports(self, key: str) -> Mapping[str, Any]:
        return self.kept.get(key, {})

    def whereabouts(self) -> Whereabouts:
        return self.where

    async def edit(self, key: str, changes: Mapping[FieldPath, Any], *, seen: Document) -> str:
        if self.fails is not None:
            raise self.fails
        self.edits.append((key, changes))
        return "voices/narrator.yaml"

    def tell(self, key: str, text: str) -> None:
        self.told.append((key, text))
