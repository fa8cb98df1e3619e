"""What a suite gets: a cluster of one node, with images in it, whose processes are its own to stop.

Separate from `tests/support/cluster`, on which it stands, because that one needs neither root nor Linux namespaces.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from tests.support.cluster.binaries import CONTROL_PLANE, NODE, NoBinary, obtain
from tests.support.cluster.cluster import TestCluster
from tests.support.cluster.control_plane import ControlPlane, Programs, control_plane
from tests.support.cluster.processes import Child, ProcessEnded, wait_for
from tests.support.node import isolation, kubernetes, network, packages
from tests.support.node.container_runtime import ContainerRuntime
from tests.support.node.pause import write_pause_image

READY_WITHIN_S = 90.0

Say = Callable[[str], None]


class NodeUnavailable(Exception):
    """There is no node to test with on this machine; the message says why."""


@dataclass(slots=True, kw_only=True)
class Node:
    """A cluster with a node.

    Attributes
    ----------
    cluster
        With the rights of its administrator; the CRD is not installed.
    logs
        Folder with what every process of cluster and node wrote.
    """

    cluster: TestCluster
    plane: ControlPlane
    runtime: ContainerRuntime
    kubelet: Child
    kube_proxy: Child
    scheduler: Child
    logs: Path = field(init=False)

    def __post_init__(self) -> None:
        self.logs = self.plane.directory

    def start(self) -> None:
        """Start the node's processes, and wait until it is Ready."""
        self.runtime.start()
        for child in self._beside:
            child.start()
        with self.plane.admin.client() as api:
            wait_for(lambda: self._is_ready(api), within_s=READY_WITHIN_S, what="the node is Ready")

    def end(self) -> None:
        """End them. Containers go with the namespaces, so nothing has to be in good order."""
        for child in (*self._beside, self.runtime.process):
            child.kill()

    @property
    def _beside(self) -> tuple[Child, ...]:
        return (self.kubelet, self.kube_proxy, self.scheduler)

    def _is_ready(self, api: httpx.Client) -> bool | None:
        for child in self._beside:
            child.check()
        answer = api.get(f"/api/v1/nodes/{kubernetes.NODE_NAME}")
        if not answer.is_success:
            return None
        conditions = answer.json()["status"].get("conditions", ())
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions) or None

    def load(self, archives: Sequence[Path]) -> None:
        """Have images on the node."""
        self.runtime.load(archives)

    @contextlib.contextmanager
    def without_control_plane(self) -> Iterator[None]:
        """etcd, API server, controllers and scheduler are away, as after a crash of their machine, and come back."""
        plane = self.plane
        for child in (self.scheduler, plane.controller_manager, plane.api_server, plane.etcd):
            child.kill()
        try:
            yield
        finally:
            plane.start_etcd()
            plane.start_api_server()
            plane.controller_manager.start()
            self.scheduler.start()


@contextlib.contextmanager
def open_node(folder: Path, *, say: Say = lambda line: None) -> Iterator[Node]:
    """Bring up a control plane and a node in the namespaces that `isolation.enter` made.

    Parameters
    ----------
    folder
        An empty one, for everything that is written.

    Raises
    ------
    NodeUnavailable
        Something that it needs is not here.
    """
    room = isolation.inside()
    if room is None:
        raise NodeUnavailable("not in namespaces of its own: start it by `make e2e` or `make node`")
    try:
        found = {name: obtain(name) for name in (*CONTROL_PLANE, *NODE)}
        busybox = packages.busybox(say=say)
    except NoBinary as error:
        raise NodeUnavailable(str(error)) from error
    started = time.monotonic()
    network.bring_up()
    programs = Programs(
        etcd=found["etcd"],
        api_server=found["kube-apiserver"],
        controller_manager=found["kube-controller-manager"],
    )
    with control_plane(programs, folder, kubernetes.SETTING) as plane:
        runtime = ContainerRuntime(
            plane.directory, plugins_config=network.write_plugins_config(folder / "cni"), leash=plane.leash
        )
        node = Node(
            cluster=TestCluster(
                kubeconfig=plane.admin.write(folder / "kubeconfig.yaml"),
                kubectl=found["kubectl"],
                directory=folder,
                plane=plane,
            ),
            plane=plane,
            runtime=runtime,
            kubelet=kubernetes.kubelet(found["kubelet"], plane, cgroup=isolation.cgroup_of(room)),
            kube_proxy=kubernetes.kube_proxy(found["kube-proxy"], plane),
            scheduler=kubernetes.kube_scheduler(found["kube-scheduler"], plane),
        )
        try:
            _bring_up(node, busybox, folder)
            say(f"the node is Ready after {time.monotonic() - started:.1f} s")
            yield node
        finally:
            node.end()


def _bring_up(node: Node, busybox: Path, folder: Path) -> None:
    try:
        node.start()
    except (ProcessEnded, TimeoutError) as error:
        raise NodeUnavailable(f"the node did not come up: {error}\n{node.kubelet.tail()}") from error
    pause = folder / "pause.tar"
    write_pause_image(busybox, pause)
    node.load([pause])
