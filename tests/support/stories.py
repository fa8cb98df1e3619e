"""Rollouts as stories: what people do and when, how pods behave, and how it must end, whoever dies on the way."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from tests.fakes.cluster import CrashSwitch
from tests.fakes.objects import FakeObjects
from tests.fakes.sidecar import Temper
from tests.fakes.world import World
from tests.support.operators import Operator
from tests.support.voices import KEY, digest, revision, voice_document
from typing_extensions import override

from segue.desired import DesiredEntry, config_map_name, data_key, shard_of
from segue.model import Phase, Status
from segue.wire import ProbePhase, RevisionPhase

QUICK: dict[str, Any] = {
    "rollout": {"canary": {"steps": ["10%"], "successes": 20, "timeout": "30s"}, "progressDeadline": "2m"},
    "watch": {"duration": "20s", "sustainedFor": "10s", "minRequests": 5, "minErrors": 2},
}
AT_ONCE: dict[str, Any] = {**QUICK, "rollout": {"canary": {"mode": "Skip"}, "progressDeadline": "2m"}}
STEP_S = 4.0
MOST_S = 900.0
DESIRED_STEPS_S = (1.0, 32.0, 1.0)
"""After the last of everything: until the desired set has followed."""

When = Callable[[Status], bool]
Deed = Callable[["Stage"], None]


def at_once(status: Status) -> bool:
    """Before anything else."""
    return True


def in_phase(phase: Phase, *, attempt: int = 2) -> When:
    """Once the voice's rollout number `attempt` is there."""
    return lambda status: status.phase is phase and status.attempt == attempt


def confirmed(version: str) -> When:
    """Once that version is the stable one and nothing is open."""
    return lambda status: status.phase is Phase.IDLE and status.stable_revision == revision(version)


def wants(version: str, **sections: Any) -> Deed:
    """Somebody applies another version."""

    def apply(stage: Stage) -> None:
        document = voice_document(version, **(sections or QUICK))
        if stage.world.cluster.has(KEY):
            document["metadata"]["annotations"] = dict(stage.world.cluster.read(KEY).metadata.annotations)
        stage.world.cluster.apply(document)

    return apply


def says(**tokens: str) -> Deed:
    """Somebody sets annotations."""
    return lambda stage: stage.world.cluster.annotate(KEY, **tokens)


def deletes(stage: Stage) -> None:
    """Somebody deletes the voice."""
    stage.world.cluster.delete(KEY)


@dataclass(frozen=True, kw_only=True)
class Story:
    """One of them.

    Attributes
    ----------
    deeds
        What people do, each once its condition holds, in this order.
    ends_on
        The version that is stable at the end; None: the voice is gone.
    spec_says
        The version in the spec at the end, where it is another one.
    attempts
        How many rollouts there were.
    """

    name: str
    deeds: tuple[tuple[When, Deed], ...]
    ends_on: str | None
    spec_says: str | None = None
    failed: tuple[str, ...] = ()
    attempts: int = 2
    tempers: dict[str, Temper] = field(default_factory=dict)
    begins_with: str | None = "v1"

    @override
    def __str__(self) -> str:
        return self.name


def quick(**changes: Any) -> Temper:
    """A pod's behaviour, without long waits."""
    return Temper(load_s=1, probe_s=1, **changes)


STORIES = (
    Story(name="a first version", begins_with=None, deeds=((at_once, wants("v1")),), ends_on="v1", attempts=1),
    Story(name="a good update", deeds=((confirmed("v1"), wants("v2")),), ends_on="v2"),
    Story(
        name="a version that its verification refuses",
        deeds=((confirmed("v1"), wants("v2")),),
        tempers={revision("v2"): quick(probe=ProbePhase.FAILED)},
        ends_on="v1",
        failed=("v2",),
    ),
    Story(
        name="a version that fails in its canary",
        deeds=((confirmed("v1"), wants("v2")),),
        tempers={revision("v2"): quick(error_rate=0.5)},
        ends_on="v1",
        failed=("v2",),
    ),
    Story(
        name="a version that fails in its watch, and the spec is written back",
        deeds=((confirmed("v1"), wants("v2", **AT_ONCE)),),
        tempers={revision("v2"): quick(error_rate=0.5)},
        ends_on="v1",
        failed=("v2",),
    ),
    Story(
        name="a version that fails in its watch, and the spec is left alone",
        deeds=((confirmed("v1"), wants("v2", **AT_ONCE, rollback={"mode": "StatusOnly"})),),
        tempers={revision("v2"): quick(error_rate=0.5)},
        ends_on="v1",
        spec_says="v2",
        failed=("v2",),
    ),
    Story(
        name="a rollback by hand after the watch",
        deeds=((confirmed("v1"), wants("v2", **AT_ONCE)), (confirmed("v2"), says(rollback="1"))),
        ends_on="v1",
        failed=("v2",),
    ),
    Story(
        name="a rollback by hand in the watch",
        deeds=((confirmed("v1"), wants("v2", **AT_ONCE)), (in_phase(Phase.WATCHING), says(rollback="1"))),
        ends_on="v1",
        failed=("v2",),
    ),
    *(
        Story(
            name=f"a newer spec in {phase.value}",
            deeds=((confirmed("v1"), wants("v2")), (in_phase(phase), wants("v3"))),
            ends_on="v3",
            attempts=3,
        )
        for phase in (Phase.PRELOADING, Phase.VERIFYING, Phase.CANARY, Phase.FLIPPING, Phase.WATCHING)
    ),
    Story(
        name="a spec that says the stable version again in its watch",
        deeds=((confirmed("v1"), wants("v2", **AT_ONCE)), (in_phase(Phase.WATCHING), wants("v1", **AT_ONCE))),
        ends_on="v1",
    ),
    Story(name="a voice that is deleted", deeds=((confirmed("v1"), deletes),), ends_on=None),
    Story(
        name="a voice that is deleted in its canary",
        deeds=((confirmed("v1"), wants("v2")), (in_phase(Phase.CANARY), deletes)),
        ends_on=None,
    ),
)


class Stage:
    """Where a story takes place: a world, and one operator after the other.

    Attributes
    ----------
    goes_away_in
        As soon as the second rollout is in this phase, the API server does not answer any more.
    elects
        Operators lead when they have the Lease; else the latest one does, under a term of its own.
    dies_each_time
        Every operator is killed after its first effect.
    """

    def __init__(self, story: Story, *, elects: bool = False) -> None:
        self.story = story
        self.world, self.objects, self.term = copy.deepcopy(_beginning(story.begins_with))
        for pod in self.world.pods.values():
            pod.sidecar.tempers |= story.tempers
        self.deeds = list(story.deeds)
        self.elects = elects
        self.dies_each_time = False
        self.goes_away_in: Phase | None = None
        self.operators: list[Operator] = []
        self.world.cluster.on_status = self._written
        self.start_operator()

    def set_api_server(self, *, down: bool) -> None:
        """It goes away, or comes back."""
        self.world.cluster.down = self.objects.down = down

    @property
    def crash(self) -> CrashSwitch:
        """Kills the operator."""
        return self.world.crash

    @property
    def status(self) -> Status:
        """What is persisted; that of nobody where the voice is gone."""
        return self.world.cluster.read(KEY).status if self.world.cluster.has(KEY) else Status()

    def start_operator(self) -> Operator:
        """A new process; it leads at once, with a higher term, or when it is elected."""
        self.term += 1
        name = f"operator-{self.term}"
        made = Operator(self.world, self.objects, name=name, term=None if self.elects else self.term)
        self.operators.append(made)
        return made

    def _written(self, status: Mapping[str, Any]) -> None:
        """People and outages are as quick as that."""
        self.do_what_is_due()
        if self.goes_away_in is not None and (status["phase"], status["attempt"]) == (self.goes_away_in, 2):
            self.goes_away_in = None
            self.set_api_server(down=True)

    def do_what_is_due(self) -> None:
        """Deeds whose time has come."""
        while self.deeds and self.deeds[0][0](self.status):
            self.deeds.pop(0)[1](self)

    def step(self, seconds: float = STEP_S) -> None:
        """Let people, operators and time act."""
        self.do_what_is_due()
        for operator in list(self.operators):
            operator.run_due()
            if operator.dead:
                self.bury(operator)
        self.promises()
        self.world.pass_time(seconds)

    def live(self, seconds: float) -> None:
        """Let that much time pass, in steps."""
        for _ in range(round(seconds / STEP_S)):
            self.step()

    def until(self, reached: Callable[[], bool]) -> None:
        """Live until it is so."""
        passed = 0.0
        while not reached():
            self.step()
            passed += STEP_S
            assert passed < MOST_S, self.describe()

    def bury(self, operator: Operator) -> None:
        """The process is gone; another one is started in its place."""
        operator.end()
        self.operators.remove(operator)
        self.crash.arm(1 if self.dies_each_time else None, after=True)
        self.start_operator()

    def play(self) -> None:
        """To the end, and until the desired set has followed."""
        self.until(self.at_rest)
        self.follow()

    def follow(self) -> None:
        """Until the desired set says what the status says."""
        for seconds in DESIRED_STEPS_S:
            self.step(seconds)

    def at_rest(self) -> bool:
        """Whether the story is over."""
        if self.deeds:
            return False
        if self.story.ends_on is None:
            return not any(pod.sidecar.voices() for pod in self.world.pods.values())
        done = self.status.phase is Phase.IDLE and self.status.attempt >= self.story.attempts
        return done and self.actives() == {self.status.stable_revision}

    def actives(self) -> set[str | None]:
        """What listeners hear, on all pods."""
        return {pod.sidecar.pointer(KEY).active for pod in self.world.pods.values()}

    def promises(self) -> None:
        """What holds at every moment, whoever dies."""
        for uid, pod in self.world.pods.items():
            word, held, watch = pod.sidecar.pointer(KEY), pod.sidecar.holds(KEY), pod.sidecar.watch(KEY)
            for named in (word.active, word.candidate):
                assert named is None or held.get(named) is RevisionPhase.READY, f"{uid} names what is not ready"
            if watch is not None:
                assert held.get(watch.previous) is RevisionPhase.READY, f"{uid} lost the way back under a watch"
            assert pod.sidecar.unproven == [], f"{uid} was pointed at what had not spoken there"
            refused = {pod.sidecar.tempers.get(name, quick()).probe for name in (word.active, word.candidate) if name}
            assert ProbePhase.FAILED not in refused, f"{uid} speaks what its verification refuses"

    def ended_well(self, where: str = "") -> None:
        """The one end that the story has."""
        story, where = self.story, f"{where}: {self.describe()}"
        if story.ends_on is None:
            assert not self.world.cluster.has(KEY), where
            assert not any(pod.sidecar.voices() for pod in self.world.pods.values()), where
            assert self.entry() is None, where
            return
        status, spec = self.status, self.world.cluster.read(KEY).spec
        assert status.stable_revision == status.active_revision == revision(story.ends_on), where
        assert self.actives() == {revision(story.ends_on)}, where
        assert spec.weights["acoustic"].sha256 == digest(story.spec_says or story.ends_on), where
        assert {each.revision for each in status.failed_revisions} == {revision(each) for each in story.failed}, where
        assert status.attempt == story.attempts, where
        assert status.history[0].revision == revision(story.ends_on), where
        entry = self.entry()
        assert entry is not None, where
        assert (entry.revision, entry.uid) == (revision(story.ends_on), self.world.cluster.read(KEY).metadata.uid), (
            where
        )

    def entry(self) -> DesiredEntry | None:
        """What new pods would start on."""
        path = f"/api/v1/namespaces/default/configmaps/{config_map_name('default', shard_of(KEY))}"
        text = (self.objects.stored.get(path, {}).get("data") or {}).get(data_key(KEY))
        return None if text is None else DesiredEntry.from_json(text)

    def everything(self) -> Any:
        """All that an operator can change, to be compared."""
        pods = {
            uid: (pod.sidecar.pointer(KEY), pod.sidecar.holds(KEY), pod.sidecar.watch(KEY), pod.sidecar.voices())
            for uid, pod in self.world.pods.items()
        }
        voice = self.world.cluster.read(KEY) if self.world.cluster.has(KEY) else None
        maps = {path: body for path, body in self.objects.stored.items() if "/configmaps/" in path}
        return copy.deepcopy((pods, voice, maps))

    def describe(self) -> str:
        """Where it stands, for failures."""
        status = self.status
        return f"{status.phase} {status.reason} {status.message} attempt {status.attempt}, actives {self.actives()}"

    def close(self) -> None:
        """End all processes."""
        for operator in self.operators:
            operator.end()


@cache
def _beginning(version: str | None) -> tuple[World, FakeObjects, int]:
    """Two pods under traffic, which serve that version, its guard over; every story gets a copy."""
    stage = object.__new__(Stage)
    stage.world, stage.objects, stage.term, stage.elects = World(), FakeObjects(), 1, False
    stage.world.tempers[""] = quick()
    stage.story = STORIES[0]
    stage.deeds, stage.operators, stage.dies_each_time, stage.goes_away_in = [], [], False, None
    for _ in range(2):
        stage.world.add_pod()
    stage.world.set_traffic(20.0)
    if version is not None:
        stage.deeds = [(at_once, wants(version))]
        stage.start_operator()
        stage.play()
        stage.close()
    return stage.world, stage.objects, stage.term
