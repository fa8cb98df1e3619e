"""Prepared parts on disk: a cold voice comes back from there without its source, its engine and another proof.

Written by a child once the parts are proven, read by a child that hashes what it reads: a file counts for nothing
beyond the digest in the journal. The folder is bounded; the files that were used longest ago go first, and losing one
only means a slower way back. Names hold engine build and device class, since another build prepares anew.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segue.errors import MemoryError_
from segue.memory.interface import WeightMemory
from segue.memory.messages import PartRef
from segue.memory.voice_view import is_shared
from segue.wire import Tier
from segue_sidecar.books import Books
from segue_sidecar.child import ChildFailed, ChildKind, Nursery
from segue_sidecar.config import Config
from segue_sidecar.entries import RevisionEntry

logger = logging.getLogger(__name__)


class PreparedStore:
    """The folder, as the sidecar uses it."""

    def __init__(self, *, config: Config, books: Books, memory: WeightMemory, nursery: Nursery) -> None:
        self.size_bytes = 0
        self._folder = config.cache_directory / "prepared"
        self._most_bytes = config.tiers.disk_bytes
        self._device_class = config.pod.device_class
        self._deadline_s = config.deadlines.prepare_s
        self._books = books
        self._memory = memory
        self._nursery = nursery
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._turn = asyncio.Semaphore(1)
        self._complained = ""

    def keep(self, entry: RevisionEntry) -> None:
        """Have the parts of a proven revision on disk sometime soon, if it may ever need them there."""
        wanted = self._most_bytes and entry.parts and entry.parts == entry.prepared
        if wanted and entry.request.tier is not Tier.HOT and not entry.stored and entry.owner not in self._tasks:
            self._tasks[entry.owner] = asyncio.create_task(self._run(entry), name=f"store {entry.owner}")

    async def close(self) -> None:
        """Give up what is being written."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def load(self, entry: RevisionEntry, parts: Sequence[PartRef], fds: Sequence[int]) -> None:
        """Fill memory from the files of these parts. Takes `fds` over, also when it raises.

        Raises
        ------
        ChildFailed
            A file is gone, damaged, or cannot be read: none of them counts as stored then.
        """
        job = {"parts": self._documents(entry, parts)}
        try:
            await self._nursery.run(ChildKind.LOAD, job, fds=fds, deadline_s=self._deadline_s)
        except ChildFailed:
            entry.stored = False
            raise

    async def look(self) -> None:
        """See how much lies there already."""
        self.size_bytes = await asyncio.to_thread(_size_of, self._folder)

    async def _run(self, entry: RevisionEntry) -> None:
        try:
            async with self._turn:
                await self._write(entry)
        except ChildFailed as error:
            self._complain(entry, error)
        except Exception:  # a task's outermost point: the voice does not need the copy
            logger.exception("storing %s failed", entry.owner)
        finally:
            self._tasks.pop(entry.owner, None)

    async def _write(self, entry: RevisionEntry) -> None:
        prepared = entry.prepared
        parts = [part for part in prepared if not is_shared(part.name)]  # those come from where all voices get them
        try:
            fds = self._memory.export_all(parts)
        except (KeyError, MemoryError_):
            return  # it left memory before its turn came
        job: Mapping[str, Any] = {
            "folder": str(self._folder),
            "parts": self._documents(entry, parts),
            "mostBytes": self._most_bytes,
            "memory": self._memory.mapping_terms,
        }
        result = await self._nursery.run(ChildKind.STORE, job, fds=fds, deadline_s=self._deadline_s)
        self.size_bytes, self._complained = int(result["bytes"]), ""
        if entry.prepared == prepared and entry.revision in self._books.voices[str(entry.voice)].revisions:
            entry.stored = True
            self._books.record_revision(entry)

    def _complain(self, entry: RevisionEntry, error: ChildFailed) -> None:
        """Once per reason: a full disk stays full for every voice."""
        logger.warning("%s is not on disk: %s: %s", entry.owner, error.reason, error)
        if self._complained != error.reason:
            self._complained = error.reason
            message = f"{error.reason}: {error}; coming back takes the source"
            self._books.event("PreparedNotStored", message, voice=entry.voice, warning=True)

    def _documents(self, entry: RevisionEntry, parts: Sequence[PartRef]) -> list[dict[str, object]]:
        kind = f"{entry.request.engine}\n{entry.build}\n{self._device_class}"
        folder = self._folder / hashlib.sha256(kind.encode()).hexdigest()[:16]
        return [
            {"name": part.name, "digest": part.digest, "size": part.size_bytes, "path": str(folder / part.digest)}
            for part in parts
        ]


def _size_of(folder: Path) -> int:
    total = 0
    for path in folder.glob("*/*"):
        try:
            total += path.stat().st_size
        except OSError:
            continue
    return total
