"""Whole operators in simulated time: the real controller, loops, desired sets and election over a world of fakes.

Each operator is a process of its own (`SteppedLoop`), which can be killed or stopped at any of its effects: a write to
the API server or a command to a pod, before or after it took effect. What it leaves behind is what it wrote.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tests.fakes.cluster import ApiConflict, ApiDown, ApiNotFound, Crashed
from tests.fakes.objects import Body, FakeApi, FakeObjects
from tests.fakes.sidecar import Unreachable
from tests.fakes.stepped_loop import SteppedLoop
from tests.fakes.world import Pod, World, dispatch

from segue.errors import ControlUnreachable
from segue.model import Status, VoiceModel
from segue.rollout import (
    Command,
    EnsureRevision,
    Event,
    PodView,
    RevertSpec,
    RunProbe,
    Sighting,
    sort_pods,
    spec_owner,
    view_pod,
)
from segue.wire import Fence
from segue_operator.controller import Controller
from segue_operator.fleet.records import FleetKey
from segue_operator.kubernetes.api import ApiUnavailable
from segue_operator.kubernetes.desired import DesiredSets
from segue_operator.kubernetes.lease import Election
from segue_operator.kubernetes.lease_fences import LeaseFences
from segue_operator.kubernetes.lease_record import LeaseName
from segue_operator.kubernetes.voices import released_voice
from segue_operator.ports import Problem, WriteConflict
from segue_operator.slots import SlotBook

LEASE = LeaseName(namespace="segue-system", name="segue-operator")
FOR_EVER_S = 1e12


@dataclass(slots=True)
class Term:
    """Fences of a leader that nobody contests."""

    term: int

    def fences(self, clock: Callable[[], float]) -> LeaseFences:
        """The real ones, on a Lease that never runs out."""
        return LeaseFences(term=self.term, clock=clock, valid_until_s=FOR_EVER_S, write_term=self._write)

    async def _write(self, fences: LeaseFences, term: int) -> None:
        fences.term = term + 1


class Operator:
    """One process.

    Attributes
    ----------
    stop_at
        The effect before which it is stopped as by SIGSTOP; 1 is the next.
    effects
        When each began, in simulated time.
    """

    def __init__(self, world: World, objects: FakeObjects, *, name: str, term: int | None) -> None:
        self.world, self.objects, self.name = world, objects, name
        self.loop = SteppedLoop(world.clock.unix_s)
        self.dead = False
        self.stop_at: int | None = None
        self.effects: list[float] = []
        self.controller: Controller | None = None
        self.fences: LeaseFences | None = None
        self.changed = asyncio.Event()
        self.election = Election(
            api=FakeApi(objects, self._deliver),
            lease=LEASE,
            identity=name,
            clock=world.clock.unix_s,
            now=world.clock.now,
            random=random.Random(name),
        )
        running = self.election.run(self.lead) if term is None else self.lead(Term(term).fences(world.clock.unix_s))
        self.task = self.loop.create_task(running)

    async def lead(self, fences: LeaseFences) -> None:
        """Everything that commands."""
        self.fences = fences
        cluster, fleet = ClusterPort(self), FleetPort(self)
        desired = DesiredSets(
            api=FakeApi(self.objects, self._deliver_write),
            fences=fences,
            select=fleet_of,
            read_voice=cluster.read,
            tell=lambda voice, event: None,
            fleets=lambda: [FleetKey(namespace="default", name="default")],
            clock=self.world.clock.unix_s,
            random=random.Random(1),
        )
        self.controller = Controller(
            cluster=cluster,
            fleet=fleet,
            clock=self.world.clock,
            events=EventsPort(self.world),
            fences=fences,
            slots=SlotBook(10),
            desired=desired,
            fleet_of=fleet_of,
        )
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(desired.run())
                group.create_task(self.controller.run())
        finally:
            self.controller = None

    def run_due(self) -> None:
        """Run what can run now; pods that are long-polled have always something to say."""
        if not self.dead and not self.loop.frozen:
            if self.controller is not None:
                self.loop.call_soon(self.controller.wake, None)
            self.loop.call_soon(self.changed.set)
            self.loop.run_due()
            if self.task.done() and (error := self.task.exception()) is not None:
                raise error

    def end(self) -> None:
        """As SIGKILL."""
        self.dead = True
        self.loop.end()

    async def effect(self, do: Callable[[], Any]) -> Any:
        """A write or a command that is about to go out: it may never do so, or later than it should."""
        if self.dead:
            raise asyncio.CancelledError
        self.effects.append(self.world.clock.unix_s())
        if self.stop_at == len(self.effects):
            self.loop.frozen = True
            await asyncio.sleep(0)  # the loop stops here, and goes on here
        try:
            return do()
        except Crashed:
            self.dead = self.loop.frozen = True
            await asyncio.sleep(FOR_EVER_S)

    async def _deliver(self, request: Callable[[], Body]) -> Body:
        if self.dead:
            raise ApiUnavailable("this process is dead")
        return request()

    async def _deliver_write(self, request: Callable[[], Body]) -> Body:
        """Reads go through; writes are effects."""
        verb = request.keywords["verb"] if isinstance(request, partial) else ""
        if verb == "GET":
            return await self._deliver(request)
        found: Body = await self.effect(lambda: self.world.crash.wrap(request))
        return found


@dataclass
class ClusterPort:
    """`ports.Cluster` over the in-memory API server."""

    operator: Operator
    _gone: dict[str, VoiceModel] = field(default_factory=dict)

    def voices(self) -> Sequence[VoiceModel]:
        cluster = self.operator.world.cluster
        return [cluster.read(key) for key in self._listed()]

    def keys(self) -> frozenset[str]:
        """Those that exist, and those that only pods know any more: as the adapter's orphans."""
        held = {key: uid for pod in self.operator.world.pods.values() for key, uid in pod.sidecar.voices().items()}
        listed = frozenset(self._listed())
        for key in held.keys() - listed:
            self._gone.setdefault(key, released_voice(key, uid=held[key], fleet="default"))
        return listed | self._gone.keys()

    async def read(self, key: str) -> VoiceModel | None:
        try:
            return self.operator.world.cluster.get(key)
        except ApiDown as error:
            raise ApiUnavailable(str(error)) from error

    async def write_status(self, voice: VoiceModel, status: Status) -> VoiceModel:
        document = status.model_dump(mode="json", by_alias=True, exclude_none=True)
        version = voice.metadata.resource_version
        await self._write(lambda cluster: cluster.write_status(voice.key, document, resource_version=version))
        return voice.model_copy(update={"status": status})

    async def revert_spec(self, voice: VoiceModel, revert: RevertSpec) -> None:
        to = revert.to.model_dump(mode="json", by_alias=True, exclude_none=True)
        fields = {name: to.get(name) for name in ("weights", "reference", "options")}
        uid, version = voice.metadata.uid, voice.metadata.resource_version
        await self._write(lambda cluster: cluster.patch_spec(voice.key, fields, uid=uid, resource_version=version))

    def spec_owner(self, voice: VoiceModel) -> str | None:
        return self.operator.world.owner or spec_owner(voice.metadata)

    async def deleted(self, key: str) -> VoiceModel | None:
        return self._gone.get(key)

    async def forget(self, key: str) -> None:
        self._gone.pop(key, None)

    def problems(self) -> Sequence[Problem]:
        return ()

    async def changes(self) -> AsyncIterator[frozenset[str]]:
        while True:
            self.operator.changed.clear()
            yield frozenset(self.keys())
            await self.operator.changed.wait()

    def _listed(self) -> list[str]:
        try:
            return self.operator.world.cluster.keys()
        except ApiDown:
            return [*(self.operator.controller._loops if self.operator.controller else ())]

    async def _write(self, write: Callable[[Any], Any]) -> None:
        try:
            await self.operator.effect(lambda: write(self.operator.world.cluster))
        except (ApiConflict, ApiNotFound) as error:
            raise WriteConflict(str(error)) from error
        except ApiDown as error:
            raise ApiUnavailable(str(error)) from error


@dataclass
class FleetPort:
    """`ports.Fleet` over fake sidecars."""

    operator: Operator
    _sent: dict[tuple[str, str], Fence] = field(default_factory=dict)

    async def observe(self, voice: VoiceModel, *, evidence: bool) -> tuple[PodView, ...]:
        return sort_pods([self._view(pod, voice, evidence=evidence) for pod in self.operator.world.pods.values()])

    async def send(self, command: Command, pod: str, *, voice: VoiceModel, next_fence: Callable[[], Fence]) -> Fence:
        fence, world = next_fence(), self.operator.world
        send = partial(dispatch, command, world.pods[pod].sidecar, voice, fence)
        try:
            await self.operator.effect(lambda: world.crash.wrap(send))
        except Unreachable as error:
            raise ControlUnreachable(str(error)) from error
        self._sent[pod, voice.key] = fence
        if self.operator.controller is not None and not isinstance(command, (EnsureRevision, RunProbe)):
            self.operator.controller.wake(frozenset({voice.key}))  # its state is another one at once
        world.commands.append((world.clock.now(), pod, command))
        return fence

    async def release(self, voice: VoiceModel, *, next_fence: Callable[[], Fence]) -> bool:
        for uid, pod in self.operator.world.pods.items():
            if pod.sidecar.voices().get(voice.key) == voice.metadata.uid:
                fence = next_fence()
                release = partial(pod.sidecar.release, voice.key, voice.metadata.uid, fence)
                await self.operator.effect(partial(self.operator.world.crash.wrap, release))
                self._sent.pop((uid, voice.key), None)
        return True

    def highest_term(self) -> int:
        states = [pod.sidecar.state() for pod in self.operator.world.pods.values() if pod.sidecar.reachable]
        fences = [Fence.parse(voice.fence) for state in states for voice in state.voices.values()]
        return max((fence.term for fence in fences), default=0)

    def follow(self, key: str, *, closely: bool) -> None:
        """Everything is looked at after every step."""

    def _view(self, pod: Pod, voice: VoiceModel, *, evidence: bool) -> PodView:
        sidecar = pod.sidecar
        try:
            sighting = Sighting(
                state=sidecar.state(),
                windows=sidecar.windows(voice.key) if evidence else None,
                last_fence=self._sent.get((pod.facts.uid, voice.key)),
            )
        except Unreachable:
            sighting = Sighting(state=None)
        return view_pod(pod.facts, sighting, voice)


@dataclass
class EventsPort:
    """`ports.Events` into the world's list."""

    world: World

    def publish(self, voice: str | None, event: Event) -> None:
        self.world.events.append(event)


def fleet_of(voice: VoiceModel) -> FleetKey:
    """Where no fleet is configured."""
    return FleetKey(namespace=voice.metadata.namespace, name=voice.spec.fleet)
