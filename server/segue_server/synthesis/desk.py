"""Admission: which revision speaks for a request, decided once, pinned at once.

Separate from flights because of its one rule: reading the word, resolving it and taking the pin is one synchronous
block on the loop. Nothing in `admit` may ever await.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from segue.errors import MemoryError_
from segue.memory import admission
from segue.memory.admission import Choice, Cold, Role, Unresolvable
from segue.memory.messages import VoiceName
from segue.memory.page import NO_HANDLE, Word
from segue.memory.stats import StatsPage
from segue.memory.stats_layout import WorkerCell
from segue_server.revisions.resident import Resident
from segue_server.revisions.roster import KnownVoice, Roster
from segue_server.synthesis.failures import NotServing, RevisionUnknown, VoiceCold, VoiceUnknown
from segue_server.synthesis.listeners import ListenerBook
from segue_server.synthesis.spec import Listener, SpeechSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Who speaks, pinned: whoever holds this must see to `resident.unpin`.

    Attributes
    ----------
    resident
        The revision that answers.
    role
        Why it was chosen.
    known_good
        Handle that serves again what `resident` fails before its first byte; None: nobody is on guard.
    mirror
        Handle of the revision that gets a copy, or None.
    """

    voice: VoiceName
    resident: Resident
    role: Role
    known_good: int | None
    mirror: int | None


class Desk:
    """Admits requests to revisions."""

    def __init__(self, roster: Roster, *, stats: StatsPage, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` is CLOCK_MONOTONIC in seconds."""
        self._roster = roster
        self._stats = stats
        self._clock = clock
        self._listeners = ListenerBook(roster)

    def admit(self, spec: SpeechSpec, listener: Listener) -> Admission:
        """Choose the revision for a request and pin it.

        Raises
        ------
        VoiceUnknown
            No such voice in the caller's namespace.
        RevisionUnknown
            A pin to a revision that is not resident.
        VoiceCold
            No revision is resident: `want` it, wait, try again.
        NotServing
            The page cannot be read, or names only what is not here.
        """
        known = self._known(spec.voice)
        choice = self._choose(spec, known, listener)
        resident = self._roster.resident(choice.speaker.handle)
        if resident is None:
            raise NotServing(f"revision {choice.speaker.revision[:10]} of {spec.voice} is being let go")
        resident.pin()
        self._stats.admitted(known.said.slot, choice.word.pack())
        if choice.role is not Role.PINNED:
            self._listeners.note(listener, resident)
            if not choice.stale:
                known.last_resolvable = choice.word
        guard = known.said.known_good if known.said.suspect == resident.handle else None
        mirror = choice.mirror.handle if choice.mirror is not None else None
        return Admission(voice=spec.voice, resident=resident, role=choice.role, known_good=guard, mirror=mirror)

    def fallback(self, failed: Admission) -> Resident | None:
        """Who serves again what `failed` could not: pinned, or None.

        The guard of now, or the one at admission (a watch may have been closed by going back meanwhile), or the
        revision that the word names by now.
        """
        known = self._roster.voice(failed.voice)
        handles = [failed.known_good]
        if known is not None:
            if known.said.suspect == failed.resident.handle:
                handles.insert(0, known.said.known_good)
            handles.append(self._active_handle(known))
        for handle in handles:
            resident = self._roster.resident(handle) if handle is not None else None
            if resident is not None and resident is not failed.resident:
                resident.pin()
                return resident
        return None

    def mirror(self, handle: int) -> Resident | None:
        """The candidate that gets a copy, pinned; None: it was let go meanwhile."""
        resident = self._roster.resident(handle)
        if resident is not None:
            resident.pin()
        return resident

    def _known(self, voice: VoiceName) -> KnownVoice:
        known = self._roster.voice(voice)
        if known is not None:
            return known
        if not self._roster.serving:
            raise NotServing("the server is starting: no voice is ready yet")
        raise VoiceUnknown(f"there is no voice {voice.name!r}: GET /v1/audio/voices lists those there are")

    def _choose(self, spec: SpeechSpec, known: KnownVoice, listener: Listener) -> Choice:
        page = self._roster.page
        if page is None:
            raise NotServing("the server is starting: no voice is ready yet")
        try:
            word = page.load(known.said.slot)
            if spec.pin is not None:
                return self._pinned(spec, word)
            key = admission.listener_key(
                request_id=listener.request_id,
                consistency=known.said.consistency,
                session=listener.session,
                user=listener.user,
                api_key=listener.api_key,
                client=listener.client,
            )
            choice = admission.choose(
                word,
                voice=spec.voice,
                table=self._roster.table,
                key=key,
                heartbeat_age_s=page.heartbeat_age_s(),
                last_resolvable=known.last_resolvable,
            )
        except MemoryError_ as error:
            raise NotServing(f"the pointer page cannot be trusted: {error}", retry_after_s=5.0) from error
        return self._settled(choice, spec.voice)

    def _settled(self, choice: Choice | Cold | Unresolvable, voice: VoiceName) -> Choice:
        match choice:
            case Choice():
                self._note(voice, stale=choice.stale)
                return choice
            case Cold():
                raise VoiceCold(f"no revision of {voice} is resident; it has been asked for", retry_after_s=5.0)
            case Unresolvable():
                self._note(voice, stale=True)
                raise NotServing(f"this worker does not have revision handle {choice.handle} of {voice} yet")
            case _:
                assert_never(choice)

    def _pinned(self, spec: SpeechSpec, word: Word) -> Choice:
        choice = admission.pinned(spec.pin or "", voice=spec.voice, word=word, table=self._roster.table)
        if choice is None and word.active == NO_HANDLE:
            raise VoiceCold(f"no revision of {spec.voice} is resident; it has been asked for", retry_after_s=5.0)
        if choice is None:
            raise RevisionUnknown(f"no single resident revision of {spec.voice} begins with {spec.pin!r}")
        return choice

    def _active_handle(self, known: KnownVoice) -> int | None:
        try:
            return self._roster.word(known).active or None
        except MemoryError_:
            return None

    def _note(self, voice: VoiceName, *, stale: bool) -> None:
        if stale:
            self._stats.count(WorkerCell.UNKNOWN_HANDLES)
        self._roster.note_stale(voice, stale=stale, now_s=self._clock())
