"""A sidecar without a pod: the control API's behaviour on plain data, in simulated time.

It refuses what the real one refuses (stale fences, words that name what is not ready, dropping what is needed), so that
a simulation that passes here has sent no command that a pod would have had to forgive.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache

from tests.fakes.clock import FakeClock

from segue.errors import CommandRefused, Conflict, NotReady, StaleFence
from segue.wire import (
    BUCKET_S,
    Bucket,
    CanaryMode,
    Expected,
    Fence,
    OthersWindow,
    PodIdentity,
    Pointer,
    PointerRequest,
    ProbeKind,
    ProbePhase,
    ProbeReport,
    ProbeRequest,
    Progress,
    RevisionPhase,
    RevisionRequest,
    RevisionState,
    RevisionWindows,
    SelfReverted,
    StateDocument,
    Tier,
    VoiceState,
    WatchState,
    WindowsDocument,
)

DEAD_MAN_S = 60.0


@dataclass
class Temper:
    """How a pod behaves with a revision.

    Attributes
    ----------
    load_s, probe_s
        How long it takes.
    load_failure
        Reason with which it refuses to load.
    probe
        What a full verification ends with.
    sentence
        What one sentence ends with.
    error_rate
        Of live requests.
    """

    load_s: float = 2.0
    probe_s: float = 2.0
    load_failure: str | None = None
    probe: ProbePhase = ProbePhase.PASSED
    sentence: ProbePhase = ProbePhase.PASSED
    drift: str = ""
    error_rate: float = 0.0


@dataclass
class _Held:
    """One revision in the fake's memory."""

    since_s: float
    request: RevisionRequest
    phase: RevisionPhase = RevisionPhase.FETCHING
    reason: str = ""
    probe: ProbeRequest | None = None
    probe_since_s: float = 0.0
    report: ProbeReport | None = None
    spoken: bool = False
    woken: bool = False


@dataclass
class _Voice:
    uid: str
    fence: Fence
    pointer: Pointer = field(default_factory=Pointer)
    held: dict[str, _Held] = field(default_factory=dict)
    watch: WatchState | None = None
    armed: PointerRequest | None = None
    reverted: SelfReverted | None = None
    withdrawn: str | None = None
    buckets: dict[str, dict[int, Bucket]] = field(default_factory=dict)
    texts: dict[str, int] = field(default_factory=dict)
    shortfall: dict[str, float] = field(default_factory=dict)


class Unreachable(Exception):
    """No answer from the pod."""


class FakeSidecar:
    """One pod's sidecar.

    Attributes
    ----------
    tempers
        Behaviour by revision; the one under "" is for all others.
    room
        Whether the pool has room for a shadow.
    requests_per_s
        Live traffic per voice.
    flips
        Every word that was stored: (time, voice, active before, active after).
    unproven
        Revisions that a word named before a probe of theirs had passed on this pod.
    """

    def __init__(self, identity: PodIdentity, clock: FakeClock) -> None:
        self.identity = identity
        self.tempers: dict[str, Temper] = {"": Temper()}
        self.room = True
        self.reachable = True
        self.requests_per_s = 0.0
        self.others_error_rate = 0.0
        self.flips: list[tuple[datetime, str, str | None, str | None]] = []
        self.unproven: list[str] = []
        self._clock = clock
        self._voices: dict[str, _Voice] = {}
        self._contact_s = clock.unix_s()
        self._ticked_s = clock.unix_s()

    # --- reads ----------------------------------------------------------------------------------------------------

    def state(self) -> StateDocument:
        """`GET /v1/state`."""
        self._answer()
        now_ns = int(self._clock.unix_s() * 1e9)
        voices = {key: self._voice_state(voice) for key, voice in self._voices.items()}
        return StateDocument(now_ns=now_ns, pod=self.identity, voices=voices)

    def windows(self, key: str) -> WindowsDocument:
        """`GET /v1/windows`."""
        self._answer()
        voice = self._voices.get(key)
        now_s = int(self._clock.unix_s())
        if voice is None:
            return WindowsDocument(voice=key, now_s=now_s)
        revisions = {
            name: RevisionWindows(
                buckets=tuple(bucket for start, bucket in sorted(rows.items()) if start > now_s - 3600),
                texts=f"{voice.texts.get(name, 0):0128x}",
            )
            for name, rows in voice.buckets.items()
        }
        return WindowsDocument(voice=key, now_s=now_s, revisions=revisions, others=self._others(now_s))

    # --- commands -------------------------------------------------------------------------------------------------

    def ensure(self, key: str, uid: str, fence: Fence, revision: str, request: RevisionRequest) -> None:
        """`PUT …/revisions/{rev}`."""
        voice = self._fenced(key, uid, fence)
        held = voice.held.get(revision)
        resident = request.resident or request.tier is Tier.HOT
        if held is None:
            held = voice.held[revision] = _Held(since_s=self._clock.unix_s(), request=request)
            held.phase = RevisionPhase.FETCHING if resident else RevisionPhase.COLD
        held.request = held.request.model_copy(update={"tier": request.tier})
        if held.phase is RevisionPhase.COLD and resident:
            self._wake(held)

    def probe(self, key: str, uid: str, fence: Fence, revision: str, request: ProbeRequest) -> None:
        """`POST …/revisions/{rev}/probe`."""
        held = self._ready(self._fenced(key, uid, fence), revision)
        same = held.probe is not None and (held.probe.terms.key, held.probe.kind) == (request.terms.key, request.kind)
        if not same:
            held.probe, held.probe_since_s = request, self._clock.unix_s()
            held.report = self._report(request, ProbePhase.RUNNING, "")

    def point(self, key: str, uid: str, fence: Fence, request: PointerRequest) -> None:
        """`PUT …/pointer`."""
        voice = self._fenced(key, uid, fence)
        previous = request.watch.previous if request.watch else None
        for revision in (request.active, request.candidate, previous):
            if revision is not None and not self._may_sleep(voice, request):
                self._ready(voice, revision)
        said = Expected(active=voice.pointer.active, candidate=voice.pointer.candidate)
        if request.expected is not None and request.expected != said:
            raise Conflict(f"the word says {said}, not {request.expected}")
        voice.armed = None
        now_ns = self._clock.unix_s() * 1e9
        if request.at_ns is not None and request.at_ns > now_ns:
            voice.armed = request
        else:
            self._store(key, voice, request)

    def confirm(self, key: str, uid: str, fence: Fence) -> None:
        """`POST …/confirm`."""
        self._fenced(key, uid, fence).watch = None

    def drop(self, key: str, uid: str, fence: Fence, revision: str) -> None:
        """`DELETE …/revisions/{rev}`."""
        voice = self._fenced(key, uid, fence)
        needed = {voice.pointer.active, voice.pointer.candidate}
        if voice.watch is not None:
            needed.add(voice.watch.previous)
        if revision in needed:
            raise CommandRefused(f"{revision[:10]} is needed")
        voice.held.pop(revision, None)

    def release(self, key: str, uid: str, fence: Fence) -> None:
        """`DELETE /v1/voices/{ns}/{name}`."""
        self._fenced(key, uid, fence)
        del self._voices[key]

    def rest(self, key: str) -> None:
        """Nobody asked for the voice, or others needed its room: where nothing else needs it, it goes."""
        voice = self._voices.get(key)
        active = voice.held.get(voice.pointer.active or "") if voice is not None else None
        if voice is None or active is None or active.phase is not RevisionPhase.READY:
            return
        disturbed = voice.watch is not None or voice.armed is not None or voice.pointer.candidate is not None
        shadows = any(held is not active and held.phase is not RevisionPhase.COLD for held in voice.held.values())
        if active.request.tier is not Tier.HOT and not disturbed and not shadows:
            active.phase = RevisionPhase.COLD

    def want(self, key: str) -> None:
        """Somebody asks for the voice."""
        voice = self._voices.get(key)
        active = voice.held.get(voice.pointer.active or "") if voice is not None else None
        if active is not None and active.phase is RevisionPhase.COLD:
            self._wake(active)

    def rises(self, key: str) -> set[str]:
        """Revisions that rest or come up from rest: a word that names them is cold meanwhile."""
        voice = self._voices.get(key)
        held = voice.held.items() if voice is not None else ()
        return {name for name, each in held if each.woken or each.phase is RevisionPhase.COLD}

    # --- life -----------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Let time act: loads, probes, armed flips, live requests, the dead-man rule."""
        elapsed = self._clock.unix_s() - self._ticked_s
        self._ticked_s = self._clock.unix_s()
        for key, voice in self._voices.items():
            for revision, held in voice.held.items():
                self._load(revision, held)
                self._speak(revision, held)
            if voice.armed is not None and self._clock.unix_s() * 1e9 >= (voice.armed.at_ns or 0):
                request, voice.armed = voice.armed, None
                self._store(key, voice, request)
            self._serve(voice, elapsed)
            self._dead_man(key, voice)

    def restart(self, *, loses_memory: bool) -> None:
        """The sidecar comes back: from its journal, or on a fresh node with nothing."""
        if loses_memory:
            for voice in self._voices.values():
                voice.held.clear()
                voice.pointer, voice.watch, voice.armed = Pointer(), None, None
                voice.reverted = voice.withdrawn = None
        for voice in self._voices.values():
            voice.armed = None

    def voices(self) -> dict[str, str]:
        """Uids by voice, for what a fleet learns of voices that are gone."""
        return {key: voice.uid for key, voice in self._voices.items()}

    def holds(self, key: str) -> dict[str, RevisionPhase]:
        """Revisions of a voice, for assertions."""
        voice = self._voices.get(key)
        return {} if voice is None else {name: held.phase for name, held in voice.held.items()}

    def reports(self, key: str) -> dict[str, ProbeReport]:
        """The latest report of each revision, for assertions."""
        voice = self._voices.get(key)
        held = {} if voice is None else voice.held
        return {name: each.report for name, each in held.items() if each.report is not None}

    def pointer(self, key: str) -> Pointer:
        """The word, for assertions."""
        voice = self._voices.get(key)
        return Pointer() if voice is None else voice.pointer

    def watch(self, key: str) -> WatchState | None:
        """The open watch, for assertions."""
        voice = self._voices.get(key)
        return None if voice is None else voice.watch

    # --- inside ---------------------------------------------------------------------------------------------------

    def _answer(self) -> None:
        if not self.reachable:
            raise Unreachable(self.identity.name)
        self._contact_s = self._clock.unix_s()

    def _fenced(self, key: str, uid: str, fence: Fence) -> _Voice:
        self._answer()
        voice = self._voices.get(key)
        if voice is not None and fence < voice.fence:
            raise StaleFence(f"{fence} is lower than {voice.fence}")
        if voice is None or voice.uid != uid:
            voice = self._voices[key] = _Voice(uid=uid, fence=fence)
        voice.fence = fence
        return voice

    def _wake(self, held: _Held) -> None:
        held.phase, held.woken, held.since_s = RevisionPhase.FETCHING, True, self._clock.unix_s()

    def _may_sleep(self, voice: _Voice, request: PointerRequest) -> bool:
        active = voice.held.get(request.active or "")
        spoken = voice.held.get(voice.pointer.active or "")
        resting = active is not None and active.phase is RevisionPhase.COLD and active.request.tier is not Tier.HOT
        silent = spoken is None or spoken.phase is not RevisionPhase.READY
        return resting and silent and request.candidate is None and request.watch is None

    def _ready(self, voice: _Voice, revision: str) -> _Held:
        held = voice.held.get(revision)
        if held is None or held.phase is not RevisionPhase.READY:
            raise NotReady(f"{revision[:10]} is not ready here")
        return held

    def _temper(self, revision: str) -> Temper:
        return self.tempers.get(revision, self.tempers[""])

    def _load(self, revision: str, held: _Held) -> None:
        temper = self._temper(revision)
        if held.phase in (RevisionPhase.FETCHING, RevisionPhase.QUEUED):
            if not self.room:
                held.phase, held.reason = RevisionPhase.QUEUED, "PoolFull"
                held.since_s = self._clock.unix_s()
            elif self._clock.unix_s() - held.since_s >= temper.load_s:
                failed = temper.load_failure is not None
                held.phase = RevisionPhase.FAILED if failed else RevisionPhase.READY
                held.reason = temper.load_failure or ""
                held.spoken |= held.woken  # it was proven by a sentence before anybody heard it
                held.woken = False
            else:
                held.phase, held.reason = RevisionPhase.FETCHING, ""

    def _speak(self, revision: str, held: _Held) -> None:
        report, temper = held.report, self._temper(revision)
        running = held.probe is not None and report is not None and report.phase is ProbePhase.RUNNING
        if running and self._clock.unix_s() - held.probe_since_s >= temper.probe_s:
            assert held.probe is not None
            full = held.probe.kind is ProbeKind.FULL
            held.report = self._report(held.probe, temper.probe if full else temper.sentence, temper.drift)
            held.spoken |= held.report.phase is ProbePhase.PASSED

    def _report(self, request: ProbeRequest, phase: ProbePhase, drift: str) -> ProbeReport:
        total = max(1, len(request.terms.cases) or 8) * request.terms.seeds if request.kind is ProbeKind.FULL else 1
        limits = request.terms.continuity.model_dump(exclude_none=True)
        gates = ({"name": "pitch", "passed": False, "message": drift},) if drift and limits else ()
        return ProbeReport.model_validate(
            {
                "key": request.terms.key,
                "kind": request.kind,
                "phase": phase,
                "done": 0 if phase is ProbePhase.RUNNING else total,
                "total": total,
                "engine_build": next(iter(self.identity.engine_builds.values()), ""),
                "device_class": self.identity.device_class,
                "baseline": request.baseline,
                "similarity": 0.97,
                "pass_ratio": 1.0 if phase is ProbePhase.PASSED else 0.2,
                "continuity": gates,
                "reasons": () if phase is ProbePhase.PASSED else ("text match 0.55 over 0.30",),
            }
        )

    def _store(self, key: str, voice: _Voice, request: PointerRequest) -> None:
        before = voice.pointer
        self._note_unproven(voice, request)
        voice.pointer = Pointer(
            active=request.active,
            candidate=request.candidate,
            mode=request.mode,
            weight=request.weight,
            epoch=before.epoch + 1,
        )
        voice.reverted, voice.withdrawn = None, request.withdrawn
        terms = request.watch
        voice.watch = None
        if terms is not None and request.active is not None:
            since_ns = int(self._clock.unix_s() * 1e9)
            voice.watch = WatchState(previous=terms.previous, revision=request.active, since_ns=since_ns, terms=terms)
        self.flips.append((self._clock.now(), key, before.active, request.active))

    def _note_unproven(self, voice: _Voice, request: PointerRequest) -> None:
        """Going back may name what has not spoken here since it was loaded; nothing else may."""
        if request.withdrawn is None:
            named = (request.active, request.candidate)
            ready = (each for each in named if each and voice.held[each].phase is RevisionPhase.READY)
            self.unproven += [each for each in ready if not voice.held[each].spoken]

    def _serve(self, voice: _Voice, elapsed_s: float) -> None:
        requests = int(self.requests_per_s * elapsed_s)
        word = voice.pointer
        if requests == 0 or word.active is None:
            return
        active = voice.held[word.active]
        if active.phase is RevisionPhase.COLD:
            self._wake(active)
        if active.phase is not RevisionPhase.READY:
            return
        share = requests * word.weight // 10_000 if word.candidate is not None else 0
        if word.candidate is not None and share:
            self._count(voice, word.candidate, share, mirrored=share if word.mode is CanaryMode.MIRROR else 0)
        self._count(voice, word.active, requests - (0 if word.mode is CanaryMode.MIRROR else share))

    def _count(self, voice: _Voice, revision: str, requests: int, *, mirrored: int = 0) -> None:
        due = voice.shortfall.get(revision, 0.0) + requests * self._temper(revision).error_rate
        errors = int(due)
        voice.shortfall[revision] = due - errors
        start = int(self._clock.unix_s()) // BUCKET_S * BUCKET_S
        rows = voice.buckets.setdefault(revision, {})
        old = rows.get(start, Bucket(start_s=start))
        rows[start] = Bucket(
            start_s=start,
            successes=old.successes + requests - errors,
            errors={"exception": old.error_count + errors} if old.error_count + errors else {},
            mirrored=old.mirrored + mirrored,
        )
        distinct = min(400, voice.texts.get(revision, 0).bit_length() + requests)
        voice.texts[revision] = (1 << distinct) - 1

    def _others(self, now_s: int) -> tuple[OthersWindow, ...]:
        requests = int(self.requests_per_s * BUCKET_S)
        if requests == 0:
            return ()
        errors = int(requests * self.others_error_rate)
        starts = range((now_s - 600) // BUCKET_S * BUCKET_S, now_s, BUCKET_S)
        return tuple(_others_window(start, requests, errors) for start in starts)

    def _dead_man(self, key: str, voice: _Voice) -> None:
        watch = voice.watch
        if watch is None or self._clock.unix_s() - self._contact_s < DEAD_MAN_S:
            return
        since = self._clock.unix_s() - watch.terms.sustained_for_s
        rows = [each for start, each in voice.buckets.get(watch.revision, {}).items() if start >= since]
        errors, good = sum(each.error_count for each in rows), sum(each.successes for each in rows)
        held = voice.held.get(watch.previous)
        able = held is not None and held.phase is RevisionPhase.READY
        if able and errors >= watch.terms.min_errors and errors > watch.terms.max_error_rate * (errors + good):
            now_ns = int(self._clock.unix_s() * 1e9)
            self._store(key, voice, PointerRequest(active=watch.previous))
            voice.reverted = SelfReverted(
                from_revision=watch.revision,
                to_revision=watch.previous,
                at_ns=now_ns,
                requests=errors + good,
                errors=errors,
            )

    def _voice_state(self, voice: _Voice) -> VoiceState:
        return VoiceState(
            uid=voice.uid,
            fence=str(voice.fence),
            pointer=voice.pointer,
            revisions={name: self._revision_state(name, held) for name, held in voice.held.items()},
            watch=voice.watch,
            armed=voice.armed,
            self_reverted=voice.reverted,
            withdrawn=voice.withdrawn,
        )

    def _revision_state(self, name: str, held: _Held) -> RevisionState:
        message = "needs 290 MB, 12 MB of 512 MB are free" if held.phase is RevisionPhase.QUEUED else ""
        return RevisionState(
            revision=name,
            phase=held.phase,
            reason=held.reason,
            message=message,
            progress=Progress(fraction=1.0 if held.phase is RevisionPhase.READY else 0.0),
            report=held.report,
            tier=held.request.tier,
        )


@lru_cache(maxsize=4096)
def _others_window(start_s: int, requests: int, errors: int) -> OthersWindow:
    """The same bucket is read many times, by many pods."""
    return OthersWindow(start_s=start_s, requests=requests, errors=errors)
