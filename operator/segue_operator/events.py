"""What happened, for people: a ring of lines that `segue watch`, `describe` and the log of `segue up` read.

Separate from logging because events are part of the product: numbered, kept over a restart, and waited for.
"""

from __future__ import annotations

import json
import logging
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

from segue.rollout import Event
from segue_operator.changes import Changes

KEPT = 1000
FILE_LIMIT_BYTES = 2 << 20

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One event. `id` rises by one and survives restarts; `at` is ISO 8601 in UTC."""

    id: int
    at: str
    voice: str | None
    kind: str
    reason: str
    message: str


@dataclass(slots=True)
class EventLog:
    """The last `KEPT` events, appended to a file as JSON lines."""

    file: Path
    changes: Changes
    now: Callable[[], datetime]
    _entries: deque[Entry] = field(default_factory=lambda: deque(maxlen=KEPT))
    _last_id: int = 0

    @classmethod
    def open(cls, file: Path, *, changes: Changes, now: Callable[[], datetime]) -> EventLog:
        """Read what an earlier process left; a torn last line is left out."""
        log = cls(file, changes, now)
        with suppress(FileNotFoundError):
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                with suppress(ValueError, TypeError):
                    log._remember(Entry(**json.loads(line)))
        return log

    def publish(self, voice: str | None, event: Event) -> None:
        """Add an event and wake everybody who waits; the same line twice in a row for a voice is said once."""
        kind = "Warning" if event.warning else "Normal"
        previous = next((entry for entry in reversed(self._entries) if entry.voice == voice), None)
        if previous and (previous.kind, previous.reason, previous.message) == (kind, event.reason, event.message):
            return
        entry = Entry(
            id=self._last_id + 1,
            at=self.now().isoformat(timespec="milliseconds"),
            voice=voice,
            kind=kind,
            reason=event.reason,
            message=event.message,
        )
        self._append(entry)
        self._remember(entry)
        logger.log(
            logging.WARNING if event.warning else logging.INFO,
            "%s: %s: %s",
            voice or "-",
            event.reason,
            event.message,
            extra={"voice": voice, "reason": event.reason, "event_id": entry.id},
        )
        self.changes.bump()

    def since(self, last_id: int, *, voice: str | None = None) -> list[Entry]:
        """Events after `last_id`, oldest first."""
        return [entry for entry in self._entries if entry.id > last_id and voice in (None, entry.voice)]

    @property
    def last_id(self) -> int:
        """The id of the latest event, 0 before the first."""
        return self._last_id

    def _remember(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._last_id = max(self._last_id, entry.id)

    def _append(self, entry: Entry) -> None:
        try:
            if self.file.exists() and self.file.stat().st_size > FILE_LIMIT_BYTES:
                self._rewrite()
            with self.file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(asdict(entry), ensure_ascii=False) + "\n")
        except OSError as error:
            logger.warning("event %d could not be written to %s: %s", entry.id, self.file, error)

    def _rewrite(self) -> None:
        temporary = self.file.with_name(f".{self.file.name}.{os.getpid()}.tmp")
        lines = (json.dumps(asdict(entry), ensure_ascii=False) for entry in self._entries)
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        temporary.replace(self.file)
