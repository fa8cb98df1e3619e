"""Who speaks: the words in the pointer page, and what must be true before one is stored.

Everything here is synchronous and runs on the one event loop. That is the lock which dataplane.md asks for: between
looking at who is ready and storing a word, nobody can join, and nobody can become ready or leave.

The order of a store is fixed: journal, then guard (so that a worker knows the way back before it can meet the new
word), then the store.
"""

from __future__ import annotations

from dataclasses import replace

from segue.errors import MemoryError_, NotReady
from segue.memory.messages import Consistency as HandoffConsistency
from segue.memory.messages import Forget, Purge, Voice
from segue.memory.page import COLD, NO_HANDLE, Mode, PointerPage, Word
from segue.wire import CanaryMode, Pointer, RevisionPhase, Tier
from segue_sidecar.books import Books
from segue_sidecar.entries import Said, VoiceEntry
from segue_sidecar.workers import Roster

_RESIDENT = (RevisionPhase.VERIFYING, RevisionPhase.OFFERING, RevisionPhase.READY)


class Switchboard:
    """The page and the rules of storing in it. `page` is `None` until it was made or handed back."""

    def __init__(self, *, books: Books, roster: Roster) -> None:
        self.page: PointerPage | None = None
        self._books = books
        self.roster = roster
        self._guards: dict[int, Voice] = {}

    def pointer(self, voice: VoiceEntry) -> Pointer:
        """What the voice's word says, in revisions."""
        said, word = voice.said, self.word(voice)
        return Pointer(
            active=said.active, candidate=said.candidate, mode=said.mode, weight=said.weight, epoch=word.epoch
        )

    def word(self, voice: VoiceEntry) -> Word:
        """What lies in the voice's slot; cold where there is no page yet, or no word that means anything."""
        try:
            return self.page.load(voice.slot) if self.page is not None else COLD
        except MemoryError_:
            return COLD

    def require_storable(self, voice: VoiceEntry, said: Said) -> None:
        """Refuse a word that a live worker could not resolve.

        Raises
        ------
        NotReady
            The page is not there yet, a revision is not Ready, or a live worker has not answered for it.
        """
        if self.page is None:
            raise NotReady("workers have yet to hand back the pointer page: try again in a moment")
        if self._may_sleep(voice, said):
            return
        for revision in (said.active, said.candidate):
            if revision is not None:
                self.require_resolvable(voice, revision)

    def _may_sleep(self, voice: VoiceEntry, said: Said) -> bool:
        """Whether this says only whom the next request is to bring up: nobody hears the voice now."""
        entry = voice.revisions.get(said.active or "")
        resting = entry is not None and entry.rests and entry.request.tier is not Tier.HOT
        return resting and said.candidate is None and not self.word(voice).handles

    def store(self, voice: VoiceEntry, said: Said) -> int:
        """Make the word say this; CLOCK_MONOTONIC ns directly after the store. Check `require_storable` before.

        Raises
        ------
        JournalError
            The disk is full: nothing was changed.
        """
        before = voice.said, voice.speaks_since_ns
        voice.say(said)
        try:
            self._books.record_voice(voice)
        except BaseException:
            voice.said, voice.speaks_since_ns = before
            raise
        return self._speak(voice)

    def store_at_any_rate(self, voice: VoiceEntry, said: Said) -> int:
        """As `store`, for what cannot wait for a full disk: going back, and saying again what was said before."""
        voice.say(said)
        self._books.note_voice(voice)
        return self._speak(voice)

    def say_again(self, voice: VoiceEntry) -> None:
        """Make the word say what the books say. Check `can_say` before."""
        self._speak(voice)

    def _speak(self, voice: VoiceEntry) -> int:
        assert self.page is not None
        self.guard(voice)
        return self.page.store(voice.slot, self._following(voice, voice.said))

    def sleep(self, voice: VoiceEntry) -> None:
        """Make the word cold: whoever asks brings the voice up first. What the books say of it stays."""
        assert self.page is not None
        self.page.store(voice.slot, self.word(voice).followed_by(active=NO_HANDLE))

    def guard(self, voice: VoiceEntry) -> None:
        """Tell the workers what they must know of the voice beside its word, where that changed."""
        message = self.voice_message(voice)
        if self._guards.get(voice.slot) != message:
            self._guards[voice.slot] = message
            for worker in self.roster.connected():
                worker.send(message)

    def says(self, voice: VoiceEntry) -> bool:
        """Whether the voice's word says what the books say."""
        wanted = self._following(voice, voice.said)
        return replace(self.word(voice), epoch=0) == replace(wanted, epoch=0)

    def can_say(self, voice: VoiceEntry) -> bool:
        """Whether what the books say could be stored now."""
        try:
            self.require_storable(voice, voice.said)
        except NotReady:
            return False
        return True

    def purge(self, voice: VoiceEntry, revision: str) -> None:
        """A revision was taken back: what it said must not be served from the workers' caches."""
        handle = self.handle(voice, revision)
        if handle:
            for worker in self.roster.connected():
                worker.send(Purge(handle=handle))

    def forget(self, voice: VoiceEntry) -> None:
        """The voice is gone: its slot goes cold for ever."""
        if self.page is not None:
            self.page.store(voice.slot, COLD)
        self._guards.pop(voice.slot, None)
        for worker in self.roster.connected():
            worker.send(Forget(slot=voice.slot))

    def require_resolvable(self, voice: VoiceEntry, revision: str) -> None:
        """Raises `NotReady` for a revision that a live worker could not speak with."""
        entry = voice.revisions.get(revision)
        if entry is None or entry.phase is not RevisionPhase.READY or entry.handle is None:
            phase = entry.phase if entry else "not on this pod"
            raise NotReady(f"revision {revision[:10]} of {voice.name} is {phase}, not Ready: it cannot be pointed at")
        missing = [worker.id for worker in self.roster.live() if entry.handle not in worker.ready]
        if missing:
            raise NotReady(f"revision {revision[:10]} of {voice.name}: no answer yet from worker {', '.join(missing)}")

    def _following(self, voice: VoiceEntry, said: Said) -> Word:
        mode = Mode.SPLIT if said.mode is CanaryMode.SPLIT else Mode.MIRROR
        return self.word(voice).followed_by(
            active=self.handle(voice, said.active),
            candidate=self.handle(voice, said.candidate),
            mode=mode,
            weight=said.weight if said.candidate else 0,
        )

    def handle(self, voice: VoiceEntry, revision: str | None) -> int:
        """The handle of a revision of the voice; 0 where it has none."""
        entry = voice.revisions.get(revision) if revision else None
        return entry.handle if entry is not None and entry.handle is not None else NO_HANDLE

    def voice_message(self, voice: VoiceEntry) -> Voice:
        """What workers must know of the voice beside its word."""
        said, watch = voice.said, voice.watch
        suspect, good = NO_HANDLE, NO_HANDLE
        if said.candidate and said.weight:
            suspect, good = self.handle(voice, said.candidate), self.handle(voice, said.active)
        elif watch and watch.revision == said.active and watch.previous != said.active:
            suspect, good = self.handle(voice, said.active), self.handle(voice, watch.previous)
        entry = voice.revisions.get(said.active or "") or next(iter(voice.revisions.values()), None)
        return Voice(
            voice=voice.name,
            slot=voice.slot,
            consistency=HandoffConsistency(voice.consistency.value),
            suspect=suspect or None if good else None,
            known_good=good or None if suspect else None,
            engine=entry.request.engine if entry else "",
            language=entry.language if entry else "",
        )

    def needed_handles(self) -> set[int]:
        """Handles that a joining worker must be ready for: what words name now, and the ways back.

        A word may still name a handle whose revision is being loaded anew: nobody can join before it is replaced,
        unless that loading failed, since then nothing would ever let anybody in.
        """
        needed: set[int] = set()
        for voice in self._books.voices.values():
            entries = [voice.revisions[name] for name in voice.protected if name in voice.revisions]
            needed.update(one.handle for one in entries if one.handle is not None and one.phase in _RESIDENT)
            needed |= self._about_to_be_named(voice)
            lost = self.word(voice).handles - {one.handle for one in entries}
            if any(
                one.phase is not RevisionPhase.FAILED and one.handle not in self.word(voice).handles for one in entries
            ):
                needed |= lost
        return needed

    def _about_to_be_named(self, voice: VoiceEntry) -> set[int]:
        """Of a voice that nobody speaks yet: what the desired set will point it at as soon as a worker can."""
        entry = voice.revisions.get(voice.wanted or "") if voice.said.active is None else None
        if entry is None or entry.handle is None or entry.phase is not RevisionPhase.OFFERING:
            return set()
        return {entry.handle}
