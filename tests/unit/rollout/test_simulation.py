"""Whatever happens, in whatever order: the promises of the rollout engine hold.

Hypothesis drives a small world (tests/fakes/world.py): specs are edited at any time, pods join, leave, restart and fall
out of reach, the API server goes away, and the operator dies before or after any of its writes and commands. After
every round the promises are checked; at the end everything is healed and the world must come to rest.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.fakes.cluster import Crashed
from tests.fakes.sidecar import Temper
from tests.fakes.world import World
from tests.support.voices import KEY, revision, voice_document
from typing_extensions import override

from segue.model import Phase, Status
from segue.wire import ProbePhase, RevisionPhase

EXAMPLES_IN_CI = 40
EXAMPLES = int(os.environ.get("SEGUE_SIMULATIONS", EXAMPLES_IN_CI))
"""More of them look where nobody has looked; in CI the same ones each time, so that a red run means a change."""

GOOD = ("v0", "v1", "v5")
REFUSED, FAILS_LIVE, WILL_NOT_LOAD = "v2", "v3", "v4"
VERSIONS = (*GOOD, REFUSED, FAILS_LIVE, WILL_NOT_LOAD)
SPEC = {
    "rollout": {
        "preloadWaves": [1, "100%"],
        "maxFailedPods": "34%",
        "progressDeadline": "2m",
        "canary": {"steps": ["10%"], "successes": 20, "timeout": "1m"},
    },
    "watch": {"duration": "2m", "sustainedFor": "30s", "minRequests": 20},
    "rollback": {"keepWarm": "10m"},
}


class Rollouts(RuleBasedStateMachine):
    """The world, and what may happen to it."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.world.tempers |= {
            revision(REFUSED): Temper(probe=ProbePhase.FAILED),
            revision(FAILS_LIVE): Temper(error_rate=0.5),
            revision(WILL_NOT_LOAD): Temper(load_failure="DigestMismatch"),
        }
        self.tokens = 0
        self.version = "v0"
        self.tier = "hot"

    @initialize(
        pods=st.integers(1, 4),
        traffic=st.sampled_from([0.0, 0.5, 20.0]),
        tier=st.sampled_from(["hot", "hot", "cold"]),
    )
    def begin(self, pods: int, traffic: float, tier: str) -> None:
        self.tier = tier
        for _ in range(pods):
            self.world.add_pod()
        self.world.set_traffic(traffic)
        self.world.cluster.apply(self._document("v0"))
        self.world.run(KEY, seconds=20)

    # --- what may happen ------------------------------------------------------------------------------------------

    @rule(version=st.sampled_from(VERSIONS))
    def edit(self, version: str) -> None:
        self.version = version
        document = self._document(version)
        document["metadata"]["annotations"] = dict(self.world.cluster.read(KEY).metadata.annotations)
        self.world.cluster.apply(document)

    @rule(token=st.sampled_from(["promote", "retry", "rollback"]))
    def speak(self, token: str) -> None:
        self.tokens += 1
        self.world.cluster.annotate(KEY, **{token: str(self.tokens)})

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        self.world.cluster.edit_spec(KEY, lambda spec: spec["rollout"].update(paused=paused))

    @rule(rounds=st.integers(1, 6))
    def reconcile(self, rounds: int) -> None:
        for _ in range(rounds):
            self.world.reconcile(KEY)
            self.promises()

    @rule(at=st.integers(1, 6), after=st.booleans())
    def operator_dies(self, at: int, after: bool) -> None:
        self.world.crash.arm(at, after=after)
        try:
            for _ in range(6):
                self.world.reconcile(KEY)
        except Crashed:
            pass
        finally:
            self.world.crash.arm(None)

    @rule(seconds=st.sampled_from([1, 3, 10, 40, 150, 700]))
    def time_passes(self, seconds: int) -> None:
        self.world.pass_time(seconds)

    @rule(seconds=st.sampled_from([5, 30, 90]))
    def live(self, seconds: int) -> None:
        self.world.run(KEY, seconds=seconds, every=5)

    @rule(traffic=st.sampled_from([0.0, 0.5, 20.0]))
    def traffic_changes(self, traffic: float) -> None:
        self.world.set_traffic(traffic)

    @rule()
    @precondition(lambda self: len(self.world.pods) < 5)
    def pod_joins(self) -> None:
        self.world.add_pod()

    @rule(data=st.data())
    @precondition(lambda self: len(self.world.pods) > 1)
    def pod_leaves(self, data: st.DataObject) -> None:
        del self.world.pods[self.any_pod(data)]

    @rule(data=st.data(), ready=st.booleans())
    def readiness_changes(self, data: st.DataObject, ready: bool) -> None:
        self.world.set_ready(self.any_pod(data), ready)

    @rule(data=st.data(), reachable=st.booleans())
    def reach_changes(self, data: st.DataObject, reachable: bool) -> None:
        self.world.pods[self.any_pod(data)].sidecar.reachable = reachable

    @rule(data=st.data(), loses_memory=st.booleans())
    def sidecar_restarts(self, data: st.DataObject, loses_memory: bool) -> None:
        self.world.pods[self.any_pod(data)].sidecar.restart(loses_memory=loses_memory)

    @rule(down=st.booleans())
    def api_server_goes_and_comes(self, down: bool) -> None:
        self.world.cluster.down = down

    @rule(owner=st.sampled_from([None, "Argo CD"]))
    def owner_changes(self, owner: str | None) -> None:
        self.world.owner = owner

    @rule(tier=st.sampled_from(["hot", "warm", "cold"]))
    def tier_changes(self, tier: str) -> None:
        self.tier = tier
        self.world.cluster.edit_spec(KEY, lambda spec: spec.setdefault("residency", {}).update(tier=tier))

    @rule(data=st.data())
    def voice_rests(self, data: st.DataObject) -> None:
        self.world.pods[self.any_pod(data)].sidecar.rest(KEY)

    @rule(data=st.data())
    def somebody_asks(self, data: st.DataObject) -> None:
        self.world.pods[self.any_pod(data)].sidecar.want(KEY)

    @rule(room=st.booleans(), data=st.data())
    def room_changes(self, room: bool, data: st.DataObject) -> None:
        self.world.pods[self.any_pod(data)].sidecar.room = room

    # --- what must hold -------------------------------------------------------------------------------------------

    @invariant()
    def promises(self) -> None:
        if not self.world.pods:
            return
        for uid, pod in self.world.pods.items():
            word, held, watch = pod.sidecar.pointer(KEY), pod.sidecar.holds(KEY), pod.sidecar.watch(KEY)
            for named in (word.active, word.candidate):
                ready = named is None or held.get(named) is RevisionPhase.READY
                assert ready or named in pod.sidecar.rises(KEY), f"{uid} names what is not ready"
            if watch is not None:
                assert held.get(watch.previous) is RevisionPhase.READY, f"{uid} lost the way back under a watch"
            assert pod.sidecar.unproven == [], f"{uid} was pointed at what had not spoken there"

    @override
    def teardown(self) -> None:
        """Heal everything; then the world comes to rest, in bounded steps, on one good revision."""
        if not self.world.pods or not self.world.cluster.has(KEY):
            return
        self._heal()
        busy = self._run_to_rest()
        status = self._status()
        assert status.phase is Phase.IDLE, f"{status.phase}: {status.reason}: {status.message}"
        assert busy < 200, f"{busy} writes until it came to rest"
        actives = {pod.sidecar.pointer(KEY).active for pod in self.world.pods.values()}
        assert actives == {status.stable_revision}, f"mixed: {actives}"
        assert status.stable_revision in {revision(version) for version in (*GOOD, FAILS_LIVE)}
        self._failed_is_not_tried_again()

    def _heal(self) -> None:
        world = self.world
        world.cluster.down = False
        world.set_traffic(20.0)
        for uid, pod in world.pods.items():
            pod.sidecar.reachable = pod.sidecar.room = True
            world.set_ready(uid, True)
        world.cluster.edit_spec(KEY, lambda spec: spec["rollout"].update(paused=False))

    def _run_to_rest(self) -> int:
        writes = quiet = 0
        for _ in range(1500):
            action = self.world.reconcile(KEY)
            self.promises()
            wrote = action is not None and (action.status is not None or action.revert is not None)
            acted = wrote or (action is not None and bool(action.commands))
            writes += wrote
            quiet = 0 if acted or self._status().phase is not Phase.IDLE or self._is_on_its_way() else quiet + 1
            if quiet > 3:
                return writes
            self.world.pass_time(1 if acted else 20)
        raise AssertionError(f"no rest: {self._status().phase} {self._status().reason} {self._status().message}")

    def _is_on_its_way(self) -> bool:
        return self._status().reason in ("Queued", "Clearing", "WindowClosed", "NoPods")

    def _failed_is_not_tried_again(self) -> None:
        """Not even when a tool writes it into the spec again."""
        failed = {each.revision for each in self._status().failed_revisions}
        for version in VERSIONS:
            if revision(version) in failed:
                self.edit(version)
        before = self._status()
        self.world.run(KEY, seconds=600, every=30)
        after = self._status()
        assert after.attempt == before.attempt, f"attempt {after.attempt} without a reason: {after.message}"
        assert after.stable_revision == before.stable_revision

    def _document(self, version: str) -> dict[str, Any]:
        return voice_document(version, **SPEC, residency={"tier": self.tier})

    def _status(self) -> Status:
        return self.world.cluster.read(KEY).status

    def any_pod(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.world.pods)))


Rollouts.TestCase.settings = settings(
    max_examples=EXAMPLES,
    derandomize=EXAMPLES == EXAMPLES_IN_CI,
    database=None,
    stateful_step_count=25,
    deadline=timedelta(seconds=60),
    suppress_health_check=list(HealthCheck),
)
TestRollouts = Rollouts.TestCase
