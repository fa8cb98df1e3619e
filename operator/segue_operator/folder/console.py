"""What the console shows and writes where voices are YAML files.

Separate from the adapter: nothing that decides looks here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segue.errors import SegueError
from segue.model.edit import FieldPath
from segue.rollout import Event
from segue_operator.console.source import Document, Whereabouts
from segue_operator.events import Entry, EventLog
from segue_operator.fleet.pod import Pod
from segue_operator.fleet.records import FleetKey
from segue_operator.fleet.sidecars import SidecarFleet
from segue_operator.folder.cluster import FolderCluster, edit_if_unchanged
from segue_operator.ports import Problem, WriteConflict
from segue_operator.reports import ReportBook

_BRIEF: Any = {
    "metadata": {"name", "namespace", "uid"},
    "spec": {"engine": True, "fleet": True, "rollout": {"paused"}, "residency": True},
    "status": {
        "phase": True,
        "reason": True,
        "message": True,
        "active_revision": True,
        "target_revision": True,
        "phase_started_at": True,
        "deadline": True,
        "pods": True,
        "conditions": True,
        "rollout": {"started_at"},
        "rollback": {"started_at"},
        "last_rollback": {"message"},
    },
}
"""What a row needs; the whole of a voice takes ten times as long."""

HERE = Whereabouts(adapter="folder", leading=True, leader="", command="segue")


class CannotWrite(SegueError):
    """A file that is not ours to write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderConsole:
    """See `console.source`."""

    cluster: FolderCluster
    fleet: SidecarFleet
    log: EventLog
    kept: ReportBook
    edit_file: Callable[[Path, str, Mapping[FieldPath, Any], str], object] = field(default=edit_if_unchanged)

    def identities(self) -> Mapping[str, object]:
        """See `Source`."""
        records = self.cluster.store.records.items()
        return {key: record.voice for key, record in records if not record.deleted}

    def brief(self, key: str) -> Document | None:
        """See `Source`."""
        record = self.cluster.store.live(key)
        if record is None:
            return None
        return record.voice.model_dump(mode="json", by_alias=True, exclude_none=True, include=_BRIEF)

    def document(self, key: str) -> Document | None:
        """See `Source`."""
        record = self.cluster.store.live(key)
        return record.voice.dump() if record is not None else None

    def fleet_of(self, key: str) -> FleetKey | None:
        """See `Source`."""
        record = self.cluster.store.live(key)
        return self.fleet.select(record.voice) if record is not None else None

    def pods(self) -> Iterable[Pod]:
        """See `Source`."""
        return self.fleet.pods.values()

    def problems(self) -> Sequence[Problem]:
        """See `Source`."""
        return self.cluster.problems()

    def events(self, key: str) -> Sequence[Entry]:
        """See `Source`."""
        return self.log.since(0, voice=key)

    def reports(self, key: str) -> Mapping[str, Any]:
        """See `Source`."""
        return {name: each.model_dump(mode="json", by_alias=True) for name, each in self.kept.of(key).items()}

    def whereabouts(self) -> Whereabouts:
        """See `Source`."""
        return HERE

    async def edit(self, key: str, changes: Mapping[FieldPath, Any], *, seen: Document) -> str:
        """See `Editor`. The YAML is edited only while its bytes are those that this version was read from."""
        record = self.cluster.store.live(key)
        if record is None or record.voice.metadata.uid != seen["metadata"]["uid"]:
            raise WriteConflict(f"{key} was deleted meanwhile")
        file = Path(record.file)
        try:
            await asyncio.to_thread(self.edit_file, file, key, changes, record.content)
        except OSError as error:
            raise CannotWrite(f"{file} cannot be written: {error.strerror or error}") from error
        return str(file)

    def tell(self, key: str, text: str) -> None:
        """See `Editor`."""
        self.log.publish(key, Event(reason="Asked", message=text))
