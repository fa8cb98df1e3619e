"""A whole small world in simulated time: API server, pods, and an operator that can die anywhere.

The operator here is the loop of the real ones reduced to its order: observe, ask the engine, carry out, write the
status with the resourceVersion that was observed. Only the order matters to the engine's promises, so only it is here.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

from tests.fakes.clock import FakeClock
from tests.fakes.cluster import ApiConflict, ApiDown, Crashed, CrashSwitch, FakeCluster
from tests.fakes.sidecar import FakeSidecar, Temper, Unreachable

from segue.errors import CommandRefused
from segue.model import Status, VoiceModel
from segue.rollout import (
    Action,
    Alert,
    Command,
    ConfirmWatch,
    DropRevision,
    EnsureRevision,
    Event,
    PodFacts,
    PodView,
    QueryResult,
    RunProbe,
    SetPointer,
    Sighting,
    Slots,
    Snapshot,
    needs,
    next_action,
    pointer_request,
    probe_request,
    revision_request,
    sort_pods,
    view_pod,
)
from segue.rollout.action import RevertSpec
from segue.wire import Fence, PodIdentity


@dataclass
class Pod:
    """A pod as the cluster sees it, with its sidecar."""

    facts: PodFacts
    sidecar: FakeSidecar


@dataclass
class World:
    """Everything.

    Attributes
    ----------
    refusals
        Commands that a pod refused: none is a promise only where no pod failed meanwhile.
    commands
        Everything that was sent: (time, pod, command).
    """

    clock: FakeClock = field(default_factory=FakeClock)
    crash: CrashSwitch = field(default_factory=CrashSwitch)
    pods: dict[str, Pod] = field(default_factory=dict)
    slots: Slots = field(default_factory=Slots)
    owner: str | None = None
    events: list[Event] = field(default_factory=list)
    refusals: list[CommandRefused] = field(default_factory=list)
    commands: list[tuple[datetime, str, Command]] = field(default_factory=list)
    tempers: dict[str, Temper] = field(default_factory=lambda: {"": Temper()})
    requests_per_s: float = 0.0

    def __post_init__(self) -> None:
        self.cluster = FakeCluster(self.crash)
        self._uids = itertools.count(1)
        self._term = 1
        self._sequence = 0
        self._sent: dict[str, Fence] = {}

    # --- the world's side -----------------------------------------------------------------------------------------

    def add_pod(self, *, build: str = "b1", device_class: str = "cpu") -> Pod:
        """A new, ready pod."""
        uid = f"pod-{next(self._uids)}"
        identity = PodIdentity(
            uid=uid, name=uid, engine_builds={"demo": build, "gpt-sovits": build}, device_class=device_class
        )
        sidecar = FakeSidecar(identity, self.clock)
        sidecar.tempers, sidecar.requests_per_s = self.tempers, self.requests_per_s
        facts = PodFacts(uid=uid, name=uid, created_at=self.clock.now(), ready=True, ready_since=self.clock.now())
        self.pods[uid] = Pod(facts=facts, sidecar=sidecar)
        return self.pods[uid]

    def set_ready(self, uid: str, ready: bool) -> None:
        """Readiness changes."""
        old = self.pods[uid].facts
        if old.ready is not ready:
            self.pods[uid].facts = PodFacts(
                uid=old.uid, name=old.name, created_at=old.created_at, ready=ready, ready_since=self.clock.now()
            )

    def set_traffic(self, requests_per_s: float) -> None:
        """Live requests per second and pod."""
        self.requests_per_s = requests_per_s
        for pod in self.pods.values():
            pod.sidecar.requests_per_s = requests_per_s

    def pass_time(self, seconds: float) -> None:
        """Let time act on all pods, in pieces of at most ten seconds."""
        while seconds > 0:
            piece = min(seconds, 10.0)
            self.clock.advance(piece)
            seconds -= piece
            for pod in self.pods.values():
                pod.sidecar.tick()

    # --- the operator ---------------------------------------------------------------------------------------------

    def restart_operator(self) -> None:
        """A new leader: nothing of the old one is left but what it wrote."""
        self._term += 1
        self._sequence = 0
        self._sent = {}

    def observe(self, key: str) -> Snapshot:
        """Gather one snapshot."""
        voice = self.cluster.get(key)
        status = voice.status if voice is not None else Status()
        pods = []
        if voice is not None:
            evidence = needs(voice.spec, status, self.clock.now()).evidence
            pods = [self._look(pod, voice, evidence=evidence) for pod in self.pods.values()]
        return Snapshot(voice=voice, status=status, pods=sort_pods(pods), slots=self.slots, owner=self.owner)

    def observe_with(self, key: str, *, alerts: Sequence[Alert] = (), queries: Sequence[QueryResult] = ()) -> Snapshot:
        """The same, with what Prometheus and Alertmanager say."""
        return replace(self.observe(key), alerts=tuple(alerts), queries=tuple(queries))

    def act_on(self, snapshot: Snapshot) -> Action | None:
        """Decide and carry out, without looking again."""
        action = next_action(snapshot, self.clock.now())
        if action is not None and snapshot.voice is not None:
            self._carry_out(action, snapshot.voice)
        return action

    def reconcile(self, key: str) -> Action | None:
        """One round. False starts (conflict, API server away) are rounds as well.

        Raises
        ------
        Crashed
            The crash switch fired; call `restart_operator`.
        """
        try:
            snapshot = self.observe(key)
            if snapshot.voice is None:
                return None
            action = self.act_on(snapshot)
        except (ApiConflict, ApiDown):
            return Action()
        except Crashed:
            self.restart_operator()
            raise
        return action

    def release(self, key: str) -> None:
        """The voice is deleted, and the operator lets the pods go of it."""
        voice = self.cluster.read(key)
        self.cluster.delete(key)
        for _ in range(10):
            pods = [self._look(pod, voice, evidence=False) for pod in self.pods.values()]
            action = next_action(Snapshot(voice=None, status=Status(), pods=sort_pods(pods)), self.clock.now())
            if action is None:
                return
            self._carry_out(action, voice)
        raise AssertionError("pods do not let go")

    def settle(self, key: str, *, most: int = 60) -> int:
        """Reconcile until there is nothing to do now; returns the number of rounds."""
        for rounds in range(most):
            action = self.reconcile(key)
            if action is None or action.waits:
                return rounds
            for pod in self.pods.values():
                pod.sidecar.tick()
        raise AssertionError(f"still busy after {most} rounds: {self.reconcile(key)}")

    def run(self, key: str, *, seconds: float, every: float = 1.0) -> None:
        """Alternate between acting and letting time pass."""
        while seconds > 0:
            self.settle_or_go_on(key)
            self.pass_time(every)
            seconds -= every
        self.settle_or_go_on(key)

    def settle_or_go_on(self, key: str) -> None:
        """Act until something is waited for. Commands that need time are repeated rounds, not busy ones."""
        for _ in range(60):
            action = self.reconcile(key)
            if action is None or (action.status is None and action.revert is None):
                return
        raise AssertionError("writes its status over and over")

    def _look(self, pod: Pod, voice: VoiceModel, *, evidence: bool) -> PodView:
        sidecar = pod.sidecar
        try:
            sighting = Sighting(
                state=sidecar.state(),
                windows=sidecar.windows(voice.key) if evidence else None,
                last_fence=self._sent.get(pod.facts.uid),
            )
        except Unreachable:
            sighting = Sighting(state=None)
        return view_pod(pod.facts, sighting, voice)

    def _carry_out(self, action: Action, voice: VoiceModel) -> None:
        for command in action.commands:
            for uid in command.pods:
                self.crash.wrap(partial(self._send, command, uid, voice))
        if action.revert is not None:
            self._revert(action.revert, voice)
        if action.status is not None:
            document = action.status.model_dump(mode="json", by_alias=True, exclude_none=True)
            self.cluster.write_status(voice.key, document, resource_version=voice.metadata.resource_version)
        self.events += action.events

    def _revert(self, revert: RevertSpec, voice: VoiceModel) -> None:
        to = revert.to.model_dump(mode="json", by_alias=True, exclude_none=True)
        fields = {name: to.get(name) for name in ("weights", "reference", "options")}
        self.cluster.patch_spec(
            voice.key, fields, uid=voice.metadata.uid, resource_version=voice.metadata.resource_version
        )

    def _send(self, command: Command, uid: str, voice: VoiceModel) -> None:
        pod = self.pods.get(uid)
        if pod is None:
            return
        self._sequence += 1
        fence = Fence(self._term, self._sequence)
        self.commands.append((self.clock.now(), uid, command))
        try:
            dispatch(command, pod.sidecar, voice, fence)
        except CommandRefused as refusal:
            self.refusals.append(refusal)
        except Unreachable:
            return
        self._sent[uid] = fence


def dispatch(command: Command, sidecar: FakeSidecar, voice: VoiceModel, fence: Fence) -> None:
    """Carry out one command on one sidecar."""
    key, uid = voice.key, voice.metadata.uid
    match command:
        case EnsureRevision(source=source, resident=resident):
            request = revision_request(source, voice.spec, resident=resident)
            sidecar.ensure(key, uid, fence, source.revision, request)
        case RunProbe(revision=revision):
            sidecar.probe(key, uid, fence, revision, probe_request(command))
        case SetPointer():
            sidecar.point(key, uid, fence, pointer_request(command, clock_ahead=timedelta(0)))
        case ConfirmWatch():
            sidecar.confirm(key, uid, fence)
        case DropRevision(revision=revision):
            sidecar.drop(key, uid, fence, revision)
