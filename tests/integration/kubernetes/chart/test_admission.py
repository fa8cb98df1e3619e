"""Every object of every tested installation is taken by a real API server, and every pod by the restricted profile."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.chart.helm import CASES, CHART, Helm, case_name
from tests.support.chart.rendering import Body, Rendering
from tests.support.cluster import TestCluster

pytestmark = pytest.mark.cluster

RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"
DEFAULT = CHART / "ci" / "default-values.yaml"


@pytest.fixture(scope="module")
def namespace(full_cluster: TestCluster) -> str:
    """One that enforces the restricted profile."""
    name = full_cluster.new_namespace("chart")
    full_cluster.kubectl("label", "namespace", name, RESTRICTED)
    return name


@pytest.fixture(params=CASES, ids=case_name)
def case(request: pytest.FixtureRequest) -> Path:
    """The values of an installation."""
    path: Path = request.param
    return path


def as_list(bodies: list[Body]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": bodies})


def moved(rendering: Rendering, cluster: TestCluster, home: str) -> list[Body]:
    """All objects, those for other namespaces in fresh ones: nothing touches a namespace that we did not make."""
    places = {home: home}
    bodies = []
    for each in rendering.objects:
        body = copy.deepcopy(each)
        place = body["metadata"].get("namespace")
        if place is not None:
            if place not in places:
                places[place] = cluster.new_namespace(place)
            body["metadata"]["namespace"] = places[place]
        bodies.append(body)
    return bodies


def test_the_api_server_takes_every_object(helm: Helm, full_cluster: TestCluster, namespace: str, case: Path) -> None:
    bodies = moved(helm.render(case, namespace=namespace), full_cluster, namespace)
    dry = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-")
    done = full_cluster.kubectl(*dry, input=as_list(bodies))
    taken = [line for line in done.stdout.splitlines() if line.endswith("serverside-applied (server dry run)")]
    assert len(taken) == len(bodies), done.stdout
    assert "Warning" not in done.stderr


def test_a_field_that_is_not_there_is_found(helm: Helm, full_cluster: TestCluster, namespace: str) -> None:
    """The test above can fail, for kinds of others too."""
    rendering = helm.render(CHART / "ci" / "cert-manager-values.yaml", namespace=namespace)
    for kind in ("Deployment", "Certificate"):
        body = copy.deepcopy(rendering.of(kind)[0])
        body["spec"]["replica"] = 2
        dry = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
        done = full_cluster.kubectl(*dry, input=json.dumps(body), check=False)
        assert done.returncode != 0
        assert "replica" in done.stderr


def pods(rendering: Rendering, namespace: str) -> list[Body]:
    """One of each Deployment, as its controller would make it."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                **each["spec"]["template"]["metadata"],
                "name": each["metadata"]["name"],
                "namespace": namespace,
            },
            "spec": each["spec"]["template"]["spec"],
        }
        for each in rendering.of("Deployment")
    ]


@pytest.fixture
def surroundings(helm: Helm, full_cluster: TestCluster, namespace: str, case: Path) -> Iterator[list[Body]]:
    """The pods of an installation, while what a pod is refused without is really there: accounts and priorities."""
    found = pods(helm.render(case, namespace=namespace), namespace)
    accounts = {each["spec"]["serviceAccountName"] for each in found}
    classes = {each["spec"]["priorityClassName"] for each in found if "priorityClassName" in each["spec"]}
    needed: list[Body] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}
        for name in accounts
    ]
    needed += [
        {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": 1}
        for name in classes
    ]
    full_cluster.kubectl("apply", "-f", "-", input=as_list(needed))
    yield found
    full_cluster.kubectl("delete", "--ignore-not-found", "-f", "-", input=as_list(needed))


def test_every_pod_is_admitted_under_the_restricted_profile(
    full_cluster: TestCluster, surroundings: list[Body]
) -> None:
    assert surroundings
    for pod in surroundings:
        done = full_cluster.kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", input=json.dumps(pod))
        assert "created (server dry run)" in done.stdout
        assert "Warning" not in done.stderr


def test_the_profile_is_enforced(helm: Helm, full_cluster: TestCluster, namespace: str) -> None:
    """The test above can fail."""
    (pod, *_) = pods(helm.render(DEFAULT, namespace=namespace), namespace)
    pod["spec"] = copy.deepcopy(pod["spec"])
    pod["spec"]["serviceAccountName"] = "default"
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    done = full_cluster.kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(pod), check=False)
    assert done.returncode != 0
    assert 'violates PodSecurity "restricted' in done.stderr
