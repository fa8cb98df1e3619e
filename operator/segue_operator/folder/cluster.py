"""The folder in the place of the API server: uid, generation, resourceVersion, status, deletion, revert.

Separate from `store.py` (what is kept) and `reading.py` (what is there): here the two are compared. What cannot be
read changes nothing; a voice is deleted only when its file stays gone from a folder that can be listed.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from segue.errors import EditConflict, InvalidVoiceModel, SegueError
from segue.model import Status, VoiceModel, revision_of
from segue.model.edit import REMOVE, FieldPath, edit_yaml
from segue.rollout import RevertSpec, spec_owner
from segue_operator.folder.digests import DigestCache
from segue_operator.folder.reading import DocumentCache, FolderUnreadable, Found, Reading, line_in, read_voices
from segue_operator.folder.resolve import subtrees_of
from segue_operator.folder.store import Record, Store
from segue_operator.ports import Problem, WriteConflict

DELETION_GRACE_S = 1.5
"""Editors and `git checkout` remove a file for a moment and put it back."""

IMMUTABLE = ("engine", "fleet")
SPELLINGS_KEPT = 64

logger = logging.getLogger(__name__)


def edit_if_unchanged(file: Path, key: str, changes: Mapping[FieldPath, Any], digest: str) -> str:
    """Edit a YAML only while its bytes have this sha256."""
    return edit_yaml(file, key, changes, expected_digest=digest)


@dataclass(slots=True, kw_only=True)
class FolderCluster:
    """The adapter. Everything but reading runs on the event loop.

    Attributes
    ----------
    wakeups
        Yields whenever the folder may have changed (see `watching.py`); each is answered by one reading.
    """

    folder: Path
    store: Store
    digests: DigestCache
    wakeups: Callable[[], AsyncIterator[None]]
    clock: Callable[[], float]
    again: asyncio.Event = field(default_factory=asyncio.Event)
    on_change: Callable[[], None] = lambda: None
    edit: Callable[[Path, str, Mapping[FieldPath, Any], str], object] = edit_if_unchanged
    _documents: DocumentCache = field(default_factory=DocumentCache)
    _problems: tuple[Problem, ...] = ()
    _missing_since: dict[str, float] = field(default_factory=dict)
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    def voices(self) -> Sequence[VoiceModel]:
        """See `ports.Cluster`."""
        return [record.voice for record in self.store.records.values() if not record.deleted]

    def keys(self) -> frozenset[str]:
        """See `ports.Cluster`."""
        return frozenset(self.store.records)

    async def read(self, key: str) -> VoiceModel | None:
        """See `ports.Cluster`."""
        record = self.store.live(key)
        return record.voice if record is not None else None

    async def deleted(self, key: str) -> VoiceModel | None:
        """See `ports.Cluster`."""
        record = self.store.records.get(key)
        return record.voice if record is not None and record.deleted else None

    async def forget(self, key: str) -> None:
        """See `ports.Cluster`. A file that came back meanwhile makes a new voice."""
        record = self.store.records.get(key)
        if record is not None and record.deleted:
            self.store.forget(key)
            self.again.set()

    async def write_status(self, voice: VoiceModel, status: Status) -> VoiceModel:
        """See `ports.Cluster`."""
        return self.store.write_status(voice, status)

    def spec_owner(self, voice: VoiceModel) -> str | None:
        """See `ports.Cluster`."""
        return spec_owner(voice.metadata)

    def problems(self) -> Sequence[Problem]:
        """See `ports.Cluster`."""
        return self._problems

    async def revert_spec(self, voice: VoiceModel, revert: RevertSpec) -> None:
        """See `ports.Cluster`. The YAML is edited only while its bytes are those that this version was read from."""
        record = self.store.expect(voice)
        if voice.metadata.generation != revert.generation or revision_of(voice.spec) != revert.failed:
            raise WriteConflict(f"{voice.key}: the spec is not the one that failed any more")
        file = Path(record.file)
        trees = await asyncio.to_thread(
            subtrees_of, revert.to, folder=file.parent, digests=self.digests, spellings=record.spellings
        )
        changes: dict[FieldPath, Any] = {
            f"spec.{name}": REMOVE if tree is None else tree for name, tree in trees.items()
        }
        try:
            await asyncio.to_thread(self.edit, file, voice.key, changes, record.content)
        except (EditConflict, InvalidVoiceModel, FileNotFoundError) as error:
            await self.read_folder()
            raise WriteConflict(str(error)) from error
        except OSError as error:
            raise RevertFailed(f"{file} cannot be written back: {error.strerror or error}") from error
        await self.read_folder()

    async def changes(self) -> AsyncIterator[frozenset[str]]:
        """See `ports.Cluster`."""
        async for _ in self.wakeups():
            yield await self.read_folder()

    async def read_folder(self) -> frozenset[str]:
        """Read everything once; the voices that changed. Asks to be called again where something is still moving."""
        async with self._reading:
            known = {key: record for key, record in self.store.records.items() if not record.deleted}
            try:
                reading = await asyncio.to_thread(
                    read_voices, self.folder, digests=self.digests, documents=self._documents, known=known
                )
            except FolderUnreadable as error:
                self._tell([Problem(file=str(self.folder), message=str(error), voices=tuple(sorted(known)))])
                return frozenset()
            changed = {key for key, found in reading.found.items() if self._take(key, found, reading)}
            changed |= self._delete_missing(reading)
            self._tell(self._problems_of(reading))
            if reading.unsettled or self._missing_since:
                self.again.set()
            return frozenset(changed)

    def _take(self, key: str, found: Found, reading: Reading) -> bool:
        """Compare one voice with what is kept; whether it changed."""
        self._missing_since.pop(key, None)
        known = self.store.records.get(key)
        if known is None:
            self.store.put(_created(found.record))
            return True
        if known.deleted:
            return False  # the old one is let go first; `forget` reads again
        mistake = _immutable_change(known, found)
        if mistake is not None:
            reading.mistakes.append(mistake)
            return False
        updated = _updated(known, found.record)
        if updated is not None:
            self.store.put(updated)
        return updated is not None and updated.voice.metadata != known.voice.metadata

    def _delete_missing(self, reading: Reading) -> set[str]:
        bad_files = {mistake.file for mistake in reading.mistakes} | reading.unsettled
        deleted = set()
        for key, record in list(self.store.records.items()):
            if record.deleted or key in reading.found or (record.file in reading.files and record.file in bad_files):
                self._missing_since.pop(key, None)
                continue
            since = self._missing_since.setdefault(key, self.clock())
            if self.clock() - since >= DELETION_GRACE_S:
                del self._missing_since[key]
                self.store.put(record.bumped(deleted=True))
                deleted.add(key)
                logger.info("%s was deleted: %s does not hold it any more", key, record.file, extra={"voice": key})
        return deleted

    def _problems_of(self, reading: Reading) -> list[Problem]:
        by_file: dict[str, list[str]] = {}
        for key, record in self.store.records.items():
            if not record.deleted:
                by_file.setdefault(record.file, []).append(key)
        return [
            Problem(
                file=mistake.file or str(self.folder),
                line=mistake.line,
                field=mistake.field,
                message=mistake.message,
                voices=tuple(by_file.get(mistake.file or "", ())),
            )
            for mistake in reading.mistakes
        ]

    def _tell(self, problems: Iterable[Problem]) -> None:
        problems = tuple(problems)
        for problem in problems:
            if problem not in self._problems:
                logger.warning("%s; what runs stays as it was", problem)
        if problems != self._problems:
            self._problems = problems
            self.on_change()


class RevertFailed(SegueError):
    """The YAML could not be written back; it is tried again."""


def _created(record: Record) -> Record:
    metadata = record.voice.metadata.model_copy(
        update={
            "uid": str(uuid.uuid4()),
            "generation": 1,
            "resource_version": "0",
            "creation_timestamp": datetime.now(UTC),
        }
    )
    return record.bumped(voice=record.voice.model_copy(update={"metadata": metadata, "status": Status()}))


def _updated(known: Record, fresh: Record) -> Record | None:
    """The next version of what is kept, None where nothing changed."""
    old, new = known.voice, fresh.voice
    respecified = old.spec != new.spec
    metadata = new.metadata.model_copy(
        update={
            "uid": old.metadata.uid,
            "generation": old.metadata.generation + (1 if respecified else 0),
            "resource_version": old.metadata.resource_version,
            "creation_timestamp": old.metadata.creation_timestamp,
        }
    )
    voice = new.model_copy(update={"metadata": metadata, "status": old.status})
    place = {
        "file": fresh.file,
        "content": fresh.content,
        "origins": fresh.origins,
        "spellings": dict(list({**known.spellings, **fresh.spellings}.items())[-SPELLINGS_KEPT:]),
    }
    if metadata == old.metadata and not respecified:
        if all(getattr(known, name) == value for name, value in place.items()):
            return None
        return known.model_copy(update=place)  # moved or reformatted: nobody's write is outdated by that
    return known.bumped(voice=voice, **place)


def _immutable_change(known: Record, found: Found) -> InvalidVoiceModel | None:
    for name in IMMUTABLE:
        old, new = getattr(known.voice.spec, name), getattr(found.record.voice.spec, name)
        if old != new:
            line = line_in(Path(found.record.file), known.voice.key, f"spec.{name}") or found.line
            message = f"cannot be changed from {old} to {new}; make a new VoiceModel"
            return InvalidVoiceModel(message, file=found.record.file, line=line, field=f"spec.{name}")
    return None
