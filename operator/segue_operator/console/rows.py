"""The list of voices, drawn only where a voice changed, and told as differences.

Separate from the streams because any number of them share it: a row is made once per change of its voice, by whoever
looks first, and never while nobody looks.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from segue_operator.console.attention import attention, is_paused
from segue_operator.console.source import Document, Source

AT_A_TIME = 10
"""So many rows are drawn before the control loop has its turn again."""

GONE_KEPT = 500


@dataclass(frozen=True, slots=True)
class _Row:
    identity: object
    unusable: bool
    text: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What a stream that has seen `since` needs to know.

    Attributes
    ----------
    rows
        JSON of each row.
    whole
        The rows are all there are: what was known before is forgotten.
    """

    version: int
    whole: bool
    rows: tuple[str, ...]
    gone: tuple[str, ...]

    def json(self, *, epoch: str) -> str:
        """As a member list of an object, without braces."""
        head = {"epoch": epoch, "version": self.version, "whole": self.whole, "gone": self.gone}
        return f'{json.dumps(head)[1:-1]},"rows":[{",".join(self.rows)}]'


@dataclass(slots=True)
class Rows:
    """All rows, each with the version at which it last changed. Used from one event loop only."""

    source: Source
    epoch: str = field(default_factory=lambda: secrets.token_hex(6))
    version: int = 0
    drawn: int = 0
    """How often a row was drawn, for tests."""
    _rows: dict[str, _Row] = field(default_factory=dict)
    _gone: dict[str, int] = field(default_factory=dict)
    _forgotten: int = 0
    _drawing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def refresh(self) -> None:
        """Draw what changed; gives way to the control loop in between."""
        async with self._drawing:
            unusable = {key for problem in self.source.problems() for key in problem.voices}
            identities = dict(self.source.identities())
            due = [key for key, identity in identities.items() if self._is_due(key, identity, key in unusable)]
            gone = self._rows.keys() - identities.keys()
            if not (due or gone):
                return
            version = self.version + 1
            for number, key in enumerate(due, 1):
                self._draw(key, identities[key], unusable=key in unusable, version=version)
                if number % AT_A_TIME == 0:
                    await asyncio.sleep(0)
            for key in gone:
                del self._rows[key]
                self._gone[key] = version
            self._forget_long_gone()
            self.version = version

    def since(self, version: int | None, *, epoch: str = "") -> Difference:
        """What changed after a version; everything where that is not known any more."""
        whole = version is None or epoch != self.epoch or version < self._forgotten or version > self.version
        rows = [row.text for row in self._rows.values() if whole or row.version > (version or 0)]
        gone = [key for key, at in self._gone.items() if not whole and at > (version or 0)]
        return Difference(version=self.version, whole=whole, rows=tuple(rows), gone=tuple(gone))

    def _is_due(self, key: str, identity: object, unusable: bool) -> bool:
        known = self._rows.get(key)
        return known is None or known.identity is not identity or known.unusable is not unusable

    def _draw(self, key: str, identity: object, *, unusable: bool, version: int) -> None:
        voice = self.source.brief(key)
        if voice is None:
            return
        self.drawn += 1
        text = json.dumps(row_of(key, voice, unusable=unusable), ensure_ascii=False, separators=(",", ":"))
        self._gone.pop(key, None)
        known = self._rows.get(key)
        if known is not None and known.text == text:
            version = known.version  # only what the list does not show has changed
        self._rows[key] = _Row(identity, unusable, text, version)

    def _forget_long_gone(self) -> None:
        while len(self._gone) > GONE_KEPT:
            key = next(iter(self._gone))
            self._forgotten = max(self._forgotten, self._gone.pop(key))


def row_of(key: str, voice: Document, *, unusable: bool) -> dict[str, Any]:
    """What the list shows of a voice."""
    status: Mapping[str, Any] = voice.get("status") or {}
    level, code = attention(voice, unusable=unusable)
    namespace, _, name = key.partition("/")
    pods = status.get("pods") or {}
    row = {
        "key": key,
        "namespace": namespace,
        "name": name,
        "level": int(level),
        "code": code,
        "phase": status.get("phase", "Idle"),
        "reason": status.get("reason", ""),
        "message": _message(status, code),
        "active": status.get("activeRevision"),
        "target": status.get("targetRevision") if status.get("rollout") or status.get("rollback") else None,
        "since": status.get("phaseStartedAt"),
        "deadline": status.get("deadline"),
        "paused": is_paused(voice),
        "pods": {name: pods.get(name, 0) for name in ("total", "ready", "updated", "loaded", "verified", "failed")},
        "engine": (voice.get("spec") or {}).get("engine", ""),
        "tier": ((voice.get("spec") or {}).get("residency") or {}).get("tier", "hot"),
    }
    return {name: value for name, value in row.items() if value not in (None, "", False)}


def _message(status: Mapping[str, Any], code: str) -> str:
    """The operator's words; of a voice that was taken back, why that was, and not what serves since."""
    back = status.get("lastRollback") or {}
    return str((back.get("message") if code == "RolledBack" else "") or status.get("message", ""))
