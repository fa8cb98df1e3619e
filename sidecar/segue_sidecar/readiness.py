"""Whether the pod may be sent listeners: every voice of tier hot that it speaks, or should speak from its start, does.

Separate because it is easy to get wrong in both directions. A shadow takes nobody out of service, be it the first
revision of a new voice. And in a pod whose server is started only after the sidecar is ready (a native sidecar's
start-up probe), nothing can be active yet: there, all that remains to be done is a worker's.
"""

from __future__ import annotations

from segue.wire import RevisionPhase, Tier
from segue_sidecar.assembly import Parts
from segue_sidecar.entries import VoiceEntry


class Readiness:
    """Asks the books."""

    def __init__(self, parts: Parts) -> None:
        self._recovery = parts.recovery
        self._following = parts.following
        self._books = parts.core.books
        self._switchboard = parts.core.switchboard
        self._roster = parts.core.roster

    def waiting_for(self) -> list[str]:
        """What is not ready yet; empty: ready."""
        if not self._recovery.settled.is_set():
            return ["workers to hand back what they hold"]
        silent = [
            str(voice.name) for voice in self._books.voices.values() if _is_hot(voice) and not self._speaks(voice)
        ]
        return [*silent, *self._following.holding_up()]

    def _speaks(self, voice: VoiceEntry) -> bool:
        entry = voice.revisions.get(voice.said.active or "")
        if entry is None or self._switchboard.page is None:
            return False
        if entry.phase is RevisionPhase.OFFERING:
            return not self._roster.connected()
        return entry.phase is RevisionPhase.READY and self._switchboard.says(voice)


def _is_hot(voice: VoiceEntry) -> bool:
    """Whether somebody may ask for it at any time: it has an active revision, and one of tier hot.

    A voice that becomes hot on its way up from rest is not counted before it is there.
    """
    entry = voice.active
    if entry is not None and (entry.rests or entry.woken):
        return False
    return voice.said.active is not None and any(one.request.tier is Tier.HOT for one in voice.revisions.values())
