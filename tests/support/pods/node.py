"""What a kubelet does for the pods of the suite: probes, status, mounted ConfigMaps, the end of deleted pods.

Separate from the pods because this is the part that speaks with the API server, and that a test must be able to trust
to be dull: no decision is made here that a kubelet would not make.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
from tests.support.pods.kube import CORE, Gone, Kube, Object, Unavailable
from tests.support.pods.pod import PodProcess

from segue.desired import SHARDS, config_map_name

TURN_S = 0.4
FAILURES_TO_UNREADY = 2
PRE_STOP_S = 1.0
"""A server that drains refuses new requests, and endpoints change before those who balance know it."""

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Node:
    """All pods of one namespace.

    Attributes
    ----------
    on_endpoints
        Called with the pods that are Ready and not terminating whenever that changes: what an EndpointSlice says.
    """

    kube: Kube
    namespace: str
    on_endpoints: Callable[[tuple[PodProcess, ...]], None]
    pods: dict[str, PodProcess] = field(default_factory=dict)
    _told: dict[str, bool] = field(default_factory=dict)
    _failures: dict[str, int] = field(default_factory=dict)
    _endpoints: tuple[str, ...] = ()
    _ending: set[asyncio.Task[None]] = field(default_factory=set)
    _mounts: itertools.count[int] = field(default_factory=itertools.count)

    async def run(self) -> None:
        """Turn after turn, whatever the API server does."""
        while True:
            try:
                await self._turn()
            except (httpx.TransportError, Unavailable) as error:
                logger.info("the API server is away: %s", error)
            await asyncio.sleep(TURN_S)

    async def _turn(self) -> None:
        await asyncio.gather(*(self._probe(pod) for pod in list(self.pods.values())))
        await self._end_deleted()
        await asyncio.to_thread(self.mount_all)

    async def _probe(self, pod: PodProcess) -> None:
        passed = await pod.ready()
        self._failures[pod.name] = 0 if passed else self._failures.get(pod.name, 0) + 1
        told = self._told.get(pod.name, False)
        ready = passed or (told and self._failures[pod.name] < FAILURES_TO_UNREADY)
        if pod.running and not pod.leaving and (ready != told or pod.name not in self._told):
            await asyncio.to_thread(self._tell, pod, ready)
            self._told[pod.name] = ready
        self.announce()

    def _tell(self, pod: PodProcess, ready: bool) -> None:
        since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        with contextlib.suppress(Gone):
            self.kube.patch(f"{self._path(pod.name)}/status", {"status": pod.manifest_status(ready=ready, since=since)})

    def announce(self) -> None:
        """Tell who balances requests, where the endpoints changed."""
        found = tuple(sorted(n for n, pod in self.pods.items() if self._told.get(n) and not pod.leaving))
        if found != self._endpoints:
            self._endpoints = found
            self.on_endpoints(tuple(self.pods[name] for name in found))

    def is_ready(self, name: str) -> bool:
        """Whether the Pod object says so."""
        return self._told.get(name, False)

    async def restart(self, pod: PodProcess) -> None:
        """End both containers and begin them again; returns when they run, which is before the pod is Ready."""
        await self._withdraw(pod)
        await asyncio.to_thread(self._tell, pod, False)
        self._told[pod.name] = False
        await pod.stop()
        await pod.start()
        pod.leaving = False

    async def _withdraw(self, pod: PodProcess) -> None:
        """No endpoint from now on; what was sent to it already arrives while its preStop hook sleeps."""
        pod.leaving = True
        self.announce()
        await asyncio.sleep(PRE_STOP_S)

    # --- deletion -----------------------------------------------------------------------------------------------------

    async def _end_deleted(self) -> None:
        listed = {each["metadata"]["name"]: each for each in await asyncio.to_thread(self._list_pods)}
        for pod in list(self.pods.values()):
            found = listed.get(pod.name)
            is_deleted = found is None or found["metadata"]["uid"] != pod.uid or _terminating(found)
            if is_deleted and not pod.leaving:
                pod.leaving = True
                task = asyncio.create_task(self._end(pod), name=f"end {pod.name}")
                self._ending.add(task)
                task.add_done_callback(self._ending.discard)

    def _list_pods(self) -> list[Object]:
        return self.kube.list(f"{CORE}/namespaces/{self.namespace}/pods")

    async def _end(self, pod: PodProcess) -> None:
        await self._withdraw(pod)
        await pod.stop()
        while pod.name in self.pods:
            try:
                await asyncio.to_thread(self.kube.delete, self._path(pod.name), grace_s=0)
                self.forget(pod)
            except (httpx.TransportError, Unavailable):
                await asyncio.sleep(TURN_S)

    def forget(self, pod: PodProcess) -> None:
        """Its object and its processes are gone."""
        self.pods.pop(pod.name, None)
        self._told.pop(pod.name, None)
        self._failures.pop(pod.name, None)

    def _path(self, name: str) -> str:
        return f"{CORE}/namespaces/{self.namespace}/pods/{name}"

    # --- the desired set ----------------------------------------------------------------------------------------------

    def mount_all(self) -> None:
        """Bring every pod's projected volume up to what the ConfigMaps say."""
        fleets = {pod.plan.fleet for pod in self.pods.values()}
        content = {fleet: self._desired(fleet) for fleet in fleets}
        for pod in list(self.pods.values()):
            self._mount(pod.desired, content[pod.plan.fleet])

    def _desired(self, fleet: str) -> dict[str, str]:
        names = {config_map_name(fleet, shard) for shard in range(SHARDS)}
        found = self.kube.list(f"{CORE}/namespaces/{self.namespace}/configmaps")
        shards = [each for each in found if each["metadata"]["name"] in names]
        return {key: text for each in shards for key, text in (each.get("data") or {}).items()}

    def _mount(self, directory: Path, content: dict[str, str]) -> None:
        """As a kubelet writes a volume: a new folder, then one rename of the link `..data`."""
        current = directory / "..data"
        before = {path.name: path.read_text() for path in current.iterdir()} if current.exists() else None
        if before == content or not directory.parent.exists():
            return
        directory.mkdir(exist_ok=True)
        fresh = directory / f"..{next(self._mounts)}"
        fresh.mkdir()
        for key, text in content.items():
            (fresh / key).write_text(text)
        stale = current.resolve() if current.exists() else None
        (directory / "..data_tmp").symlink_to(fresh.name)
        (directory / "..data_tmp").replace(current)
        self._link_keys(directory, set(content))
        if stale is not None:
            shutil.rmtree(stale)

    def _link_keys(self, directory: Path, keys: set[str]) -> None:
        links = {path.name for path in directory.iterdir() if path.is_symlink() and not path.name.startswith("..")}
        for key in keys - links:
            (directory / key).symlink_to(os.path.join("..data", key))  # noqa: PTH118 - a relative link
        for key in links - keys:
            (directory / key).unlink()


def _terminating(found: Object) -> bool:
    return "deletionTimestamp" in found["metadata"]
