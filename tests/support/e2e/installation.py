"""A release of the chart in a namespace of a real cluster: its pods, what they say, helm's and kubectl's hands on it.

Separate from `tests/support/chart/release.py`, whose pods never run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.support.chart.helm import CHART, RELEASE, Helm
from tests.support.cluster import TestCluster
from tests.support.cluster.processes import wait_for
from tests.support.pods.kube import Kube, Object

NAMESPACE = "voices"
FLEET = "segue-default"
OPERATOR = "segue-operator"
FLEET_PODS = "segue.dev/fleet=default"
OPERATOR_PODS = "app.kubernetes.io/component=operator"
READY_S = 180.0
LEASE_S = 15.0


@dataclass(frozen=True, slots=True)
class Pod:
    """A Pod object."""

    body: Object

    @property
    def name(self) -> str:
        """Of the object."""
        return str(self.body["metadata"]["name"])

    @property
    def uid(self) -> str:
        """Of the object."""
        return str(self.body["metadata"]["uid"])

    @property
    def ready(self) -> bool:
        """Whether Services send it listeners."""
        conditions = self.body["status"].get("conditions", ())
        is_ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
        return is_ready and "deletionTimestamp" not in self.body["metadata"]

    def container(self, name: str) -> dict[str, Any]:
        """Its status, native sidecars among them."""
        status = self.body["status"]
        statuses = (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ()))
        return next(each for each in statuses if each["name"] == name)

    def container_id(self, name: str) -> str:
        """As the container runtime has it, without its scheme."""
        return str(self.container(name)["containerID"]).rpartition("//")[2]

    def restarts(self, name: str) -> int:
        """Of a container."""
        return int(self.container(name)["restartCount"])


class Installation:
    """The release `segue`."""

    def __init__(self, helm: Helm, cluster: TestCluster, kube: Kube, *, namespace: str = NAMESPACE) -> None:
        self.cluster = cluster
        self.kube = kube
        self.namespace = namespace
        self._helm = replace(helm, kubeconfig=cluster.kubeconfig)

    # --- helm -----------------------------------------------------------------------------------------------------

    def upgrade(self, *settings: str, chart: Path = CHART) -> None:
        """Install it, or bring it up to date, and wait until everything is Ready."""
        place = ("--namespace", self.namespace, "--create-namespace", "--wait", f"--timeout={READY_S:g}s")
        self._helm.run("upgrade", "--install", RELEASE, str(chart), *place, *settings, within_s=READY_S + 30)

    def exists(self) -> bool:
        """Whether helm knows it."""
        done = self._helm.run("status", RELEASE, "--namespace", self.namespace, check=False)
        return done.returncode == 0

    def uninstall(self) -> None:
        """And wait until its objects are gone."""
        place = ("--namespace", self.namespace, "--wait", f"--timeout={READY_S:g}s")
        self._helm.run("uninstall", RELEASE, *place, within_s=READY_S + 30)

    # --- kubectl --------------------------------------------------------------------------------------------------

    def kubectl(self, *arguments: str, input: str | None = None) -> str:
        """Run it in the namespace; its stdout."""
        return str(self.cluster.kubectl("-n", self.namespace, *arguments, input=input).stdout)

    def pods(self, selector: str = FLEET_PODS) -> list[Pod]:
        """Those that are not ending first."""
        query = f"/api/v1/namespaces/{self.namespace}/pods?labelSelector={selector}"
        found = [Pod(body) for body in self.kube.list(query)]
        return sorted(found, key=lambda pod: ("deletionTimestamp" in pod.body["metadata"], pod.name))

    def pod(self, name: str) -> Pod:
        """One that exists."""
        body = self.kube.get(f"/api/v1/namespaces/{self.namespace}/pods/{name}")
        assert body is not None, f"there is no pod {name}"
        return Pod(body)

    def wait_ready(self, *, pods: int = 2, selector: str = FLEET_PODS, within_s: float = READY_S) -> list[Pod]:
        """Until exactly so many pods exist, and all are Ready."""

        def ready() -> list[Pod] | None:
            found = self.pods(selector)
            return found if len(found) == pods and all(pod.ready for pod in found) else None

        what = f"{pods} pods of {selector} are Ready"
        return wait_for(ready, within_s=within_s, what=what, now=lambda: self._told(selector))

    def wait_pod(self, name: str, reached: Callable[[Pod], bool], *, what: str, within_s: float = READY_S) -> Pod:
        """Until it is so of one pod."""

        def look() -> Pod | None:
            found = self.pod(name)
            return found if reached(found) else None

        return wait_for(look, within_s=within_s, what=f"{name}: {what}")

    def _told(self, selector: str) -> str:
        return self.kubectl("get", "pods", "-l", selector, "-o", "wide")

    def figures(self, pod: str, port: int) -> dict[str, float]:
        """`/metrics` of a pod: series to value, asked through the API server."""
        text = self.kubectl("get", "--raw", f"/api/v1/namespaces/{self.namespace}/pods/{pod}:{port}/proxy/metrics")
        lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {series: float(value) for series, _, value in lines}

    def restart(self, deployment: str) -> None:
        """`kubectl rollout restart`, and wait until it is over."""
        self.kubectl("rollout", "restart", f"deployment/{deployment}")
        wait_for(lambda: self._rolled_out(deployment), within_s=READY_S, what=f"{deployment} is rolled out")

    def scale(self, deployment: str, replicas: int) -> None:
        """`kubectl scale`; nothing is waited for."""
        self.kubectl("scale", f"deployment/{deployment}", f"--replicas={replicas}")

    def _rolled_out(self, deployment: str) -> bool | None:
        body = json.loads(self.kubectl("get", "deployment", deployment, "-o", "json"))
        status, wanted = body.get("status", {}), body["spec"]["replicas"]
        is_seen = status.get("observedGeneration") == body["metadata"]["generation"]
        counts = (status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas"))
        return (is_seen and all(count == wanted for count in counts)) or None


def left_behind(cluster: TestCluster, namespace: str, *, but: Sequence[str] = ()) -> list[str]:
    """Everything that is in a namespace, as `kind/name`, but for what Kubernetes itself puts into each."""
    kinds = str(cluster.kubectl("api-resources", "--namespaced", "--verbs=list", "-o", "name").stdout).split()
    ours = [kind for kind in kinds if not kind.startswith("events")]
    listed = cluster.kubectl("-n", namespace, "get", ",".join(ours), "-o", "name", "--ignore-not-found").stdout
    usual = {"configmap/kube-root-ca.crt", "serviceaccount/default", *but}
    return sorted(set(str(listed).split()) - usual)
