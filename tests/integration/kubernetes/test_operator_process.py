"""The operator as a process beside a real API server, under the rights that `deploy/` ships: start, watch, stop."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from bench.harness import free_ports
from tests.support.cluster import TestCluster
from tests.support.kubernetes_bodies import manifest, spec
from tests.support.pods.kube import Kube
from tests.support.pods.operator_process import SYSTEM_NAMESPACE, OperatorProcess, holder_of
from tests.support.pods.rights import install_rights, operator_kubeconfig
from tests.support.running import eventually

from segue.tls import OPERATOR_NAME, Authority
from segue_operator.kubernetes.api import voice_path

pytestmark = [pytest.mark.cluster, pytest.mark.process]

DEPLOY = Path(__file__).parents[3] / "deploy"
SOON_S = 30.0
HANDOVER_S = 3.0


@pytest.fixture(scope="module")
def kube(cluster: TestCluster) -> Iterator[Kube]:
    install_rights(cluster)
    with cluster.client() as api:
        yield Kube(api)


@pytest.fixture
def operator(cluster: TestCluster, kube: Kube, tmp_path: Path) -> Iterator[OperatorProcess]:
    tls = Authority.create(tmp_path / "ca").issue(OPERATOR_NAME, server=False, directory=tmp_path / "tls")
    process = OperatorProcess(
        name="operator",
        directory=tmp_path,
        kubeconfig=operator_kubeconfig(cluster),
        tls=tls,
        port=free_ports(1)[0],
    )
    try:
        yield process.start_leading(kube)
    finally:
        process.end()


def apply(cluster: TestCluster, body: dict[str, Any]) -> None:
    cluster.kubectl("apply", "-f", "-", input=json.dumps(body))


def logged(operator: OperatorProcess) -> list[dict[str, Any]]:
    return [json.loads(line) for line in operator.log.read_text().splitlines()]


def status_of(kube: Kube, key: str) -> dict[str, Any]:
    return dict((kube.get(voice_path(key)) or {}).get("status") or {})


def voices_of(operator: OperatorProcess) -> int:
    """How many it follows, by its own account."""
    lines = httpx.get(f"http://127.0.0.1:{operator.port}/metrics").text.splitlines()
    return sum(int(float(line.split()[-1])) for line in lines if line.startswith("segue_operator_voices{"))


@contextlib.contextmanager
def frozen(operator: OperatorProcess) -> Iterator[None]:
    """Stopped by SIGSTOP in the block: what happens there, no watch tells."""
    operator.freeze()
    try:
        yield
    finally:
        operator.thaw()


def test_it_follows_voices_and_leaves_nothing_in_them(
    cluster: TestCluster, kube: Kube, operator: OperatorProcess
) -> None:
    namespace = cluster.new_namespace("followed")
    key = f"{namespace}/narrator"
    apply(cluster, manifest("narrator", namespace, spec("a")))
    eventually(
        lambda: status_of(kube, key).get("reason") == "NoPods", within_s=SOON_S, what="it says what it waits for"
    )

    apply(cluster, manifest("narrator", namespace, spec("a", rollout={"paused": True})))
    eventually(lambda: status_of(kube, key).get("reason") == "Paused", within_s=SOON_S, what="it follows an edit")
    metadata = (kube.get(voice_path(key)) or {})["metadata"]
    assert "finalizers" not in metadata
    assert set(metadata["annotations"]) == {"kubectl.kubernetes.io/last-applied-configuration"}

    cluster.kubectl("-n", namespace, "delete", "voicemodel", "narrator", "--wait=true")
    assert kube.get(voice_path(key)) is None
    assert not any("orbidden" in line["message"] for line in logged(operator))


def test_the_console_shows_voices_and_writes_wishes_under_the_rights_that_are_shipped(
    cluster: TestCluster, kube: Kube, operator: OperatorProcess, tmp_path: Path
) -> None:
    operator.stop()
    token = tmp_path / "console-token"
    token.write_text("sesame", encoding="ascii")
    port = free_ports(1)[0]
    operator.settings = {"console": {"listen": f"127.0.0.1:{port}", "tokenFile": str(token)}}
    operator.start_leading(kube)
    namespace = cluster.new_namespace("shown")
    key = f"{namespace}/narrator"
    apply(cluster, manifest("narrator", namespace, spec("a")))

    voice = eventually(lambda: shown(port, key), within_s=SOON_S, what="the voice is shown")
    assert (voice["code"], voice["podsOfVoice"]) == ("NoPods", [])
    headers = {"Segue-Console": "1", "Authorization": "Bearer sesame"}
    wish = {"action": "pause", "uid": voice["uid"], "generation": voice["generation"], "target": None}
    url = f"http://127.0.0.1:{port}/api/voices/{key}/actions"
    assert httpx.post(url, json=wish).status_code == 403
    done = httpx.post(url, json=wish, headers=headers)
    assert done.json() == {"done": "pause", "where": f"VoiceModel {key}"}
    body = kube.get(voice_path(key)) or {}
    assert body["spec"]["rollout"]["paused"] is True
    eventually(lambda: status_of(kube, key).get("reason") == "Paused", within_s=SOON_S, what="it is followed")
    again = eventually(
        lambda: (voice := shown(port, key)) and voice["code"] == "Paused" and voice, within_s=SOON_S, what="it shows"
    )
    assert [each["reason"] for each in again["events"]][-1:] == ["Asked"]
    assert httpx.post(url, json=wish, headers=headers).status_code == 409


def shown(port: int, key: str) -> dict[str, Any] | None:
    """The voice as a page gets it first."""
    with httpx.stream("GET", f"http://127.0.0.1:{port}/api/stream", params={"voice": key}, timeout=10) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                found: dict[str, Any] | None = json.loads(line.removeprefix("data: "))["voice"]
                return found if found and found["code"] != "NoVersion" else None
    return None


def test_probes_and_figures(kube: Kube, operator: OperatorProcess) -> None:
    url = f"http://127.0.0.1:{operator.port}"
    assert httpx.get(f"{url}/healthz").status_code == 200
    assert httpx.get(f"{url}/readyz").json()["ready"] is True
    figures = httpx.get(f"{url}/metrics").text
    assert "segue_operator_leading 1.0" in figures
    assert 'segue_operator_api_requests_total{code="200",verb="GET"}' in figures
    assert 'segue_operator_watch_restarts_total{watch="voices"} 0.0' in figures
    assert httpx.post(f"{url}/v1/hooks/alertmanager", json={}).status_code == 404, "no hooks are configured"


def test_a_mistake_is_told_where_kubectl_describe_shows_it(
    cluster: TestCluster, kube: Kube, operator: OperatorProcess
) -> None:
    namespace = cluster.new_namespace("told")
    operator.stop()
    operator.settings = {"fleets": {"gold": {"namespace": "elsewhere", "podSelector": {"app": "tts"}}}}
    operator.start_leading(kube)
    apply(cluster, manifest("narrator", namespace, spec("a", fleet="gold")))

    def described() -> str:
        return cluster.kubectl("-n", namespace, "describe", "voicemodel", "narrator").stdout

    eventually(lambda: "InvalidSpec" in described(), within_s=SOON_S, what="an Event tells")
    assert "fleet gold serves no voices of namespace" in described()
    assert status_of(kube, f"{namespace}/narrator") == {}


def test_an_operator_of_one_namespace_needs_no_more_than_its_role(
    cluster: TestCluster, kube: Kube, operator: OperatorProcess
) -> None:
    operator.stop()
    ours, theirs = cluster.new_namespace("ours"), cluster.new_namespace("theirs")
    text = (DEPLOY / "namespaced" / "rights.yaml").read_text()
    account = f"operator-{ours}"
    text = text.replace("namespace: voices", f"namespace: {ours}").replace("segue-operator-lease", f"{account}-lease")
    text = text.replace("name: segue-operator\n", f"name: {account}\n")
    cluster.kubectl("apply", "-f", "-", input=text)
    operator.kubeconfig = cluster.kubeconfig_of_service_account(SYSTEM_NAMESPACE, account)
    operator.settings = {"namespaces": [ours]}
    operator.start_leading(kube)
    for namespace in (ours, theirs):
        apply(cluster, manifest("narrator", namespace, spec("a")))
    eventually(
        lambda: status_of(kube, f"{ours}/narrator").get("reason") == "NoPods", within_s=SOON_S, what="it serves its own"
    )
    assert status_of(kube, f"{theirs}/narrator") == {}
    assert not any("orbidden" in line["message"] for line in logged(operator))


def test_sigterm_gives_the_lease_back(kube: Kube, operator: OperatorProcess) -> None:
    began_s = time.monotonic()
    assert operator.stop() == 0, operator.tail()
    assert time.monotonic() - began_s < 2 * HANDOVER_S
    assert holder_of(kube) == ""
    levels = {line["level"] for line in logged(operator)}
    assert "error" not in levels, operator.tail()


def test_an_api_server_that_was_away_is_followed_again(
    own_cluster: TestCluster, kube: Kube, operator: OperatorProcess
) -> None:
    namespace = own_cluster.new_namespace("away")
    kept, gone = f"{namespace}/kept", f"{namespace}/gone"
    for name in ("kept", "gone"):
        apply(own_cluster, manifest(name, namespace, spec("a")))
    for key in (kept, gone):
        eventually(lambda key=key: status_of(kube, key).get("reason") == "NoPods", within_s=SOON_S, what=f"{key} seen")  # type: ignore[misc]
    before = voices_of(operator)
    with frozen(operator):
        own_cluster.kubectl("-n", namespace, "delete", "voicemodel", "gone")
        apply(own_cluster, manifest("kept", namespace, spec("a", rollout={"paused": True})))
        own_cluster.stop_api_server()
        own_cluster.start_api_server()
    eventually(lambda: status_of(kube, kept).get("reason") == "Paused", within_s=2 * SOON_S, what="the edit is seen")
    eventually(lambda: voices_of(operator) == before - 1, within_s=2 * SOON_S, what="the deleted one is let go")
