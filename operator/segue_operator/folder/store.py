"""One JSON file per voice: what was last read from its YAML, and its status.

Separate from reading YAML because this is the part that the API server plays elsewhere: uid, generation and
resourceVersion are given here, and a write names the resourceVersion that it is based on. The last good spec is kept,
so that a restart with a broken YAML goes on with what ran.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from segue.errors import SegueError
from segue.model import Status, VoiceModel
from segue_operator.files import write_atomically
from segue_operator.ports import WriteConflict

logger = logging.getLogger(__name__)


class StoreCorrupt(SegueError):
    """A status file that cannot be read."""


class Record(BaseModel):
    """A voice as it is kept.

    Attributes
    ----------
    file, content
        The YAML that `voice` was read from, and the sha256 of its bytes then: the precondition of an edit.
    origins
        Fields whose digest was computed and does not stand in the YAML.
    spellings
        Absolute URI to how a person wrote it, so that a revert writes it back in the same words.
    deleted
        The YAML is gone; the pods are being told.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")

    voice: VoiceModel
    file: str
    content: str
    origins: tuple[str, ...] = ()
    spellings: dict[str, str] = {}
    deleted: bool = False

    @property
    def version(self) -> int:
        """resourceVersion as a number."""
        return int(self.voice.metadata.resource_version or 0)

    def bumped(self, *, voice: VoiceModel | None = None, **changes: Any) -> Record:
        """The next version of this record."""
        voice = voice or self.voice
        metadata = voice.metadata.model_copy(update={"resource_version": str(self.version + 1)})
        return self.model_copy(update={"voice": voice.model_copy(update={"metadata": metadata}), **changes})


@dataclass(slots=True)
class Store:
    """Records by key, in memory and on disk. Used from the event loop only, so that a compare-and-write is one step."""

    directory: Path
    on_change: Callable[[], None] = lambda: None
    write: Callable[[Path, str], None] = write_atomically
    _records: dict[str, Record] = field(default_factory=dict)

    @classmethod
    def open(cls, directory: Path, *, on_change: Callable[[], None] = lambda: None) -> Store:
        """Read every record.

        Raises
        ------
        StoreCorrupt
            A file that cannot be read: a voice must not be forgotten, and its history with it, without a word.
        """
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        store = cls(directory, on_change)
        for path in sorted(directory.glob("*.*.json")):
            if not path.name.startswith("."):
                record = _read(path)
                store._records[record.voice.key] = record
        return store

    @property
    def records(self) -> Mapping[str, Record]:
        """By key, `namespace/name`; deleted ones included until they are released."""
        return self._records

    def live(self, key: str) -> Record | None:
        """The record of a voice that exists."""
        record = self._records.get(key)
        return None if record is None or record.deleted else record

    def put(self, record: Record) -> None:
        """Write a record that was made by `bumped`, or a new one."""
        key = record.voice.key
        self.write(self._path(key), json.dumps(_plain(record), indent=1, ensure_ascii=False) + "\n")
        self._records[key] = record
        self.on_change()

    def write_status(self, voice: VoiceModel, status: Status) -> VoiceModel:
        """Replace the status of exactly this version of the voice.

        Raises
        ------
        WriteConflict
            Another version, another uid, or no such voice any more.
        """
        record = self.expect(voice)
        updated = record.bumped(voice=record.voice.model_copy(update={"status": status}))
        self.put(updated)
        return updated.voice

    def expect(self, voice: VoiceModel) -> Record:
        """The record, if it is still the version that the caller read; raises `WriteConflict` otherwise."""
        record = self.live(voice.key)
        if record is None:
            raise WriteConflict(f"{voice.key} was deleted")
        seen, now = voice.metadata, record.voice.metadata
        if (seen.uid, seen.resource_version) != (now.uid, now.resource_version):
            raise WriteConflict(
                f"{voice.key} is at version {now.resource_version} ({now.uid}), "
                f"not {seen.resource_version} ({seen.uid})"
            )
        return record

    def forget(self, key: str) -> None:
        """Remove a voice that every pod has let go."""
        self._path(key).unlink(missing_ok=True)
        self._records.pop(key, None)
        self.on_change()

    def _path(self, key: str) -> Path:
        namespace, _, name = key.partition("/")
        return self.directory / f"{namespace}.{name}.json"


def _plain(record: Record) -> dict[str, Any]:
    return {**record.model_dump(mode="json", by_alias=True, exclude={"voice"}), "voice": record.voice.dump()}


def _read(path: Path) -> Record:
    try:
        return Record.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise StoreCorrupt(
            f"{path} cannot be read: {error}; move it away to start this voice anew (its history is lost then)"
        ) from error
