"""Follows what the sidecar and the operator do and says it in plain words, as it happens.

Separate from the acts, which only cause things: here is seen what really came of them, through the state and status
that any user can read. Also keeps when preloads ran and which revisions listeners were given.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from segue.model import Phase, Status
from segue.wire import Pointer, ProbePhase, ProbeReport, RevisionPhase, RevisionState, StateDocument
from segue_cli.demo.story import MarkKind, Story
from segue_cli.demo.teller import Teller
from segue_cli.measure.running_up import RunningUp

PHASES_IN_WORDS = {
    RevisionPhase.QUEUED: "waits for room",
    RevisionPhase.FETCHING: "its files are fetched and hashed by a child process",
    RevisionPhase.VERIFYING: "digests and signatures are checked",
    RevisionPhase.PREPARING: "another child unpickles them safely and lays them into sealed memory",
    RevisionPhase.PROVING: "a prover child builds the voice and speaks a first sentence with it",
    RevisionPhase.OFFERING: "the server's workers map it, beside the one that speaks",
    RevisionPhase.READY: "it is resident; nobody hears it yet",
}
LOADING = frozenset(PHASES_IN_WORDS) - {RevisionPhase.QUEUED, RevisionPhase.READY}


@dataclass(slots=True)
class Observer:
    """Watches one `segue up`."""

    up: RunningUp
    story: Story
    teller: Teller
    heard: set[str] = field(default_factory=set)
    """Revisions that ever got a listener: active, or candidate with a weight."""
    reports: dict[str, ProbeReport] = field(default_factory=dict)
    slots: dict[str, int] = field(default_factory=dict)
    _phases: dict[tuple[str, str], RevisionPhase] = field(default_factory=dict)
    _pointers: dict[str, Pointer] = field(default_factory=dict)
    _statuses: dict[str, tuple[Phase, str]] = field(default_factory=dict)
    _loading_since: dict[tuple[str, str], int] = field(default_factory=dict)

    async def run(self) -> None:
        """Look until cancelled."""
        state: StateDocument | None = None
        while True:
            since = state.etag if state is not None else None
            found = await self.up.state(since=since, wait_s=0.1)
            if found is not None:
                state = found
                self._see_state(found)
            for voice in self.up.voices.glob("*.yaml"):
                self._see_status(f"default/{voice.stem}")

    def name(self, revision: str | None) -> str:
        """What people call a revision."""
        if revision is None:
            return "nothing"
        return self.story.revisions.get(revision, revision[:10])

    def phase(self, voice: str, revision: str) -> RevisionPhase | None:
        """Where a revision of a voice of the default namespace was last seen."""
        return self._phases.get((f"default/{voice}", revision))

    def active(self, voice: str) -> str | None:
        """What the pointer of a voice of the default namespace was last seen at."""
        pointer = self._pointers.get(f"default/{voice}")
        return pointer.active if pointer is not None else None

    # --- the sidecar ------------------------------------------------------------------------------------------------

    def _see_state(self, state: StateDocument) -> None:
        for key, voice in state.voices.items():
            if voice.slot is not None:
                self.slots[key] = voice.slot
            for revision, held in voice.revisions.items():
                self._see_revision(key, revision, held)
            self._see_pointer(key, voice.pointer)

    def _see_revision(self, voice: str, revision: str, held: RevisionState) -> None:
        key = (voice, revision)
        before = self._phases.get(key)
        if held.report is not None and held.report.phase is not ProbePhase.RUNNING:
            self.reports[revision] = held.report
        if held.phase is before:
            return
        self._phases[key] = held.phase
        self._keep_interval(key, held.phase)
        if held.phase is RevisionPhase.FAILED:
            self.teller.say(f"refused before the server ever saw it ({held.reason})", MarkKind.REFUSAL)
        elif held.phase in PHASES_IN_WORDS and revision == self.teller.target:
            self.teller.say(f"{self.name(revision)}: {PHASES_IN_WORDS[held.phase]}")

    def _keep_interval(self, key: tuple[str, str], phase: RevisionPhase) -> None:
        now_ns = time.monotonic_ns()
        if phase in LOADING and key[1] == self.teller.target:
            self._loading_since.setdefault(key, now_ns)
        elif (since := self._loading_since.pop(key, None)) is not None:
            self.story.preloads.append((since, now_ns))

    def _see_pointer(self, voice: str, pointer: Pointer) -> None:
        before = self._pointers.get(voice)
        self._pointers[voice] = pointer
        self.heard.update(revision for revision in (pointer.active,) if revision)
        if pointer.candidate and pointer.weight:
            self.heard.add(pointer.candidate)
        if before is None or self.teller.chapter is None:
            return
        if pointer.active != before.active:
            self.teller.say(f"the pointer flips: everybody hears {self.name(pointer.active)}", MarkKind.FLIP)
        elif pointer.candidate and (pointer.candidate, pointer.weight) != (before.candidate, before.weight):
            share = f"{pointer.weight / 100:g} % of the listeners"
            self.teller.say(f"{share} hear {self.name(pointer.candidate)} from now on", MarkKind.FLIP)
        elif before.candidate and not pointer.candidate:
            self.teller.say(f"{self.name(before.candidate)} is withdrawn from its listeners", MarkKind.BACK)

    # --- the operator -----------------------------------------------------------------------------------------------

    def _see_status(self, voice: str) -> None:
        status = self.up.status(voice)
        now = (status.phase, status.target_revision or "")
        before = self._statuses.get(voice)
        self._statuses[voice] = now
        if before is None or before == now or self.teller.chapter is None:
            return
        said = self._status_in_words(status)
        if said:
            self.teller.say(said)

    def _status_in_words(self, status: Status) -> str:
        name = self.name(status.target_revision)
        match status.phase:
            case Phase.VERIFYING:
                return f"{name} is put to the test: every sentence of the verification, three seeds each"
            case Phase.WATCHING:
                return f"{name} is watched on live answers; the version before stays at hand"
            case Phase.ROLLING_BACK:
                return "the rollout is taken back"
            case Phase.IDLE | Phase.PRELOADING | Phase.CANARY | Phase.FLIPPING:
                return ""
