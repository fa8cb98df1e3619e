"""A privileged pod that does to containers what only their machine can: kill them, starve them, count their memory.

A pod and not a call of the container runtime, so that the same hand works in every cluster that lets it in. It sees all
processes of its node; a container is found by its id in their cgroups.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.support.cluster import TestCluster

NAMESPACE = "segue-surgery"
POD = "surgeon"

_SCRIPT = r"""
import json, os, pathlib, signal, sys

deed, container = sys.argv[1:3]

def first_process():
    for entry in sorted(pathlib.Path("/proc").iterdir(), key=lambda path: path.name):
        if not entry.name.isdigit():
            continue
        try:
            if container not in (entry / "cgroup").read_text():
                continue
            inner = next(l for l in (entry / "status").read_text().splitlines() if l.startswith("NSpid:")).split()
        except (OSError, StopIteration):
            continue
        if inner[-1] == "1":
            return int(entry.name)
    sys.exit(f"no first process of container {container}")

def cgroup(pid):
    for line in pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in ("memory", ""):
            root = "/host/cgroup/memory" if controllers else "/host/cgroup"
            yield pathlib.Path(root) / path.lstrip("/").replace("../", "")

pid = first_process()
if deed == "kill":
    os.kill(pid, signal.SIGKILL)
elif deed == "expose":
    pathlib.Path(f"/proc/{pid}/oom_score_adj").write_text("1000")
elif deed == "shared":
    pod = next(path for path in cgroup(pid) if (path / "memory.stat").exists()).parent
    stat = dict(line.split() for line in (pod / "memory.stat").read_text().splitlines())
    print(json.dumps({"shmem": int(stat.get("total_shmem", stat.get("shmem", 0)))}))
"""

_HOG = r"""
import os
fd = os.memfd_create("hog")
block = b"\1" * (1 << 22)
while True:
    os.write(fd, block)
"""
"""Memory that is charged to the container and to no process: so the process that the kernel picks is not this one."""


@dataclass(frozen=True, slots=True)
class Surgeon:
    """At work in one cluster."""

    cluster: TestCluster

    def arrive(self, image: str) -> None:
        """Make the pod, from an image with Python, and wait until it runs."""
        self.cluster.kubectl("create", "namespace", NAMESPACE, check=False)
        self.cluster.kubectl("apply", "-f", "-", input=json.dumps(_pod(image)))
        self.cluster.kubectl("-n", NAMESPACE, "wait", f"pod/{POD}", "--for=condition=Ready", "--timeout=55s")

    def leave(self) -> None:
        """Take it away; nothing is waited for."""
        self.cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false")

    def kill(self, container_id: str) -> None:
        """SIGKILL to a container's first process, and so to all of them."""
        self._do("kill", container_id)

    def shared_bytes(self, container_id: str) -> int:
        """Shared memory (memfds and memory-backed volumes) that is charged to the pod of a container."""
        found: dict[str, Any] = json.loads(self._do("shared", container_id))
        return int(found["shmem"])

    def exhaust(self, container_id: str, *, namespace: str, pod: str, container: str) -> None:
        """Fill a container's memory limit, and have the kernel kill its first process for it."""
        self._do("expose", container_id)
        place = ("-n", namespace, "exec", pod, "-c", container, "--")
        self.cluster.kubectl(*place, "python", "-c", _HOG, check=False)

    def _do(self, deed: str, container_id: str) -> str:
        place = ("-n", NAMESPACE, "exec", POD, "--")
        return str(self.cluster.kubectl(*place, "python", "-c", _SCRIPT, deed, container_id).stdout)


def _pod(image: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": POD, "namespace": NAMESPACE},
        "spec": {
            "hostPID": True,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "containers": [
                {
                    "name": POD,
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python", "-c", "import signal; signal.pause()"],
                    "securityContext": {"privileged": True, "runAsUser": 0},
                    "volumeMounts": [{"name": "cgroup", "mountPath": "/host/cgroup", "readOnly": True}],
                }
            ],
            "volumes": [{"name": "cgroup", "hostPath": {"path": "/sys/fs/cgroup"}}],
        },
    }
