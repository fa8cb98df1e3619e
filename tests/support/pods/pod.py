"""A pod without a container: real sidecar and server on a loopback address of their own.

Separate from the kubelet (`node.py`), which says of a pod what a kubelet says; here are the two processes, and what
befalls them: they die, hang, are started again. The order of a start is that of a native sidecar: the server begins
when the sidecar's startup probe (`/readyz`: every voice of the desired set speaks) has passed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import httpx
from bench.harness import free_ports, override_config

from segue.control import SidecarClient
from segue.errors import ControlUnreachable
from segue.tls import KeyPairFiles, client_context, sidecar_name
from segue.wire import StateDocument
from segue_cli.layout import Layout
from segue_cli.measure.processes import descendants
from segue_cli.up.configs import Plan, ready_file, write_pod_configs
from segue_cli.up.service import Service

FLEET = "default"
FLEET_LABEL = "segue.dev/fleet"
CONTROL_PORT_NAME = "segue-control"
BUDGET_BYTES = 512 << 20
START_S = 90.0
STOP_S = 15.0
PROBE_S = 1.0


class Container(StrEnum):
    """The two of a pod."""

    SIDECAR = "sidecar"
    SERVER = "server"


@dataclass(slots=True, kw_only=True)
class PodProcess:
    """One pod's processes. All methods that are coroutines run backstage.

    Attributes
    ----------
    uid
        Of the Pod object; it exists before the processes do.
    """

    name: str
    uid: str
    plan: Plan
    sidecar_tls: Path
    operator_tls: KeyPairFiles
    settings: Mapping[str, Any] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    leaving: bool = False
    _services: dict[Container, Service] = field(default_factory=dict)
    _tasks: dict[Container, asyncio.Task[None]] = field(default_factory=dict)
    _client: SidecarClient | None = None

    @property
    def address(self) -> str:
        """Its own."""
        return self.plan.own_address

    @property
    def port(self) -> int:
        """Of the speech API."""
        return self.plan.port

    @property
    def desired(self) -> Path:
        """Where the desired set is mounted."""
        return self.plan.layout.root / "desired"

    @property
    def running(self) -> bool:
        """Whether its server was started."""
        return Container.SERVER in self._tasks

    # --- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Sidecar, its startup probe, server."""
        self.plan.layout.create()
        self.desired.mkdir(exist_ok=True)
        write_pod_configs(self.plan, sidecar_tls=self.sidecar_tls)
        override_config(self.plan.sidecar_config, {"desiredDirectory": str(self.desired), **self.settings})
        override_config(self.plan.server_config, {"defaultNamespace": self.plan.namespace, "drainSeconds": 10})
        await self._run(Container.SIDECAR)
        await self._until(lambda: self._answers(self.plan.sidecar_status_port), what="the sidecar's startup probe")
        await self._run(Container.SERVER)

    async def stop(self) -> None:
        """The server drains, then the sidecar ends."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()
        for container in (Container.SERVER, Container.SIDECAR):
            task = self._tasks.pop(container, None)
            if task is not None:
                self._signal(container, signal.SIGCONT)
                self._services[container].stop.set()
                await task

    async def ready(self) -> bool:
        """The server's readiness probe."""
        return self.running and await self._answers(self.plan.status_port)

    async def _run(self, container: Container) -> None:
        config = self.plan.sidecar_config if container is Container.SIDECAR else self.plan.server_config
        layout = self.plan.layout
        service = self._services[container] = Service(
            name=container.value,
            argv=[sys.executable, "-m", f"segue_{container.value}", "--config", str(config)],
            ready_file=ready_file(layout, container.value),
            log_file=layout.logs / f"{container.value}.log",
            stop_within_s=STOP_S,
            keep_fd=2,
            say=self.said.append,
        )
        self._tasks[container] = asyncio.create_task(service.run(), name=f"{self.name} {container}")
        try:
            async with asyncio.timeout(START_S):
                await service.wait_ready()
        except TimeoutError as error:
            raise AssertionError(f"{container} of {self.name} did not start: {self.tail(container)}") from error

    async def _answers(self, port: int) -> bool:
        """Whether `/readyz` on one of its ports says 200."""
        try:
            async with httpx.AsyncClient(timeout=PROBE_S, trust_env=False, verify=False) as client:
                found = await client.get(f"http://{self.address}:{port}/readyz")
        except httpx.TransportError:
            return False
        return found.is_success

    async def _until(self, probe: Callable[[], Any], *, what: str) -> None:
        try:
            async with asyncio.timeout(START_S):
                while not await probe():  # noqa: ASYNC110 - another process becomes ready
                    await asyncio.sleep(0.1)
        except TimeoutError as error:
            raise AssertionError(f"{self.name}: {what} did not pass: {self.tail(Container.SIDECAR)}") from error

    # --- what befalls it ----------------------------------------------------------------------------------------------

    def pid(self, container: Container) -> int:
        """Of the container's main process."""
        pid = self._services[container].pid
        assert pid is not None, f"{container} of {self.name} does not run: {self.said[-3:]}"
        return pid

    def kill(self, container: Container) -> None:
        """SIGKILL; the kubelet starts it again."""
        os.kill(self.pid(container), signal.SIGKILL)

    def hang(self, *containers: Container) -> None:
        """SIGSTOP to the processes of these containers, children first."""
        for container in containers:
            self._signal(container, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT to all of it."""
        for container in Container:
            self._signal(container, signal.SIGCONT)

    def _signal(self, container: Container, number: signal.Signals) -> None:
        service = self._services.get(container)
        if service is None or service.pid is None:
            return
        for pid in (*reversed(descendants(service.pid)), service.pid):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def is_back(self, container: Container, *, after: int) -> bool:
        """Whether another process than that of pid `after` runs and serves."""
        service = self._services[container]
        return service.pid not in (None, after) and service.ready() is not None

    # --- looking ------------------------------------------------------------------------------------------------------

    async def state(self) -> StateDocument | None:
        """What the sidecar holds; None while it is out of reach. Read without a term: looking is no contact."""
        if self._client is None:
            name = sidecar_name(fleet=self.plan.fleet, namespace=self.plan.namespace)
            url = f"https://{self.address}:{self.plan.control_port}"
            tls = client_context(self.operator_tls, server_name=name)
            self._client = SidecarClient(url, pod_uid=self.uid, tls=tls)
        try:
            return await self._client.state()
        except ControlUnreachable:
            return None

    def tail(self, container: Container) -> str:
        """The end of its log."""
        log = self.plan.layout.logs / f"{container.value}.log"
        return log.read_text(errors="replace")[-3000:] if log.exists() else "no log"

    def manifest_status(self, *, ready: bool, since: str) -> dict[str, Any]:
        """`status` of the Pod object, as a kubelet writes it."""
        conditions = [
            {"type": kind, "status": "True" if value else "False", "lastTransitionTime": since}
            for kind, value in (
                ("PodScheduled", True),
                ("Initialized", True),
                ("ContainersReady", ready),
                ("Ready", ready),
            )
        ]
        return {
            "phase": "Running",
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "startTime": since,
            "conditions": conditions,
        }


def pod_manifest(name: str, namespace: str, *, control_port: int, port: int) -> dict[str, Any]:
    """The Pod object: a server, and a native sidecar with the port that the operator looks for."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {FLEET_LABEL: FLEET}},
        "spec": {
            "nodeName": "segue-suite",
            "automountServiceAccountToken": False,
            "initContainers": [
                {
                    "name": "sidecar",
                    "image": "segue/sidecar:suite",
                    "restartPolicy": "Always",
                    "ports": [{"name": CONTROL_PORT_NAME, "containerPort": control_port}],
                }
            ],
            "containers": [
                {"name": "server", "image": "segue/server:suite", "ports": [{"name": "http", "containerPort": port}]}
            ],
        },
    }


def make_plan(name: str, namespace: str, *, address: str, root: Path, voices: Path, uid: str, ports: list[int]) -> Plan:
    """Where the pod's processes are to be."""
    return Plan(
        layout=Layout(root / name),
        voices=voices,
        host=address,
        port=ports[0],
        status_port=ports[1],
        control_port=ports[2],
        sidecar_status_port=ports[3],
        pod_uid=uid,
        budget_bytes=BUDGET_BYTES,
        workers=1,
        own_address=address,
        pod_name=name,
        namespace=namespace,
        fleet=FLEET,
    )


def pick_ports(address: str) -> list[int]:
    """Four free ones of an address."""
    return free_ports(4, host=address)
