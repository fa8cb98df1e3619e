"""Operators that want to lead, as processes in simulated time around one in-memory API server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.fakes.objects import Body, FakeApi, FakeObjects
from tests.fakes.stepped_loop import SteppedLoop, SteppedTime

from segue.errors import SegueError
from segue_operator.kubernetes.api import ApiUnavailable
from segue_operator.kubernetes.lease import Election, LeaseTerms
from segue_operator.kubernetes.lease_fences import LeaseFences
from segue_operator.kubernetes.lease_record import LeaseName

LEASE = LeaseName(namespace="segue-system", name="segue-operator")
PATH = "/apis/coordination.k8s.io/v1/namespaces/segue-system/leases/segue-operator"
START = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
STEP_S = 0.125


class LeadFailed(Exception):
    """What was led broke."""


@dataclass
class Network:
    """Between one process and the API server.

    Attributes
    ----------
    request_s, answer_s
        How long each way takes. A request is carried out even if nobody waits for its answer any more.
    """

    request_s: float = 0.01
    answer_s: float = 0.01
    refuses: bool = False
    loses_answers: bool = False


@dataclass
class Candidate:
    """One process."""

    name: str
    time: SteppedTime
    objects: FakeObjects
    ahead_s: float = 0.0
    terms: LeaseTerms = field(default_factory=LeaseTerms)
    network: Network = field(default_factory=Network)
    dead: bool = False
    tenures: list[LeaseFences] = field(default_factory=list)
    fails: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.loop = SteppedLoop(self.clock_s)
        self.election = Election(
            api=FakeApi(self.objects, self._deliver),
            lease=LEASE,
            identity=self.name,
            terms=self.terms,
            clock=self.clock_s,
            now=lambda: START + timedelta(seconds=self.time.now_s + self.ahead_s),
            random=random.Random(self.name),
        )
        self.task = self.loop.create_task(self.election.run(self.lead))

    def clock_s(self) -> float:
        """A clock that shares its rate with the others', and nothing else."""
        return self.time.now_s + 1000 * self.ahead_s

    async def lead(self, fences: LeaseFences) -> None:
        """What is led: here, nothing but being there until cancelled, or until it `fails`."""
        self.tenures.append(fences)
        await self.fails.wait()
        raise LeadFailed

    @property
    def frozen(self) -> bool:
        """Whether it is stopped, as by SIGSTOP."""
        return self.loop.frozen

    @frozen.setter
    def frozen(self, frozen: bool) -> None:
        self.loop.frozen = frozen

    @property
    def valid(self) -> bool:
        """Whether a command would be sent now, if the process ran now."""
        fences = self.tenures[-1] if self.tenures else None
        return fences is not None and not fences.why and self.clock_s() < fences.valid_until_s

    @property
    def term(self) -> int:
        """Of the latest tenure."""
        return self.tenures[-1].term

    def do(self, call: Callable[[], Any]) -> asyncio.Task[Any]:
        """Start something in this process."""
        return self.loop.create_task(call())

    def end(self) -> None:
        """As SIGKILL: what it still does reaches nobody."""
        self.dead = True
        self.loop.end()

    async def _deliver(self, request: Callable[[], Body]) -> Body:
        """A request, there and back, each in its time."""
        if self.dead:
            raise ApiUnavailable("this process is dead")
        answered: asyncio.Future[Body] = self.loop.create_future()
        network = self.network

        def arrive() -> None:
            outcome: Body | SegueError
            try:
                if network.refuses:
                    raise ApiUnavailable("connection refused")
                outcome = request()
            except SegueError as error:
                outcome = error
            if not network.loses_answers:
                self.time.later(network.answer_s, lambda: answer(outcome))

        def answer(outcome: Body | SegueError) -> None:
            if answered.done() or self.loop.is_closed():
                return
            if isinstance(outcome, SegueError):
                answered.set_exception(outcome)
            else:
                answered.set_result(outcome)

        self.time.later(network.request_s, arrive)
        return await answered


class Candidates:
    """All of them."""

    def __init__(self, *names: str, terms: LeaseTerms | None = None) -> None:
        self.time = SteppedTime()
        self.objects = FakeObjects()
        self.terms = terms or LeaseTerms()
        self.all = [self.start(name) for name in names]

    def start(self, name: str, *, ahead_s: float = 0.0) -> Candidate:
        """A new process."""
        return Candidate(name, self.time, self.objects, ahead_s=ahead_s, terms=self.terms)

    def restart(self, index: int, name: str) -> None:
        """As `kill -9` and a new pod in its place."""
        old = self.all[index]
        old.end()
        self.all[index] = self.start(name, ahead_s=old.ahead_s)

    def live(self, seconds: float, *, check: Callable[[], None] = lambda: None) -> None:
        """Let time pass and everybody run who is not frozen; `check` after each step."""
        until_s = self.time.now_s + seconds
        while self.time.now_s < until_s:
            self.time.advance(min(STEP_S, until_s - self.time.now_s))
            for each in self.all:
                each.loop.run_due()
                check()

    def live_until(self, reached: Callable[[], bool], *, most_s: float = 120.0) -> float:
        """Let time pass until it is so; how long that took."""
        began_s = self.time.now_s
        while not reached():
            assert self.time.now_s - began_s < most_s, f"not so after {most_s} s: {self.describe()}"
            self.live(STEP_S)
        return self.time.now_s - began_s

    @property
    def leaders(self) -> list[Candidate]:
        """Everybody whose commands would go out now."""
        return [each for each in self.all if each.valid]

    def describe(self) -> str:
        """Who is what, for failures."""
        return f"{[(each.name, each.valid, each.task) for each in self.all]} {self.objects.stored}"

    def close(self) -> None:
        """End all."""
        for each in self.all:
            each.end()
