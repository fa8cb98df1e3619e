"""Which voices there are, which revisions this worker can speak with, and the page that says which one speaks.

Separate from the link, which fills it, and from the desk, which reads it: both are on the event loop, so that what one
synchronous block reads belongs together.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from segue.errors import ArenaCorrupt
from segue.memory.adoption import HeldRevision
from segue.memory.messages import RevisionRef, Voice, VoiceName
from segue.memory.page import PageReader, Word
from segue_server.revisions.resident import Resident

UNREADY_AFTER_S = 5.0
"""A page that names what this worker does not know is another worker's news for so long; then something is wrong."""


@dataclass(slots=True)
class KnownVoice:
    """A voice as the sidecar described it.

    Attributes
    ----------
    said
        The latest description.
    last_resolvable
        The latest word whose active revision this worker could speak with.
    seen_raw
        The u64 that it was.
    """

    said: Voice
    last_resolvable: Word | None = None
    seen_raw: int = 0


class Roster:
    """Voices, residents and the pointer page of one worker."""

    def __init__(self) -> None:
        """Nobody yet: the sidecar has not said anything."""
        self._voices: dict[VoiceName, KnownVoice] = {}
        self._residents: dict[int, Resident] = {}
        self._leaving: dict[int, Resident] = {}
        self._table: dict[int, RevisionRef] = {}
        self._page: PageReader | None = None
        self._page_fd = -1
        self._stale_since_s: dict[VoiceName, float] = {}
        self.serving = False

    # --- what the desk reads ----------------------------------------------------------------------------------------

    @property
    def table(self) -> Mapping[int, RevisionRef]:
        """Handle to revision, for everything that can be spoken with now."""
        return self._table

    @property
    def page(self) -> PageReader | None:
        """The pointer page; None before the sidecar was ever met."""
        return self._page

    def voice(self, name: VoiceName) -> KnownVoice | None:
        """What is known of a voice; None: there is none of that name in that namespace."""
        return self._voices.get(name)

    def voices(self, namespace: str) -> list[KnownVoice]:
        """All voices of a namespace, by name."""
        return sorted(
            (known for name, known in self._voices.items() if name.namespace == namespace),
            key=lambda known: known.said.voice,
        )

    def resident(self, handle: int) -> Resident | None:
        """The revision behind a handle, if this worker can speak with it."""
        return self._residents.get(handle)

    def word(self, known: KnownVoice) -> Word:
        """The voice's word as it is now.

        Raises
        ------
        ArenaCorrupt
            The page holds no word there.
        """
        return self._page.load(known.said.slot) if self._page is not None else Word()

    def remember_words(self) -> None:
        """Note each voice's word while it can be resolved; a few times a second, for voices that nobody asks for."""
        if self._page is None:
            return
        for known in self._voices.values():
            raw = self._page.load_raw(known.said.slot)
            if raw != known.seen_raw and raw >> 48 in self._table:
                with contextlib.suppress(ArenaCorrupt):
                    known.last_resolvable, known.seen_raw = Word.unpack(raw), raw

    def note_stale(self, name: VoiceName, *, stale: bool, now_s: float) -> None:
        """The voice's word named a revision that is not here (any more: `stale=False`)."""
        if stale:
            self._stale_since_s.setdefault(name, now_s)
        else:
            self._stale_since_s.pop(name, None)

    def unready_reason(self, *, now_s: float) -> str:
        """Why this worker should not get traffic; empty: it should."""
        if not self.serving:
            return "the sidecar has not let this worker serve yet"
        late = [name for name, since_s in self._stale_since_s.items() if now_s - since_s > UNREADY_AFTER_S]
        return f"the page names revisions of {late[0]} that this worker does not have" if late else ""

    # --- what the link writes ---------------------------------------------------------------------------------------

    @property
    def page_id(self) -> int:
        """Name of the page that is read; 0: none."""
        return self._page.page_id if self._page is not None else 0

    def set_page(self, fd: int) -> None:
        """Read this page from now on. Takes over `fd`.

        Raises
        ------
        ArenaCorrupt
            Not a pointer page.
        """
        try:
            page = PageReader(fd)
        except BaseException:
            os.close(fd)
            raise
        self._page, self._page_fd = page, fd

    def page_descriptor(self) -> int:
        """A duplicate of the page's descriptor for the next sidecar; the caller's."""
        return os.dup(self._page_fd)

    def describe(self, voice: Voice) -> None:
        """Take what the sidecar says of a voice."""
        known = self._voices.get(voice.voice)
        if known is None or known.said.slot != voice.slot:
            self._voices[voice.voice] = KnownVoice(voice)
        else:
            known.said = voice

    def forget(self, slot: int) -> None:
        """The voice of this slot is gone."""
        for name in [name for name, known in self._voices.items() if known.said.slot == slot]:
            del self._voices[name]
            self._stale_since_s.pop(name, None)

    def add(self, resident: Resident) -> None:
        """From now on this worker can speak with it."""
        self._residents[resident.handle] = resident
        self._table[resident.handle] = resident.ref

    def withdraw(self, handle: int) -> Resident | None:
        """From now on nobody new gets it; it stays held until `gone`."""
        resident = self._residents.pop(handle, None)
        if resident is not None:
            del self._table[handle]
            self._leaving[handle] = resident
        return resident

    def gone(self, handle: int) -> None:
        """Its memory is unmapped."""
        self._leaving.pop(handle, None)

    def held(self) -> list[HeldRevision]:
        """Everything that is still mapped, for a restarted sidecar."""
        return [resident.held() for resident in (*self._residents.values(), *self._leaving.values())]

    def residents(self) -> Iterable[Resident]:
        """Everything that can be spoken with now."""
        return self._residents.values()


async def until_warm(roster: Roster, name: VoiceName, *, timeout_s: float, every_s: float = 0.01) -> bool:
    """Wait until the voice's word names a revision that is here. The page tells nobody when it changes: look."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + timeout_s
    while loop.time() < deadline_s:
        known = roster.voice(name)
        if known is None:
            return False
        if roster.word(known).active in roster.table:
            return True
        await asyncio.sleep(every_s)
    return False
