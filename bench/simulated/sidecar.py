"""One simulated pod: the control API's rules and documents, without weights, workers or pages.

Separate from the process that holds thousands of them. Commands are fenced and refused as a real sidecar does; loading
and probing take a moment and always go well; what is said are the wire's own types.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.simulated.tls_server import resolve
from segue.errors import CommandRefused, Conflict, NotFound, NotReady, StaleFence
from segue.wire import (
    RESTING,
    WIRE_VERSION,
    Expected,
    Fence,
    PodIdentity,
    Pointer,
    PointerRequest,
    ProbePhase,
    ProbeReport,
    ProbeRequest,
    RevisionPhase,
    RevisionState,
    VoiceState,
    WatchState,
)

LOAD_S = (0.1, 0.4)
PROBE_S = (0.05, 0.2)
BUILD = "simulated-1"


@dataclass(slots=True)
class _Voice:
    uid: str
    fence: Fence
    pointer: Pointer = field(default_factory=Pointer)
    revisions: dict[str, RevisionState] = field(default_factory=dict)
    watch: WatchState | None = None
    rendered: bytes = b""


@dataclass(slots=True, eq=False)
class SimulatedPod:
    """A pod.

    Attributes
    ----------
    voices
        By key.
    """

    uid: str
    name: str
    voices: dict[str, _Voice] = field(default_factory=dict)
    version: int = 0
    _waiting: list[asyncio.Future[None]] = field(default_factory=list)

    def seed_at_rest(self, key: str, *, uid: str, revision: str) -> None:
        """A voice that the pod knows from its desired set, and that nobody has asked it for."""
        state = RevisionState(revision=revision, phase=RevisionPhase.COLD)
        self.voices[key] = _Voice(uid, Fence(1, 1), Pointer(active=revision), {revision: state})

    def seed(self, key: str, *, uid: str, revision: str) -> None:
        """A voice that was served before the bench began: proven, resident, and what the word says."""
        report = ProbeReport(key="seed", kind="full", phase="Passed", engine_build=BUILD, done=9, total=9)  # type: ignore[arg-type]
        state = RevisionState(revision=revision, phase=RevisionPhase.READY, handle=1, report=report)
        self.voices[key] = _Voice(uid, Fence(1, 1), Pointer(active=revision), {revision: state})

    # --- reading --------------------------------------------------------------------------------------------------

    @property
    def etag(self) -> str:
        """Of everything."""
        return f"{self.version:032x}"

    async def wait_for_other(self, etag: str, *, wait_s: float, more: Callable[[], asyncio.Future[None]]) -> bool:
        """Whether the ETag is another one within that time, and before something else is asked."""
        if self.etag == etag and wait_s > 0:
            ended = more()  # one future for news, for another call, and for the clock
            self._waiting.append(ended)
            timer = asyncio.get_running_loop().call_later(wait_s, resolve, ended)
            try:
                await ended
            finally:
                timer.cancel()
                if ended in self._waiting:
                    self._waiting.remove(ended)
        return self.etag != etag

    def document(self, only: list[str]) -> bytes:
        """The state now, of these voices; of all where none is named."""
        names = only or self.voices
        identity = PodIdentity(uid=self.uid, name=self.name, engine_builds={"demo": BUILD})
        return b'{"wire":%d,"etag":"%b","nowNs":%d,"pod":%b,"voices":{%b},"workers":[],"events":[]}' % (
            WIRE_VERSION,
            self.etag.encode(),
            time.time_ns(),
            identity.model_dump_json(by_alias=True).encode(),
            b",".join(
                b'"%b":%b' % (name.encode(), self._render(self.voices[name])) for name in names if name in self.voices
            ),
        )

    def _render(self, voice: _Voice) -> bytes:
        if not voice.rendered:
            state = VoiceState(
                uid=voice.uid,
                fence=str(voice.fence),
                slot=1,
                pointer=voice.pointer,
                revisions=voice.revisions,
                watch=voice.watch,
            )
            voice.rendered = state.model_dump_json(by_alias=True).encode()
        return voice.rendered

    # --- commands -------------------------------------------------------------------------------------------------

    def ensure(self, key: str, uid: str, fence: Fence, revision: str, *, resident: bool) -> RevisionState:
        """Load it, in a moment; note it only, where nobody needs it yet."""
        voice = self._obey(key, uid, fence)
        known = voice.revisions.get(revision)
        if known is None and not resident:
            voice.revisions[revision] = RevisionState(revision=revision, phase=RevisionPhase.COLD)
        elif resident and (known is None or known.phase in RESTING):
            voice.revisions[revision] = RevisionState(revision=revision, phase=RevisionPhase.FETCHING)
            ready = RevisionState(revision=revision, phase=RevisionPhase.READY, handle=len(voice.revisions))
            self._later(LOAD_S, lambda: self._put(voice, ready))
        self._changed(voice)
        return voice.revisions[revision]

    def probe(self, key: str, uid: str, fence: Fence, revision: str, request: ProbeRequest) -> ProbeReport:
        """Speak, for a moment."""
        voice = self._obey(key, uid, fence)
        state = self._ready(voice, revision)
        running = ProbeReport(key=request.terms.key, kind=request.kind, phase=ProbePhase.RUNNING, total=9)
        passed = running.model_copy(
            update={
                "phase": ProbePhase.PASSED,
                "done": 9,
                "engine_build": BUILD,
                "device_class": "cpu",
                "pass_ratio": 1.0,
            }
        )
        self._put(voice, state.model_copy(update={"report": running}))
        self._later(PROBE_S, lambda: self._put(voice, state.model_copy(update={"report": passed})))
        return running

    def point(self, key: str, uid: str, fence: Fence, request: PointerRequest) -> Pointer:
        """Flip."""
        voice = self._obey(key, uid, fence)
        for revision in (request.active, request.candidate, request.watch.previous if request.watch else None):
            if revision is not None:
                self._loadable(voice, revision)
        said = Expected(active=voice.pointer.active, candidate=voice.pointer.candidate)
        if request.expected is not None and request.expected != said:
            raise Conflict(f"the word says {said}, not {request.expected}")
        epoch = (voice.pointer.epoch + 1) % 65_536
        voice.pointer = Pointer(
            active=request.active, candidate=request.candidate, mode=request.mode, weight=request.weight, epoch=epoch
        )
        terms = request.watch
        voice.watch = (
            WatchState(previous=terms.previous, revision=request.active, since_ns=time.time_ns(), terms=terms)
            if terms is not None and request.active is not None
            else None
        )
        self._changed(voice)
        return voice.pointer

    def confirm(self, key: str, uid: str, fence: Fence) -> bytes:
        """Close the watch."""
        voice = self._obey(key, uid, fence)
        voice.watch = None
        self._changed(voice)
        return self._render(voice)

    def drop(self, key: str, uid: str, fence: Fence, revision: str) -> None:
        """Let a revision go."""
        voice = self._obey(key, uid, fence)
        if revision in (voice.pointer.active, voice.pointer.candidate):
            raise Conflict(f"{revision[:10]} is active or candidate")
        voice.revisions.pop(revision, None)
        self._changed(voice)

    def release(self, key: str, uid: str, fence: Fence) -> None:
        """Forget the voice."""
        self._obey(key, uid, fence)
        del self.voices[key]
        self._wake()

    def _obey(self, key: str, uid: str, fence: Fence) -> _Voice:
        voice = self.voices.get(key)
        if voice is not None and fence < voice.fence:
            raise StaleFence(f"the fence {fence} was outrun by {voice.fence}")
        if voice is None or voice.uid != uid:
            voice = self.voices[key] = _Voice(uid, fence)
        voice.fence = fence
        return voice

    def _ready(self, voice: _Voice, revision: str) -> RevisionState:
        state = self._loadable(voice, revision)
        if state.phase is not RevisionPhase.READY:
            raise NotReady(f"{revision[:10]} is {state.phase}")
        return state

    def _loadable(self, voice: _Voice, revision: str) -> RevisionState:
        state = voice.revisions.get(revision)
        if state is None:
            raise NotFound(f"there is no revision {revision[:10]}")
        if state.phase is not RevisionPhase.READY and state.phase not in RESTING:
            raise NotReady(f"{revision[:10]} is {state.phase}")
        return state

    def _put(self, voice: _Voice, state: RevisionState) -> None:
        if state.revision in voice.revisions:
            voice.revisions[state.revision] = state
            self._changed(voice)

    def _changed(self, voice: _Voice) -> None:
        voice.rendered = b""
        self._wake()

    def _wake(self) -> None:
        self.version += 1
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            resolve(each)

    def _later(self, between_s: tuple[float, float], act: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(random.uniform(*between_s), act)


Refusal = CommandRefused
