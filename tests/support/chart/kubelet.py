"""What a kubelet does with a Deployment of the chart, as plain processes: volumes, environment, commands, probes.

Everything is taken from the objects that lie in the API server: a volume that is missing there, a path that is not
mounted, a port that nobody listens on, a probe that asks elsewhere are found as on a node. What is different: the paths
of a container are folders of ours, an address of loopback takes the place of the pod's, and all processes are one user.
"""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import httpx
from ruamel.yaml import YAML
from tests.support.chart.rendering import Body
from tests.support.pods.kube import CORE, Kube
from tests.support.running import eventually

ANYWHERE = "0.0.0.0"
START_S, STOP_S = 90.0, 20.0


@dataclass(slots=True, kw_only=True)
class ChartPod:
    """One pod of a Deployment.

    Attributes
    ----------
    address
        Of loopback; what the containers listen on.
    environment
        Of all containers, beside their own: what on a node the API server's address and token are.
    """

    kube: Kube
    deployment: Body
    name: str
    address: str
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    _object: Body = field(default_factory=dict)
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        """Its own."""
        return str(self.deployment["metadata"]["namespace"])

    @property
    def spec(self) -> Body:
        """As the API server has it, with its defaults."""
        spec: Body = self._object["spec"]
        return spec

    # --- life ---------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Create the object, mount, start one container after the other, and say that it is ready."""
        template = self.deployment["spec"]["template"]
        metadata = {**template["metadata"], "name": self.name}
        body = {"metadata": metadata, "spec": {**template["spec"], "nodeName": "segue-chart"}}
        self._object = self.kube.create(f"{CORE}/namespaces/{self.namespace}/pods", body)
        for volume in self.spec["volumes"]:
            self._mount(volume)
        for container in (*self.spec.get("initContainers", ()), *self.spec["containers"]):
            self._start(container)
            self._await(container, "startupProbe")
        for container in self.spec["containers"]:
            self._await(container, "readinessProbe")
        self._tell_ready()

    def end(self) -> None:
        """SIGTERM to the containers, the native sidecar last; the object goes."""
        for name in reversed(list(self._processes)):
            process = self._processes.pop(name)
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.kube.delete(f"{CORE}/namespaces/{self.namespace}/pods/{self.name}", grace_s=0)

    def port(self, name: str) -> int:
        """The open port of that name."""
        containers = (*self.spec.get("initContainers", ()), *self.spec["containers"])
        (found,) = (port for each in containers for port in each.get("ports", ()) if port["name"] == name)
        return int(found["containerPort"])

    def log(self, container: str) -> str:
        """What a container said."""
        return (self.directory / f"{container}.log").read_text(errors="replace")

    # --- volumes ------------------------------------------------------------------------------------------------------

    def _folder(self, volume: str) -> Path:
        return self.directory / volume

    def _mount(self, volume: Body) -> None:
        folder = self._folder(volume["name"])
        folder.mkdir()
        match volume:
            case {"configMap": source}:
                self._write(folder, self._data("configmaps", source["name"]), source.get("items"))
            case {"secret": source}:
                self._write(folder, self._data("secrets", source["secretName"]), source.get("items"))
            case {"projected": {"sources": sources}}:
                optional = (each["configMap"] for each in sources if "configMap" in each)
                assert all(each["optional"] for each in optional if self._data("configmaps", each["name"]) is None)
            case {"emptyDir": _}:
                pass
            case _:
                raise AssertionError(f"a kubelet of the tests mounts no {volume}")

    def _data(self, kind: str, name: str) -> dict[str, bytes] | None:
        found = self.kube.get(f"{CORE}/namespaces/{self.namespace}/{kind}/{name}")
        if found is None:
            return None
        decode = base64.b64decode if kind == "secrets" else str.encode
        return {key: decode(value) for key, value in (found.get("data") or {}).items()}

    def _write(self, folder: Path, data: dict[str, bytes] | None, items: list[Body] | None) -> None:
        assert data is not None, f"what is mounted as {folder.name} does not exist"
        chosen = {each["path"]: data[each["key"]] for each in items} if items else data
        for name, content in chosen.items():
            (folder / name).write_bytes(content)

    # --- containers ---------------------------------------------------------------------------------------------------

    def _start(self, container: Body) -> None:
        mounts = {each["mountPath"]: self._folder(each["name"]) for each in container["volumeMounts"]}
        program, *arguments = container["command"]
        assert program == "python"
        command = [sys.executable, *(self._translated(each, mounts) for each in arguments)]
        variables = {each["name"]: self._translated(self._value(each), mounts) for each in container.get("env", ())}
        environment = {"PATH": os.environ.get("PATH", ""), **self.environment, **variables}
        with (self.directory / f"{container['name']}.log").open("ab") as log:
            self._processes[container["name"]] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
            )

    def _translated(self, text: str, mounts: Mapping[str, Path]) -> str:
        """A path in the container as one of this machine; a configuration file with all of its paths, too."""
        for place, folder in mounts.items():
            if PurePosixPath(text).is_relative_to(place):
                path = folder / PurePosixPath(text).relative_to(place)
                return str(self._translated_file(path, mounts) if path.suffix == ".yaml" else path)
        return text

    def _translated_file(self, path: Path, mounts: Mapping[str, Path]) -> Path:
        document = self._translated_node(YAML(typ="safe").load(path.read_text(encoding="utf-8")), mounts)
        made = path.with_suffix(".translated.yml")
        with made.open("w", encoding="utf-8") as stream:
            YAML(typ="safe").dump(document, stream)
        return made

    def _translated_node(self, node: Any, mounts: Mapping[str, Path]) -> Any:
        if isinstance(node, dict):
            return {key: self._translated_node(value, mounts) for key, value in node.items()}
        if isinstance(node, list):
            return [self._translated_node(value, mounts) for value in node]
        if isinstance(node, str):
            return self._translated(node.replace(ANYWHERE, self.address), mounts)
        return node

    def _value(self, variable: Body) -> str:
        if "value" in variable:
            return str(variable["value"])
        field_path = variable["valueFrom"]["fieldRef"]["fieldPath"]
        return str(self._object["metadata"][field_path.removeprefix("metadata.")])

    # --- probes and status --------------------------------------------------------------------------------------------

    def _await(self, container: Body, probe: str) -> None:
        name = container["name"]
        asked = container[probe]["httpGet"]
        url = f"http://{self.address}:{self.port(asked['port'])}{asked['path']}"
        eventually(lambda: self._passes(name, url), within_s=START_S, what=f"{probe} of {name} at {url}")

    def _passes(self, name: str, url: str) -> bool:
        code = self._processes[name].poll()
        if code is not None:
            raise SystemExit(f"{name} ended with {code}: {self.log(name)[-2000:]}")
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(url, timeout=2, trust_env=False).is_success
        return False

    def _tell_ready(self) -> None:
        condition = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        address = {"podIP": self.address, "podIPs": [{"ip": self.address}]}
        status = {"phase": "Running", **address, "conditions": [condition]}
        self.kube.patch(f"{CORE}/namespaces/{self.namespace}/pods/{self.name}/status", {"status": status})


@contextlib.contextmanager
def running(pod: ChartPod) -> Iterator[ChartPod]:
    """A pod that runs, and is gone afterwards."""
    pod.directory.mkdir()
    try:
        pod.run()
        yield pod
    finally:
        pod.end()
