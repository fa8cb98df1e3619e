"""Everything that a module of cases plays on: a namespace with pods and voices, the operator, listeners.

Separate from the fixtures so that a case can also set up a stage of its own, with other pods or two operators.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.harness import free_ports
from tests.support.cluster import TestCluster
from tests.support.pods.backstage import Backstage
from tests.support.pods.kube import CORE, Kube
from tests.support.pods.node import Node
from tests.support.pods.operator_process import OperatorProcess
from tests.support.pods.pod import FLEET, Container, PodProcess, make_plan, pick_ports, pod_manifest
from tests.support.pods.traffic import Tally, Traffic
from tests.support.pods.versions import Version, Wardrobe
from tests.support.pods.voice import Voice
from tests.support.running import eventually

from segue.tls import OPERATOR_NAME, Authority, KeyPairFiles, sidecar_name
from segue.wire import StateDocument, VoiceState
from segue_cli.measure.renderings import Renderings

STEADY = "steady"
STEADY_RATE_PER_S = 1.0
POD_READY_S = 90.0
POLL_S = 0.02
_hosts = itertools.count(10)


@dataclass(slots=True, kw_only=True)
class Stage:
    """One namespace and all that is in it.

    Attributes
    ----------
    spoiled
        Nobody else can play on it: something is gone or was left behind.
    """

    cluster: TestCluster
    kube: Kube
    namespace: str
    directory: Path
    backstage: Backstage
    wardrobe: Wardrobe
    authority: Authority
    operator_tls: KeyPairFiles
    operator_kubeconfig: Path
    renderings: Renderings
    node: Node = field(init=False)
    operators: dict[str, OperatorProcess] = field(default_factory=dict)
    pod_settings: Mapping[str, Any] = field(default_factory=dict)
    spoiled: bool = False
    judging: threading.Lock = field(default_factory=threading.Lock)
    _endpoints: tuple[PodProcess, ...] = ()
    _audiences: list[Traffic] = field(default_factory=list)
    _spools: itertools.count[int] = field(default_factory=itertools.count)
    _sidecar_tls: Path | None = None

    def __post_init__(self) -> None:
        self.node = Node(kube=self.kube, namespace=self.namespace, on_endpoints=self._route)

    # --- pods ---------------------------------------------------------------------------------------------------------

    @property
    def pods(self) -> dict[str, PodProcess]:
        """By name."""
        return self.node.pods

    def add_pods(self, *names: str) -> list[PodProcess]:
        """Bring pods up at the same time; returns once they are Ready."""
        pods = [self._create_pod(name) for name in names]
        self.node.mount_all()
        self.backstage.call(_start_all(pods), within_s=POD_READY_S * 2)
        for pod in pods:
            eventually(lambda pod=pod: self.node.is_ready(pod.name), within_s=POD_READY_S, what=f"{pod.name} is Ready")  # type: ignore[misc]
        return pods

    def _create_pod(self, name: str) -> PodProcess:
        address = f"127.0.0.{next(_hosts)}"
        ports = pick_ports(address)
        body = pod_manifest(name, self.namespace, control_port=ports[2], port=ports[0])
        made = self.kube.create(f"{CORE}/namespaces/{self.namespace}/pods", body)
        plan = make_plan(
            name,
            self.namespace,
            address=address,
            root=self.directory / "pods",
            voices=self.wardrobe.folder,
            uid=made["metadata"]["uid"],
            ports=ports,
        )
        plan.layout.create()
        pod = PodProcess(
            name=name,
            uid=plan.pod_uid,
            plan=plan,
            sidecar_tls=self._sidecar_pair(),
            operator_tls=self.operator_tls,
            settings=self.pod_settings,
        )
        self.node.pods[name] = pod
        return pod

    def _sidecar_pair(self) -> Path:
        """One for all pods of the fleet, as one Secret would be."""
        if self._sidecar_tls is None:
            self._sidecar_tls = self.directory / "sidecar-tls"
            name = sidecar_name(fleet=FLEET, namespace=self.namespace)
            self.authority.issue(name, server=True, directory=self._sidecar_tls)
        return self._sidecar_tls

    def delete_pod(self, name: str, *, within_s: float = 60.0) -> None:
        """`kubectl delete pod`: it drains and goes."""
        self.kube.delete(f"{CORE}/namespaces/{self.namespace}/pods/{name}")
        eventually(lambda: name not in self.pods, within_s=within_s, what=f"{name} is gone")

    def restart_pod(self, name: str) -> None:
        """Both containers are started again, as after a change of the node: drained, ended, begun."""
        self.backstage.call(self.node.restart(self.pods[name]), within_s=POD_READY_S * 2)
        eventually(lambda: self.node.is_ready(name), within_s=POD_READY_S, what=f"{name} is Ready again")

    def kill_sidecar(self, name: str) -> None:
        """SIGKILL to it, and wait until the one after it serves."""
        pod = self.pods[name]
        before = pod.pid(Container.SIDECAR)
        pod.kill(Container.SIDECAR)
        eventually(lambda: pod.is_back(Container.SIDECAR, after=before), within_s=60, what=f"{name}'s sidecar is back")

    # --- what the pods say --------------------------------------------------------------------------------------------

    def states(self) -> dict[str, StateDocument | None]:
        """What every sidecar holds now, by pod name; None where it is out of reach."""
        return self.backstage.call(_states(list(self.pods.values())))

    def voice_states(self, key: str) -> dict[str, VoiceState | None]:
        """One voice in every pod; None where it is unknown, or the pod out of reach."""
        return {name: state.voices.get(key) if state else None for name, state in self.states().items()}

    def actives(self, key: str) -> dict[str, str | None]:
        """What each pod's word says is active."""
        return {name: state.pointer.active if state else None for name, state in self.voice_states(key).items()}

    def wait_states(
        self, key: str, reached: Callable[[dict[str, VoiceState | None]], bool], *, what: str, within_s: float = 60.0
    ) -> None:
        """Until the pods say so of a voice."""
        deadline = time.monotonic() + within_s
        found = self.voice_states(key)
        while not reached(found):
            assert time.monotonic() < deadline, f"{key}: not within {within_s:g} s: {what}; {found}"
            time.sleep(POLL_S)
            found = self.voice_states(key)

    def wait_serving(self, key: str, revision: str, *, pods: int | None = None, within_s: float = 60.0) -> None:
        """Until every pod's word says this revision and no candidate."""

        def reached(found: dict[str, VoiceState | None]) -> bool:
            said = [state.pointer for state in found.values() if state is not None]
            wanted = pods if pods is not None else len(found)
            return len(said) == wanted and all(p.active == revision and p.candidate is None for p in said)

        self.wait_states(key, reached, what=f"all pods serve {revision[:10]}", within_s=within_s)

    # --- operators ----------------------------------------------------------------------------------------------------

    @property
    def operator(self) -> OperatorProcess:
        """The first replica."""
        return self.operators["operator-0"]

    def add_operator(self, name: str = "operator-0", **settings: Any) -> OperatorProcess:
        """Another replica, not started yet."""
        made = OperatorProcess(
            name=name,
            directory=self.directory / "operators",
            kubeconfig=self.operator_kubeconfig,
            tls=self.operator_tls,
            port=free_ports(1)[0],
            settings=settings,
        )
        self.operators[name] = made
        return made

    # --- listeners ----------------------------------------------------------------------------------------------------

    def audience(self) -> Traffic:
        """Listeners of one case, who go where the endpoints are."""
        spool = self.directory / "spool" / str(next(self._spools))
        made = Traffic(self.backstage, spool, self.renderings, self.judging)

        def join() -> None:
            made.route(self._endpoints)
            self._audiences.append(made)

        self.backstage.call(_now(join))
        return made

    def dismiss(self, audience: Traffic) -> Tally:
        """They ask no more; what became of their requests."""
        tally = audience.finish()
        self.backstage.call(_now(lambda: self._audiences.remove(audience)))
        return tally

    def _route(self, pods: tuple[PodProcess, ...]) -> None:
        self._endpoints = pods
        for audience in self._audiences:
            audience.route(pods)

    # --- voices -------------------------------------------------------------------------------------------------------

    def voice(self, name: str, *policies: Mapping[str, Any]) -> Voice:
        """A voice that does not exist yet."""
        return Voice(
            name=name,
            namespace=self.namespace,
            cluster=self.cluster,
            kube=self.kube,
            policies=policies,
            on_version=self._register,
        )

    def _register(self, name: str, version: Version) -> None:
        self.renderings.add(version.files(name))

    def remove_voice(self, voice: Voice) -> None:
        """Delete it and wait until no pod in reach holds it."""
        voice.delete()
        voice.wait_gone()
        self.wait_states(voice.key, lambda found: not any(found.values()), what="every pod lets it go")

    def introduce_steady(self) -> None:
        """The voice that nobody touches: every case has listeners for it, and none changes it."""
        voice = self.voice(STEADY)
        revision = voice.apply(self.wardrobe.narrator)
        voice.wait_promoted(revision)
        self.wait_serving(voice.key, revision)

    def ensure_operator(self) -> None:
        """An operator leads, whatever a case that failed has left behind."""
        if not any(operator.is_running for operator in self.operators.values()):
            self.operator.start_leading(self.kube)

    def close(self) -> None:
        """End operators and pods; the namespace is the cluster's to keep or to drop."""
        for operator in self.operators.values():
            operator.end()
        self.backstage.call(_stop_all(list(self.pods.values())), within_s=120)


async def _now(work: Callable[[], None]) -> None:
    work()


async def _start_all(pods: list[PodProcess]) -> None:
    await asyncio.gather(*(pod.start() for pod in pods))


async def _stop_all(pods: list[PodProcess]) -> None:
    await asyncio.gather(*(pod.stop() for pod in pods))


async def _states(pods: list[PodProcess]) -> dict[str, StateDocument | None]:
    found = await asyncio.gather(*(pod.state() for pod in pods))
    return {pod.name: state for pod, state in zip(pods, found, strict=True)}


@contextmanager
def staged(
    cluster: TestCluster, *, operator_kubeconfig: Path, pods: int, pod_settings: Mapping[str, Any] | None = None
) -> Iterator[Stage]:
    """A stage with pods, the operator leading, and one voice that is never touched."""
    directory = Path(tempfile.mkdtemp(prefix="segue-it-"))
    backstage = Backstage()
    try:
        with cluster.client() as client:
            stage = _set_up(cluster, Kube(client), directory, backstage, operator_kubeconfig, pod_settings or {})
            turning = backstage.start(stage.node.run())
            try:
                stage.add_pods(*(f"pod-{number}" for number in range(pods)))
                stage.add_operator().start_leading(stage.kube)
                stage.introduce_steady()
                yield stage
            finally:
                stage.close()
                backstage.stop(turning)
    finally:
        backstage.close()
        shutil.rmtree(directory, ignore_errors=True)


def _set_up(
    cluster: TestCluster,
    kube: Kube,
    directory: Path,
    backstage: Backstage,
    operator_kubeconfig: Path,
    pod_settings: Mapping[str, Any],
) -> Stage:
    authority = Authority.create(directory / "ca")
    (directory / "voices").mkdir()
    return Stage(
        cluster=cluster,
        kube=kube,
        namespace=cluster.new_namespace("rollouts"),
        directory=directory,
        backstage=backstage,
        wardrobe=Wardrobe(directory / "voices"),
        authority=authority,
        operator_tls=authority.issue(OPERATOR_NAME, server=False, directory=directory / "operator-tls"),
        operator_kubeconfig=operator_kubeconfig,
        renderings=Renderings([]),
        pod_settings=pod_settings,
    )
