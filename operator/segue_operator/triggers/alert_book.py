"""Which alerts fire for which voice, as far as Alertmanager said so.

Separate from the receiver because it is a pure book in memory. Calls may come twice, late or in the wrong order (two
Alertmanagers, retries), so the order of noting does not matter: of one fingerprint the latest `startsAt` counts, and of
one `startsAt` its resolution. A restarted operator begins with an empty book; Alertmanager repeats what still fires.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from segue.rollout import Alert

PER_VOICE = 32
"""Alerts kept for one voice. Of more, the ones that began first go: they are the least likely to have begun after a
flip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One alert of one call, understood.

    Attributes
    ----------
    voice
        `namespace/name`.
    fires
        False: resolved.
    ends_at
        When the sender itself expects it to end, where it says so.
    """

    voice: str
    fingerprint: str
    alert: Alert
    fires: bool
    ends_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Entry:
    notice: Notice
    expires_at: datetime


@dataclass(slots=True, kw_only=True)
class AlertBook:
    """By voice and fingerprint, for `ttl` after the last call that named an alert."""

    now: Callable[[], datetime]
    ttl: timedelta
    _voices: dict[str, dict[str, _Entry]] = field(default_factory=dict)
    _swept_at: datetime | None = None

    def note(self, notices: Iterable[Notice]) -> frozenset[str]:
        """Take notices in; the voices for which an alert began or ended by them."""
        now = self.now()
        self._sweep(now)
        return frozenset(notice.voice for notice in notices if self._take(notice, now))

    def firing(self, voice: str) -> tuple[Alert, ...]:
        """What fires now."""
        now = self.now()
        entries = self._voices.get(voice, {}).values()
        return tuple(each.notice.alert for each in entries if each.notice.fires and each.expires_at > now)

    def __len__(self) -> int:
        """Entries, resolved ones included."""
        return sum(len(entries) for entries in self._voices.values())

    def _take(self, notice: Notice, now: datetime) -> bool:
        entries = self._voices.setdefault(notice.voice, {})
        entry = entries.get(notice.fingerprint)
        known = entry.notice if entry is not None and entry.expires_at > now else None
        if known is not None and not _supersedes(notice, known):
            return False
        entries[notice.fingerprint] = _Entry(notice, self._expiry(notice, now))
        if len(entries) > PER_VOICE:
            del entries[min(entries, key=lambda each: _worth(entries[each].notice))]
        return _state(notice) != _state(known)

    def _expiry(self, notice: Notice, now: datetime) -> datetime:
        forgotten = now + self.ttl
        return min(forgotten, notice.ends_at) if notice.fires and notice.ends_at is not None else forgotten

    def _sweep(self, now: datetime) -> None:
        """Let go of what expired, also of voices that nobody asks for any more; now and then is enough."""
        if self._swept_at is not None and now - self._swept_at < self.ttl:
            return
        self._swept_at = now
        for voice, entries in list(self._voices.items()):
            kept = {name: entry for name, entry in entries.items() if entry.expires_at > now}
            if kept:
                self._voices[voice] = kept
            else:
                del self._voices[voice]


def _supersedes(new: Notice, old: Notice) -> bool:
    if new.alert.starts_at != old.alert.starts_at:
        return new.alert.starts_at > old.alert.starts_at
    return old.fires or not new.fires


def _state(notice: Notice | None) -> datetime | None:
    """What a voice is told of an alert: since when it fires, if it does."""
    return notice.alert.starts_at if notice is not None and notice.fires else None


def _worth(notice: Notice) -> tuple[bool, datetime]:
    return notice.fires, notice.alert.starts_at
