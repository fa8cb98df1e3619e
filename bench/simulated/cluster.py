"""VoiceModels in memory, for an operator that is measured without an API server.

Separate from `tests/fakes`, which fail on purpose: this one only keeps what an API server keeps, as JSON text, so that
the operator parses and dumps as it does for real, and counts what it is asked.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from segue.model import Phase, Status, VoiceModel, revision_of, source_of
from segue.model.status import HistoryEntry
from segue.rollout import RevertSpec
from segue_operator.ports import Problem, WriteConflict

ANSWERS_IN_S = 0.002
"""What a request to an API server takes at the least."""


def document_of(key: str, *, version: int, tier: str) -> dict[str, Any]:
    """A voice with a policy whose rollouts need nobody's traffic."""
    namespace, _, name = key.partition("/")
    digest = hashlib.sha256(f"{key} {version}".encode()).hexdigest()
    return {
        "apiVersion": "segue.dev/v1alpha1",
        "kind": "VoiceModel",
        "metadata": {"namespace": namespace, "name": name, "uid": f"uid-{name}", "generation": version},
        "spec": {
            "engine": "demo",
            "fleet": "simulated",
            "weights": {"acoustic": {"uri": f"s3://voices/{name}/{version}.npz", "sha256": digest}},
            "rollout": {"canary": {"mode": "Skip"}},
            "watch": {"duration": "10s", "sustainedFor": "10s", "insufficientTraffic": "Proceed"},
            "residency": {"tier": tier},
        },
    }


@dataclass(slots=True)
class MemoryCluster:
    """See `segue_operator.ports.Cluster`.

    Attributes
    ----------
    requests
        How many requests were made, by voice.
    flipping_ns
        By `voice revision`: when the commit point was persisted, CLOCK_MONOTONIC.
    """

    requests: dict[str, int] = field(default_factory=dict)
    flipping_ns: dict[str, int] = field(default_factory=dict)
    phases: dict[str, Phase] = field(default_factory=dict)
    _objects: dict[str, str] = field(default_factory=dict)
    _versions: dict[str, int] = field(default_factory=dict)
    _changed: asyncio.Queue[frozenset[str]] = field(default_factory=asyncio.Queue)

    def seed(self, key: str, *, tier: str) -> None:
        """A voice that was promoted long ago."""
        document = document_of(key, version=1, tier=tier)
        source = source_of(VoiceModel.parse(document).spec)
        entry = HistoryEntry(**source.model_dump(), since=datetime(2026, 1, 1, tzinfo=UTC))
        status = Status(
            active_revision=source.revision,
            stable_revision=source.revision,
            history=(entry,),
            observed_generation=1,
        )
        self._store(key, {**document, "status": _dumped(status)})

    def change(self, key: str) -> str:
        """A person asks for another version; the revision that is wanted now."""
        before = json.loads(self._objects[key])
        version, tier = before["metadata"]["generation"] + 1, before["spec"]["residency"]["tier"]
        after = {**document_of(key, version=version, tier=tier), "status": before["status"]}
        self._store(key, after)
        self._changed.put_nowait(frozenset({key}))
        return revision_of(VoiceModel.parse(after).spec)

    def voices(self) -> Sequence[VoiceModel]:
        """See `ports.Cluster`."""
        return [self._parsed(key) for key in self._objects]

    def keys(self) -> frozenset[str]:
        """See `ports.Cluster`."""
        return frozenset(self._objects)

    async def read(self, key: str) -> VoiceModel | None:
        """See `ports.Cluster`."""
        await self._answer(key)
        return self._parsed(key)

    async def write_status(self, voice: VoiceModel, status: Status) -> VoiceModel:
        """See `ports.Cluster`."""
        await self._answer(voice.key)
        if voice.metadata.resource_version != str(self._versions[voice.key]):
            raise WriteConflict(f"{voice.key} is not at {voice.metadata.resource_version} any more")
        self._store(voice.key, {**json.loads(self._objects[voice.key]), "status": _dumped(status)})
        if status.phase is Phase.FLIPPING and self.phases.get(voice.key) is not Phase.FLIPPING:
            self.flipping_ns[f"{voice.key} {status.target_revision}"] = time.monotonic_ns()
        self.phases[voice.key] = status.phase
        return self._parsed(voice.key)

    async def revert_spec(self, voice: VoiceModel, revert: RevertSpec) -> None:
        """See `ports.Cluster`. Nothing fails here, so nothing is reverted."""
        raise WriteConflict(f"{voice.key}: {revert.failed} did not fail")

    def spec_owner(self, voice: VoiceModel) -> str | None:
        """See `ports.Cluster`."""
        return None

    async def deleted(self, key: str) -> VoiceModel | None:
        """See `ports.Cluster`."""
        return None

    async def forget(self, key: str) -> None:
        """See `ports.Cluster`."""

    def problems(self) -> Sequence[Problem]:
        """See `ports.Cluster`."""
        return ()

    async def changes(self) -> AsyncIterator[frozenset[str]]:
        """See `ports.Cluster`."""
        yield self.keys()
        while True:
            yield await self._changed.get()

    async def _answer(self, key: str) -> None:
        self.requests[key] = self.requests.get(key, 0) + 1
        await asyncio.sleep(ANSWERS_IN_S)

    def _store(self, key: str, document: dict[str, Any]) -> None:
        self._versions[key] = self._versions.get(key, 0) + 1
        document["metadata"]["resourceVersion"] = str(self._versions[key])
        self._objects[key] = json.dumps(document)

    def _parsed(self, key: str) -> VoiceModel:
        return VoiceModel.parse(json.loads(self._objects[key]))


def _dumped(status: Status) -> dict[str, Any]:
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)
