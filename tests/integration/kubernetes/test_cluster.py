"""The cluster that the other tests stand on: who may do what, outages, and that nothing of it outlives us."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from ruamel.yaml import YAML
from tests.support.cluster import ClusterUnavailable, TestCluster, open_cluster
from tests.support.cluster.access import Access
from tests.support.cluster.cluster import CONTEXT, KUBECONFIG
from tests.support.cluster.processes import wait_for

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[3]


def test_rbac_binds_users_and_service_accounts(cluster: TestCluster) -> None:
    namespace = cluster.new_namespace("rbac")
    account = cluster.kubeconfig_of_service_account(namespace, "default")
    for kubeconfig in (account, cluster.kubeconfig_of("anna", ["readers"])):
        with Access.read(kubeconfig).client() as api:
            assert api.get("/api/v1/namespaces").status_code == 403
    cluster.kubectl("create", "clusterrolebinding", namespace, "--clusterrole=view", "--group=readers")
    with Access.read(cluster.kubeconfig_of("anna", ["readers"])).client() as api:
        wait_for(lambda: api.get("/api/v1/namespaces").is_success or None, within_s=10, what="the right to read")
    cluster.kubectl("delete", "clusterrolebinding", namespace)


def test_a_pod_is_an_object_whose_status_a_test_sets(cluster: TestCluster) -> None:
    namespace = cluster.new_namespace("pods")
    spec = {"containers": [{"name": "main", "image": "none"}]}
    status = {"phase": "Running", "podIP": "127.0.0.9", "podIPs": [{"ip": "127.0.0.9"}]}
    path = f"/api/v1/namespaces/{namespace}/pods"
    with cluster.client() as api:
        assert api.post(path, json={"metadata": {"name": "pod"}, "spec": spec}).status_code == 201
        headers = {"Content-Type": "application/merge-patch+json"}
        patched = api.patch(f"{path}/pod/status", json={"status": status}, headers=headers).json()
        assert patched["status"]["podIP"] == "127.0.0.9"
        assert api.delete(f"{path}/pod", params={"gracePeriodSeconds": "0"}).is_success
        wait_for(lambda: api.get(f"{path}/pod").status_code == 404 or None, within_s=10, what="the pod is gone")


def test_an_outage_ends_where_it_began(own_cluster: TestCluster) -> None:
    namespace = own_cluster.new_namespace("outage")
    with own_cluster.client() as api:
        own_cluster.stop_api_server()
        with pytest.raises(httpx.TransportError):
            api.get("/readyz")
        own_cluster.start_api_server()
        assert api.get(f"/api/v1/namespaces/{namespace}").is_success


def test_a_frozen_api_server_does_not_answer(own_cluster: TestCluster) -> None:
    with own_cluster.client() as api:
        with own_cluster.api_server_frozen(), pytest.raises(httpx.TimeoutException):
            api.get("/readyz", timeout=0.5)
        assert api.get("/readyz").is_success


def test_the_audit_log_tells_what_somebody_did(own_cluster: TestCluster) -> None:
    with Access.read(own_cluster.kubeconfig_of("berta")).client() as api:
        api.get("/api/v1/namespaces/default/secrets")
    (event,) = wait_for(lambda: own_cluster.requests_of("berta") or None, within_s=10, what="an entry in the audit log")
    assert (event["verb"], event["objectRef"]["resource"]) == ("list", "secrets")
    assert event["responseStatus"]["code"] == 403


def test_an_existing_cluster_is_used_where_it_is_named(own_cluster: TestCluster) -> None:
    environment = {KUBECONFIG: str(own_cluster.kubeconfig), CONTEXT: "segue-test"}
    with open_cluster(environment=environment) as again:
        assert not again.owned
        namespace = again.new_namespace("elsewhere")
        with Access.read(again.kubeconfig_of("carla")).client() as api:
            assert api.get(f"/api/v1/namespaces/{namespace}").status_code == 403
        with pytest.raises(ClusterUnavailable, match="of its own"):
            again.stop_api_server()
    with own_cluster.client() as api:
        path = f"/api/v1/namespaces/{namespace}"
        wait_for(lambda: api.get(path).status_code == 404 or None, within_s=30, what="its namespaces are gone")


def test_a_cluster_whose_login_is_a_command_lends_tests_a_token_and_gets_everything_back(
    own_cluster: TestCluster, tmp_path: Path
) -> None:
    text = own_cluster.kubeconfig_of("dora", ["system:masters"]).read_text()
    given = YAML(typ="safe").load(text)
    user = given["users"][0]["user"]
    status = {
        "clientCertificateData": base64.b64decode(user.pop("client-certificate-data")).decode(),
        "clientKeyData": base64.b64decode(user.pop("client-key-data")).decode(),
    }
    version = "client.authentication.k8s.io/v1"
    said = tmp_path / "credential.json"
    said.write_text(json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status}))
    user["exec"] = {"apiVersion": version, "command": "cat", "args": [str(said)], "interactiveMode": "Never"}
    kubeconfig = tmp_path / "kubeconfig.json"
    kubeconfig.write_text(json.dumps(given))
    with open_cluster(environment={KUBECONFIG: str(kubeconfig), CONTEXT: "segue-test"}) as again:
        namespace = again.new_namespace("by-command")
        with Access.read(again.kubeconfig).client() as api:
            assert api.get(f"/api/v1/namespaces/{namespace}/secrets").is_success
    with own_cluster.client() as api:
        bindings = api.get("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings").json()["items"]
        assert not [each for each in bindings if each["metadata"]["name"].startswith("segue-tests-")]


@pytest.mark.parametrize(
    ("context", "words"), [(None, f"set both {KUBECONFIG} and {CONTEXT}"), ("production", "production is not in")]
)
def test_a_cluster_that_was_not_named_is_not_touched(own_cluster: TestCluster, context: str | None, words: str) -> None:
    environment = {KUBECONFIG: str(own_cluster.kubeconfig)} | ({CONTEXT: context} if context else {})
    with pytest.raises(ValueError, match=words), open_cluster(environment=environment):
        pytest.fail("it was opened")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_make_cluster_leaves_no_process(cluster: TestCluster, tmp_path: Path, how: signal.Signals) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    command = [sys.executable, "-m", "tests.support.cluster", "--kubeconfig", str(kubeconfig)]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"export KUBECONFIG={kubeconfig}\n"
        (directory,) = tmp_path.glob("segue-cluster-*")
        assert len(_processes_in(directory)) == 3
        with Access.read(kubeconfig).client() as api:
            assert api.get("/apis/segue.dev/v1alpha1/voicemodels").json()["items"] == []
        process.send_signal(how)
        assert process.wait(30) == (0 if how is signal.SIGINT else -how)
    wait_for(lambda: not _processes_in(directory) or None, within_s=10, what="all processes are gone")
    assert directory.exists() is (how is signal.SIGKILL)


def _processes_in(directory: Path) -> list[int]:
    """Those whose working directory is below it."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            inside = str(link.readlink()).startswith(str(directory))
        except OSError:
            continue  # ended meanwhile, or somebody else's
        found += [int(link.parent.name)] if inside else []
    return found


def test_a_cluster_is_ready_soon(cluster: TestCluster) -> None:
    started = time.monotonic()
    with open_cluster(environment={}) as second:
        took_s = time.monotonic() - started
        assert second.kubectl("get", "vmodel", "-A").returncode == 0
    assert took_s < 30
