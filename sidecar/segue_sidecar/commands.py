"""What the operator may ask for, and when it is refused. One method per mutating call of the control API.

Separate from HTTP so that the rules can be read and tested without it. Each method checks the fence first; a refused
command has changed nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from segue.errors import Conflict, ForbiddenSource, InvalidCommand, NotReady, SegueError, StaleFence, WeightsError
from segue.memory.messages import VoiceName
from segue.wire import (
    ArmedOutcome,
    Fence,
    PointerRequest,
    PointerResult,
    ProbePhase,
    RevisionPhase,
    RevisionRequest,
    RevisionState,
    SelfReverted,
    Tier,
    VoiceState,
)
from segue_sidecar.books import Books
from segue_sidecar.deadman import Verdict
from segue_sidecar.engines import place_of
from segue_sidecar.entries import Armed, RevisionEntry, Said, VoiceEntry, all_or_nothing
from segue_sidecar.fences import Command, require_fresh
from segue_sidecar.handover import Handover
from segue_sidecar.pointing import (
    lateness_ms,
    next_watch,
    require_expected,
    require_in_time,
    require_meaning,
    said_by,
)
from segue_sidecar.render import revision_state, voice_state
from segue_sidecar.residency import Residency
from segue_sidecar.sources import require_allowed
from segue_sidecar.switchboard import Switchboard
from segue_sidecar.tiers.rising import Rising

logger = logging.getLogger(__name__)

MAX_REVISIONS = 8
"""Of one voice at a time: active, candidate, previous, kept warm, and a few that failed."""


class Commands:
    """The rules. Everything is synchronous but what waits for a child to end."""

    def __init__(
        self,
        *,
        books: Books,
        switchboard: Switchboard,
        handover: Handover,
        residency: Residency,
        rising: Rising,
        extra_engines: dict[str, str],
    ):
        self._books = books
        self._switchboard = switchboard
        self._handover = handover
        self._residency = residency
        self._rising = rising
        self._extra_engines = extra_engines
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self.on_let_go: Callable[[RevisionEntry], None] = lambda _entry: None

    # --- revisions --------------------------------------------------------------------------------------------------

    def ensure_revision(
        self, name: VoiceName, revision: str, request: RevisionRequest, command: Command
    ) -> RevisionState:
        """Have a revision resident as a shadow, or known, if its first request may load it. Again: the same answer.

        Raises
        ------
        StaleFence, InvalidCommand
            Outrun; or an engine or a URI that this pod would not use.
        """
        self.require_fresh(name, command)
        self._check_request(name, request)
        voice = self.obey(name, command)
        resident = request.resident or request.tier is Tier.HOT
        request = request.model_copy(update={"resident": True})
        entry = voice.revisions.get(revision)
        if entry is None:
            self._require_few(voice)
            now_ns = time.time_ns()
            entry = RevisionEntry(voice=name, revision=revision, request=request, since_ns=now_ns, asked_ns=now_ns)
            if not resident:
                entry.phase, entry.reason = RevisionPhase.COLD, "OnRequest"
            voice.revisions[revision] = entry
        elif entry.phase is RevisionPhase.RETIRING:
            entry.revive, entry.request = True, request
        elif entry.phase is RevisionPhase.FAILED and entry.request != request:
            entry.request = request
            self._books.move(entry, RevisionPhase.QUEUED)
        self._change_tier(entry, request.tier)
        if entry.rests and resident:
            self._wake(voice, entry)
        self._books.record_revision(entry)
        self._switchboard.guard(voice)
        self._residency.advance()
        return revision_state(entry)

    def _change_tier(self, entry: RevisionEntry, tier: Tier) -> None:
        """Where a voice lives is no part of its revision, so it may change while it speaks."""
        if entry.request.tier is not tier:
            entry.request = entry.request.model_copy(update={"tier": tier})
            self._rising.keep(entry)

    def _wake(self, voice: VoiceEntry, entry: RevisionEntry) -> None:
        if entry is not voice.active:
            entry.asked_ns = time.time_ns()
        self._rising.wake(entry, commanded=True)

    async def drop_revision(self, name: VoiceName, revision: str, command: Command) -> None:
        """Let a revision go. One that is not here is gone already.

        Raises
        ------
        StaleFence, Conflict
            Outrun; or it is active, candidate, or the previous one under an open watch.
        """
        self.require_fresh(name, command)
        voice = self._books.voices.get(str(name))
        entry = voice.revisions.get(revision) if voice else None
        if voice is None or entry is None:
            return
        armed = voice.armed
        if revision in voice.protected and not (armed and command.fence > armed.fence):
            raise Conflict(f"{revision[:10]} is active, candidate, armed or the way back of {name}: it is not dropped")
        voice = self.obey(name, command)
        if revision in voice.protected:
            raise Conflict(f"{revision[:10]} is active, candidate or the way back of {name}: it is not dropped")
        await self._let_go(entry)

    async def release_voice(self, name: VoiceName, command: Command) -> None:
        """Let a voice and all its revisions go; its word goes cold first. Raises `StaleFence`."""
        self.require_fresh(name, command)
        if str(name) not in self._books.voices:
            return
        voice = self.obey(name, command)
        self._disarm(voice)
        voice.watch, voice.self_reverted, voice.withdrawn = None, None, None
        voice.say(Said())
        voice.pointed, voice.released = True, True
        self._books.record_voice(voice)
        self._switchboard.forget(voice)
        self._books.event("Released", f"{name} was let go", voice=name)
        for entry in list(voice.revisions.values()):
            await self._let_go(entry)
        self.forget_released()

    def forget_released(self) -> None:
        """Drop the voices that were released and whose revisions are all gone. Call it when revisions went."""
        for voice in list(self._books.voices.values()):
            if voice.released and not voice.revisions:
                self._books.forget_voice(voice)

    async def _let_go(self, entry: RevisionEntry) -> None:
        if entry.phase is RevisionPhase.RETIRING:
            entry.revive = False
            return
        self._books.move(entry, RevisionPhase.RETIRING)
        self._books.record_revision(entry)
        self.on_let_go(entry)
        await self._residency.stop(entry)
        self._books.move(entry, RevisionPhase.RETIRING)
        self._handover.retire(entry, forget=True)

    # --- the pointer ------------------------------------------------------------------------------------------------

    def set_pointer(
        self, name: VoiceName, request: PointerRequest, command: Command, *, received_ns: int
    ) -> PointerResult:
        """Flip, now or at a time. The same command again: the same answer, also when its time is long past.

        Raises
        ------
        StaleFence, NotFound, Conflict, NotReady, InvalidCommand, JournalError
            See `segue.errors`. Nothing was changed.
        """
        require_meaning(request)
        voice = self._books.voice(str(name))
        self.require_fresh(name, command)
        if voice.uid != command.voice_uid:
            raise StaleFence(f"{name} has uid {voice.uid} here, not {command.voice_uid}: PUT a revision of it first")
        if command.fence == voice.fence and voice.self_reverted is not None:
            raise Conflict(f"{name} went back by itself after the command {command.fence}: read the state again")
        if self._was_stored(voice, request, command):
            late_ms = voice.armed_outcome.late_ms if voice.armed_outcome else None
            return PointerResult(
                pointer=self._switchboard.pointer(voice), received_monotonic_ns=received_ns, late_ms=late_ms
            )
        if said_by(request) != voice.said:
            require_expected(voice, request)
        self._require_allowed(voice, request)
        if request.at_ns is not None and request.at_ns > time.time_ns():
            return self._arm(voice, request, command, received_ns=received_ns)
        return self._flip_now(voice, request, command, received_ns=received_ns)

    def _was_stored(self, voice: VoiceEntry, request: PointerRequest, command: Command) -> bool:
        outcome = voice.armed_outcome
        if request.at_ns is None or outcome is None or outcome.stored_ns is None:
            return False
        return outcome.fence == str(command.fence) and outcome.at_ns == request.at_ns

    def _flip_now(
        self, voice: VoiceEntry, request: PointerRequest, command: Command, *, received_ns: int
    ) -> PointerResult:
        require_in_time(request)
        with all_or_nothing(voice):
            voice.fence, voice.armed = command.fence, None
            stored_ns = self._flip(voice, request)
        self._cancel_timer(voice)
        late_ms = lateness_ms(request, stored_ns=time.time_ns())
        if request.at_ns is not None:
            self._remember(voice, request, command.fence, late_ms=late_ms)
        return PointerResult(
            pointer=self._switchboard.pointer(voice),
            received_monotonic_ns=received_ns,
            stored_monotonic_ns=stored_ns,
            late_ms=late_ms,
        )

    def confirm(self, name: VoiceName, command: Command) -> VoiceState:
        """Close the watch. Raises `StaleFence`, `NotFound`."""
        self._books.voice(str(name))
        self.require_fresh(name, command)
        voice = self.obey(name, command)
        if voice.watch is not None:
            voice.watch = None
            self._switchboard.guard(voice)
        self._books.record_voice(voice)
        return voice_state(voice, pointer=self._switchboard.pointer(voice))

    def go_back(self, voice: VoiceEntry, verdict: Verdict) -> None:
        """The dead-man rule acts: the previous revision speaks again. Sticky until the operator's next flip.

        Raises `NotReady` where the previous revision cannot speak. A full disk does not keep it from going back.
        """
        watch = voice.watch
        if watch is None:
            return
        self._switchboard.require_storable(voice, Said(watch.previous))
        voice.self_reverted = SelfReverted(
            from_revision=watch.revision,
            to_revision=watch.previous,
            at_ns=time.time_ns(),
            requests=verdict.requests,
            errors=verdict.errors,
            message=verdict.message,
        )
        voice.watch = None
        self._disarm(voice)
        self._switchboard.store_at_any_rate(voice, Said(watch.previous))
        self._switchboard.purge(voice, watch.revision)
        self._books.event("SelfReverted", verdict.message, voice=voice.name, warning=True)

    def mute_candidate(self, voice: VoiceEntry, *, why: str) -> None:
        """Workers die of the candidate: it gets no listeners any more."""
        said = voice.said
        self._switchboard.store_at_any_rate(voice, Said(said.active, said.candidate, said.mode, 0))
        self._books.event("CandidateMuted", why, voice=voice.name, warning=True)

    def rearm(self) -> None:
        """After a restart: arm again what was armed."""
        for voice in list(self._books.voices.values()):
            if voice.armed is not None:
                self._set_timer(voice, voice.armed)

    # --- inside, and for probes -------------------------------------------------------------------------------------

    def require_known(self, name: str) -> None:
        """Raises `NotFound`."""
        self._books.voice(name)

    def require_fresh(self, name: VoiceName, command: Command) -> None:
        """Refuse a command that was outrun. Raises `StaleFence`."""
        known = self._books.voices.get(str(name))
        if known is not None:
            require_fresh(command, highest=known.fence, uid=known.uid)
        elif str(name) in self._books.released:
            require_fresh(command, highest=self._books.released[str(name)], uid=None)

    def obey(self, name: VoiceName, command: Command) -> VoiceEntry:
        """The voice, with this fence as its highest; made where it is not there, replaced where its uid is new."""
        voice = self._books.voices.get(str(name))
        if voice is None:
            voice = self._books.new_voice(name, uid=command.voice_uid)
            self._books.record_counters()
        elif command.fence > voice.fence:
            self._disarm(voice)
        if voice.uid != command.voice_uid:
            self._books.event("Replaced", f"uid {command.voice_uid} takes over from {voice.uid}", voice=name)
            voice.uid, voice.pointed = command.voice_uid, False
            voice.watch, voice.self_reverted, voice.withdrawn = None, None, None
        voice.fence, voice.released = command.fence, False
        self._books.record_voice(voice)
        self._switchboard.guard(voice)
        return voice

    def _check_request(self, name: VoiceName, request: RevisionRequest) -> None:
        allowed = self._residency.allowed(name.namespace)
        sources = [*request.weights.values(), *([request.reference] if request.reference else [])]
        try:
            place_of(request.engine, self._extra_engines)
            for source in sources:
                require_allowed(source.uri, allowed)
            if request.signature.uri:
                require_allowed(request.signature.uri, allowed)
        except (ForbiddenSource, WeightsError) as error:
            raise InvalidCommand(f"{type(error).__name__}: {error}") from error

    def _require_few(self, voice: VoiceEntry) -> None:
        """The oldest failed one makes room by itself; what is resident is let go by commands only."""
        failed = [entry for entry in voice.revisions.values() if entry.phase is RevisionPhase.FAILED]
        if len(voice.revisions) >= MAX_REVISIONS and failed:
            self._handover.retire(min(failed, key=lambda entry: entry.since_ns), forget=True)
        if len(voice.revisions) >= MAX_REVISIONS:
            raise Conflict(f"{voice.name} has {len(voice.revisions)} revisions here already: let one go first")

    def _require_allowed(self, voice: VoiceEntry, request: PointerRequest) -> None:
        said = said_by(request)
        self._switchboard.require_storable(voice, said)
        if request.watch is not None:
            self._switchboard.require_resolvable(voice, request.watch.previous)
        for revision in (said.active, said.candidate):
            report = voice.revisions[revision].full if revision else None
            if report and report.phase is ProbePhase.FAILED and revision not in voice.protected:
                why = "; ".join(report.reasons) or "see its report"
                raise NotReady(f"{str(revision)[:10]} of {voice.name} failed its verification ({why}): not flipped to")

    def _flip(self, voice: VoiceEntry, request: PointerRequest) -> int:
        with all_or_nothing(voice):
            voice.watch = next_watch(voice, request)
            voice.consistency = request.consistency
            voice.self_reverted = None
            voice.armed_outcome = None
            voice.pointed, voice.wanted = True, None
            voice.withdrawn = request.withdrawn
            stored_ns = self._switchboard.store(voice, said_by(request))
        if request.withdrawn is not None:
            self._switchboard.purge(voice, request.withdrawn)
        return stored_ns

    # --- at a time --------------------------------------------------------------------------------------------------

    def _arm(self, voice: VoiceEntry, request: PointerRequest, command: Command, *, received_ns: int) -> PointerResult:
        armed = Armed(request, command.fence)
        with all_or_nothing(voice):
            voice.fence, voice.armed, voice.armed_outcome = command.fence, armed, None
            self._books.record_voice(voice)
        self._cancel_timer(voice)
        self._set_timer(voice, armed)
        return PointerResult(
            pointer=self._switchboard.pointer(voice), armed_at_ns=request.at_ns, received_monotonic_ns=received_ns
        )

    def _disarm(self, voice: VoiceEntry) -> None:
        self._cancel_timer(voice)
        voice.armed = None

    def _cancel_timer(self, voice: VoiceEntry) -> None:
        timer = self._timers.pop(str(voice.name), None)
        if timer is not None:
            timer.cancel()

    def _set_timer(self, voice: VoiceEntry, armed: Armed) -> None:
        at_ns = armed.request.at_ns or 0
        delay_s = max(0.0, (at_ns - time.time_ns()) / 1e9)
        self._timers[str(voice.name)] = asyncio.get_running_loop().call_later(
            delay_s, self._fire, str(voice.name), armed
        )

    def _fire(self, name: str, armed: Armed) -> None:
        """The time has come. Whatever changed since it was armed is checked again."""
        voice = self._books.voices.get(name)
        if voice is None or voice.armed is not armed:
            return
        self._timers.pop(name, None)
        try:
            require_in_time(armed.request)
            require_expected(voice, armed.request)
            self._require_allowed(voice, armed.request)
            with all_or_nothing(voice):
                voice.armed = None
                self._flip(voice, armed.request)
        except SegueError as error:
            self._drop_armed(voice, armed, error)
            return
        late_ms = lateness_ms(armed.request, stored_ns=time.time_ns())
        self._remember(voice, armed.request, armed.fence, late_ms=late_ms)
        self._books.event("ArmedFlipStored", f"{late_ms:.1f} ms after its time", voice=voice.name)

    def _drop_armed(self, voice: VoiceEntry, armed: Armed, error: SegueError) -> None:
        voice.armed = None
        voice.armed_outcome = ArmedOutcome(
            fence=str(armed.fence),
            at_ns=armed.request.at_ns or 0,
            reason=type(error).__name__,
            message=str(error),
        )
        self._books.note_voice(voice)
        self._books.event("ArmedFlipDropped", str(error), voice=voice.name, warning=True)

    def _remember(self, voice: VoiceEntry, request: PointerRequest, fence: Fence, *, late_ms: float | None) -> None:
        """For the state, and for the same command when it comes again."""
        voice.armed_outcome = ArmedOutcome(
            fence=str(fence), at_ns=request.at_ns or 0, stored_ns=time.time_ns(), late_ms=late_ms
        )
        self._books.touch(voice.name)
