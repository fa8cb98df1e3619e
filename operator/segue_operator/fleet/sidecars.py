"""The fleets over the sidecars' control API: what the engine sees, and what it decides, put on the wire.

Separate from `pod.py`, which keeps one pod fresh; here is what concerns a voice on all pods of its fleet, and the set
of pods, which changes under it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field

from segue.control import SidecarClient
from segue.errors import CommandRefused, ControlUnreachable, InvalidCommand, SegueError
from segue.garbage import collect_in_quiet
from segue.model import VoiceModel
from segue.rollout import Command, DropRevision, EnsureRevision, Event, PodView, SetPointer, speaks
from segue.rollout.observe import Standing
from segue.wire import ArmedOutcome, Fence
from segue_operator.fleet.carrying import carry_out, clock_ahead, describe
from segue_operator.fleet.clock_offset import MAX_UNCERTAINTY_NS
from segue_operator.fleet.company import Company
from segue_operator.fleet.evidence import Evidence
from segue_operator.fleet.group import Group
from segue_operator.fleet.listening import Listener, Nobody
from segue_operator.fleet.lull import Lull
from segue_operator.fleet.places import Places
from segue_operator.fleet.pod import Pod
from segue_operator.fleet.records import FleetKey, Holding, PodRecord
from segue_operator.fleet.refusals import Refusals
from segue_operator.fleet.standings import Standings

__all__ = ["SidecarFleet", "describe"]

READS_AT_A_TIME = 64
CLOCKS_AT_A_TIME = 2
RESTART_S = 5.0

logger = logging.getLogger(__name__)


def _tell_nobody(_voice: str | None, _event: Event) -> None:
    return None


@dataclass(slots=True, kw_only=True)
class SidecarFleet:
    """All pods of all fleets. Everything is called from one event loop.

    Attributes
    ----------
    select
        The fleet that serves a voice; None: none does.
    connect
        A client for a pod that has an address.
    term
        The leader's term now.
    on_change
        Voices that should look again; None: all of them.
    report
        Tells people (`Events.publish`).
    commands_at_a_time
        So many calls wait for their pods at once; more, and what is known of 5,000 connections falls out of the
        processor's cache between a call and its answer. Pointers have as many places of their own, because a way back
        may not wait behind loads.
    lull
        Shared with whoever makes the clients.
    """

    select: Callable[[VoiceModel], FleetKey | None]
    connect: Callable[[PodRecord], SidecarClient]
    term: Callable[[], int]
    on_change: Callable[[frozenset[str] | None], None] = lambda _keys: None
    report: Callable[[str | None, Event], None] = _tell_nobody
    listener: Listener = field(default_factory=Nobody)
    idle_poll_s: float = 60.0
    commands_at_a_time: int = 64
    lull: Lull = field(default_factory=Lull)
    pods: dict[str, Pod] = field(default_factory=dict)
    _groups: dict[FleetKey, Group] = field(default_factory=dict)
    _followed: set[str] = field(default_factory=set)
    _trailing: dict[str, set[Pod]] = field(default_factory=dict)
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _running: asyncio.TaskGroup | None = None
    _refusals: Refusals = field(default_factory=Refusals)
    _commands: Places = field(init=False)
    _pointers: Places = field(init=False)
    _company: Company = field(init=False)
    _evidence: Evidence = field(init=False)

    def __post_init__(self) -> None:
        self._commands = Places(self.commands_at_a_time)
        self._pointers = Places(self.commands_at_a_time)
        reads = Places(READS_AT_A_TIME)
        self._evidence = Evidence(listener=self.listener, reads=reads)
        self._company = Company(
            term=self.term,
            idle_poll_s=self.idle_poll_s,
            on_change=self._pod_changed,
            on_held=lambda pod, voice: self._groups[pod.record.fleet].note_holder(voice, pod),
            on_dropped=self._flip_dropped,
            reads=reads,
            lull=self.lull,
            clocks=Places(CLOCKS_AT_A_TIME),
            standings=Standings(),
            listener=self.listener,
        )

    # --- the set of pods ------------------------------------------------------------------------------------------

    def update(self, records: Iterable[PodRecord]) -> None:
        """The whole set as it is now: polling begins and ends accordingly.

        A pod is known by its uid: one of the same name with another uid is another pod, and so is one whose address or
        fleet changed, because nothing that was said before holds for it.
        """
        wanted = {record.facts.uid: record for record in records}
        for uid, pod in list(self.pods.items()):
            record = wanted.get(uid)
            if record is None or (record.url, record.fleet) != (pod.record.url, pod.record.fleet):
                self._remove(pod)
            elif record != pod.record and pod.describe(record):
                self._pod_changed(pod, None)
        for uid, record in wanted.items():
            if uid not in self.pods:
                self._add(record)

    def _add(self, record: PodRecord) -> None:
        client = self.connect(record) if record.url else None
        pod = Pod(record=record, client=client, company=self._company)
        _keep_time(pod)
        group = self._group(record.fleet)
        self.pods[pod.uid] = pod
        group.add(pod)
        if self._running is not None:
            self._begin(pod, self._running)
        group.changed(pod, None)

    def _remove(self, pod: Pod) -> None:
        del self.pods[pod.uid]
        group = self._groups[pod.record.fleet]
        group.remove(pod)
        for key in pod.followed & self._trailing.keys():
            self._stop_trailing(key, {pod})
        task = self._tasks.pop(pod.uid, None)
        if task is not None:
            task.cancel()
        self._refusals.forget_pod(pod.uid)
        self.listener.lost(pod.uid)
        group.changed(pod, None)

    def _pod_changed(self, pod: Pod, voices: frozenset[str] | None) -> None:
        self._groups[pod.record.fleet].changed(pod, voices)

    def _flip_dropped(self, pod: Pod, voice: str, outcome: ArmedOutcome) -> None:
        text = f"pod {pod.name} did not flip at its instant: {outcome.reason}: {outcome.message}"
        self.report(voice, Event(reason="FlipDropped", message=text, warning=True))

    async def run(self) -> None:
        """Poll all pods until cancelled; then nothing is asked any more, and every connection is closed."""
        try:
            async with asyncio.TaskGroup() as group:
                self._running = group
                group.create_task(collect_in_quiet(lambda: not self._followed), name="garbage")
                for pod in self.pods.values():
                    self._begin(pod, group)
                await asyncio.get_running_loop().create_future()
        finally:
            self._running = None
            self._tasks.clear()
            for pod in self.pods.values():
                await pod.leave()

    def _begin(self, pod: Pod, group: asyncio.TaskGroup) -> None:
        if pod.record.url:
            if pod.client is None:
                pod.client = self.connect(pod.record)
                _keep_time(pod)
            self._tasks[pod.uid] = group.create_task(_poll(pod), name=f"poll {pod.name}")

    def unreachable(self) -> int:
        """How many pods do not answer: asked, and out of reach."""
        return sum(pod.settled and pod.identity is None for pod in self.pods.values())

    # --- what the engine sees -------------------------------------------------------------------------------------

    async def observe(self, voice: VoiceModel, *, evidence: bool) -> tuple[PodView, ...]:
        """See `ports.Fleet`."""
        group = self._group_of(voice)
        if group is None:
            return ()
        if self._running is not None:
            await group.first_look()
        if voice.key in self._followed:
            for pod in group.involved(voice):
                pod.follow(voice.key, closely=True)
        pods = group.concerned(voice)
        views = await self._views(voice, pods, evidence=evidence)
        if voice.key not in self._followed:
            self._trail(voice, pods)
        return views

    def _trail(self, voice: VoiceModel, pods: Sequence[Pod]) -> None:
        """Pods on which something of a quiet voice is on its way (a pod that has just begun, a sidecar that was started
        again) are read closely until they are done with it."""
        key, uid = voice.key, voice.metadata.uid
        moving = {pod for pod in pods if pod.is_moving(key, uid)}
        self._stop_trailing(key, self._trailing.get(key, set()) - moving)
        for pod in moving:
            self._begin_trailing(key, pod)

    def _begin_trailing(self, key: str, pod: Pod) -> None:
        self._trailing.setdefault(key, set()).add(pod)
        pod.follow(key, closely=True)

    def _stop_trailing(self, key: str, pods: Set[Pod]) -> None:
        left = self._trailing.get(key, set()) - pods
        for pod in pods:
            if key not in self._followed:
                pod.follow(key, closely=False)
        if left:
            self._trailing[key] = left
        else:
            self._trailing.pop(key, None)

    async def _views(self, voice: VoiceModel, pods: Sequence[Pod], *, evidence: bool) -> tuple[PodView, ...]:
        key, uid, engine = voice.key, voice.metadata.uid, voice.spec.engine.value
        behind = [pod for pod in pods if not pod.is_current(key)]
        if behind:
            await asyncio.gather(*(pod.renew(key) for pod in behind))
        windows = {}
        if evidence:
            telling = [pod for pod in pods if pod.is_current(key) and _tells(voice, pod.standing(key, uid))]
            windows = await self._evidence.of(key, telling, closely=key in self._followed)
        views = (pod.view(key, uid, engine=engine, windows=windows.get(pod.uid)) for pod in pods)
        return tuple(self._refusals.apply(view, key) for view in views)

    def _group_of(self, voice: VoiceModel) -> Group | None:
        fleet = self.select(voice)
        if fleet is None:
            return None
        group = self._group(fleet)
        group.note(voice)
        return group

    def _group(self, fleet: FleetKey) -> Group:
        if fleet not in self._groups:
            self._groups[fleet] = Group(wake=self._tell_changed)
        return self._groups[fleet]

    def _tell_changed(self, voices: frozenset[str]) -> None:
        self.on_change(voices)

    def follow(self, key: str, *, closely: bool) -> None:
        """See `ports.Fleet`. Each look at the voice says on which pods."""
        if closely:
            self._followed.add(key)
        elif key in self._followed:
            self._followed.discard(key)
            for pod in self.pods.values():
                pod.follow(key, closely=pod in self._trailing.get(key, ()))

    def held(self) -> frozenset[Holding]:
        """What all pods hold, as far as it is known."""
        return frozenset(
            Holding(voice=key, uid=held.standing.uid, fleet=pod.record.fleet)
            for pod in self.pods.values()
            for key, held in pod.voices.items()
        )

    def highest_term(self) -> int:
        """See `ports.Fleet`."""
        return max((held.fence.term for pod in self.pods.values() for held in pod.voices.values()), default=0)

    # --- commands -------------------------------------------------------------------------------------------------

    async def send(self, command: Command, pod: str, *, voice: VoiceModel, next_fence: Callable[[], Fence]) -> Fence:
        """See `ports.Fleet`."""
        target = self.pods.get(pod)
        if target is None:
            raise ControlUnreachable(f"pod {pod} is gone")
        try:
            with self.lull.broken():
                fence = await self._in_turn(command, target, voice, next_fence)
        except InvalidCommand as error:
            if isinstance(command, EnsureRevision):
                self._refusals.note(pod, voice.key, command.source.revision, error)
            raise
        except CommandRefused as error:
            if isinstance(command, SetPointer) and command.at is not None:
                self._report_pod(voice, "NotArmed", f"pod {target.name} does not flip with the others: {error}")
            raise
        if isinstance(command, DropRevision):
            self._refusals.forget(pod, voice.key, command.revision)
        elif voice.key not in self._followed:
            self._begin_trailing(voice.key, target)
        return fence

    async def _in_turn(
        self, command: Command, target: Pod, voice: VoiceModel, next_fence: Callable[[], Fence]
    ) -> Fence:
        async with self._pointers if isinstance(command, SetPointer) else self._commands:
            if isinstance(command, SetPointer) and command.at is not None:
                await self._tell_time(target, voice)
            fence = next_fence()
            with target.sending(voice.key, fence) as client:
                await carry_out(command, client, voice=voice, fence=fence, clock=target.offset)
        return fence

    async def _tell_time(self, pod: Pod, voice: VoiceModel) -> None:
        with suppress(SegueError):
            await pod.tell_time()
        if clock_ahead(pod.offset) is None:
            known = pod.offset.uncertainty_ns(time.time_ns())
            how_well = "not known" if known is None else f"known to {known / 1e6:.0f} ms"
            text = f"the clock of pod {pod.name} is {how_well}, more than {MAX_UNCERTAINTY_NS / 1e6:.0f} ms: "
            self._report_pod(voice, "FlipsOnArrival", f"{text}it flips when it is told, before the others")

    def _report_pod(self, voice: VoiceModel, reason: str, message: str) -> None:
        self.report(voice.key, Event(reason=reason, message=message, warning=True))

    # --- letting go -----------------------------------------------------------------------------------------------

    async def release(self, voice: VoiceModel, *, next_fence: Callable[[], Fence]) -> bool:
        """See `ports.Fleet`. Pods of its fleet that are out of reach may hold it, and count as not done."""
        fleet = self.select(voice)
        group = self._groups.get(fleet) if fleet is not None else None
        unknown = [pod for pod in group.sorted() if pod.identity is None and pod.record.url] if group else []
        holders = self._holders(voice)
        done = [await self._release_on(pod, voice, next_fence) for pod in holders]
        released = all(done) and not [pod for pod in unknown if pod not in holders]
        if released and group is not None:
            group.forget(voice.key)
        if released:
            self._stop_trailing(voice.key, self._trailing.get(voice.key, set()))
        return released

    def _holders(self, voice: VoiceModel) -> list[Pod]:
        """Pods of whatever fleet that are known to hold this incarnation of the voice."""
        key, uid = voice.key, voice.metadata.uid
        holders = [pod for group in self._groups.values() for pod in group.holders(key)]
        return [pod for pod in holders if pod.standing(key, uid).uid]

    async def _release_on(self, pod: Pod, voice: VoiceModel, next_fence: Callable[[], Fence]) -> bool:
        await pod.renew(voice.key)
        if not pod.is_current(voice.key):
            return False
        if not pod.standing(voice.key, voice.metadata.uid).uid:
            return True
        async with self._commands:
            fence = next_fence()
            with pod.sending(voice.key, fence) as client:
                await client.release_voice(voice.key, fence=fence, voice_uid=voice.metadata.uid)
        return True


def _tells(voice: VoiceModel, standing: Standing) -> bool:
    """Whether the pod can say anything of how the voice does on live requests."""
    return bool(standing.revisions) and speaks(voice.status, active=standing.pointer.active)


def _keep_time(pod: Pod) -> None:
    """Every answer tells of the pod's clock."""
    if pod.client is not None:
        offset = pod.offset
        pod.client.on_clock = lambda sent, received, now: offset.add(sent_ns=sent, received_ns=received, pod_ns=now)


async def _poll(pod: Pod) -> None:
    """Poll for as long as the pod is there; what nobody expected concerns this pod alone."""
    try:
        while True:
            try:
                await pod.poll()
            except Exception:  # the outermost boundary of one pod: the others go on
                logger.exception("polling pod %s failed", pod.name, extra={"pod": pod.uid})
                await asyncio.sleep(RESTART_S)
    finally:
        await pod.leave()
