"""Pairs that the chart makes are good for the real handshake, and are the same after an upgrade."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.chart.helm import CASES, CHART, Helm
from tests.support.chart.rendering import Body, Rendering
from tests.support.chart.snapshots import MADE
from tests.support.cluster import TestCluster
from tests.support.cluster.cluster import CRD_PATH

from segue.tls import OPERATOR_NAME, KeyPairFiles, client_context, server_context, sidecar_name

pytestmark = pytest.mark.cluster

TWO_FLEETS = CHART / "ci" / "two-fleets-values.yaml"
DEFAULT = CHART / "ci" / "default-values.yaml"
BARE = ("--set", "crds.enabled=false,rbac.userRole=false,rbac.create=false")
"""Nothing cluster-wide: releases of several tests live side by side."""


def unpacked(secret: Body, folder: Path) -> KeyPairFiles:
    """As a kubelet mounts it."""
    folder.mkdir()
    for name, content in secret["data"].items():
        (folder / name).write_bytes(base64.b64decode(content))
    return KeyPairFiles.of(folder)


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """TLS between two ends in memory, both ways to the end."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname="10.0.0.1"),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in list(ends):
            try:
                end.do_handshake()
                ends.remove(end)
            except ssl.SSLWantReadError:
                continue
    assert not ends, "the handshake did not end"


def test_operator_and_sidecars_know_each_other(helm: Helm, tmp_path: Path) -> None:
    rendering = helm.render(TWO_FLEETS)
    operator = unpacked(rendering.one("Secret", "segue-operator-tls"), tmp_path / "operator")
    for fleet in ("default", "gpu"):
        sidecar = unpacked(rendering.one("Secret", f"segue-{fleet}-tls"), tmp_path / fleet)
        name = sidecar_name(fleet=fleet, namespace="segue-system")
        shake_hands(server_context(sidecar, client_name=OPERATOR_NAME), client_context(operator, server_name=name))


def test_a_sidecar_is_no_operator(helm: Helm, tmp_path: Path) -> None:
    rendering = helm.render(TWO_FLEETS)
    default, gpu = (unpacked(rendering.one("Secret", f"segue-{n}-tls"), tmp_path / n) for n in ("default", "gpu"))
    name = sidecar_name(fleet="gpu", namespace="segue-system")
    with pytest.raises(ssl.SSLError, match=r"operator\.segue\.dev"):
        shake_hands(server_context(gpu, client_name=OPERATOR_NAME), client_context(default, server_name=name))


@pytest.mark.parametrize("mode", ["chart", "certManager"])
def test_a_fleet_that_is_installed_elsewhere_may_have_a_pair(helm: Helm, mode: str) -> None:
    rendering = helm.render(DEFAULT, more=("--set", f"tls.mode={mode},tls.fleets={{mine}}"))
    if mode == "chart":
        host = rendering.one("Secret", "segue-mine-tls")["metadata"]["annotations"]["segue.dev/name"]
    else:
        (host,) = rendering.one("Certificate", "segue-mine-tls")["spec"]["dnsNames"]
    assert host == sidecar_name(fleet="mine", namespace="segue-system")
    assert "mine" not in dict(rendering.fleets())


def test_cert_manager_is_asked_for_the_same_names(helm: Helm) -> None:
    rendering = helm.render(TWO_FLEETS, more=("--set", "tls.mode=certManager"))
    asked = {
        each["spec"]["dnsNames"][0]: (each["spec"]["secretName"], each["spec"]["usages"][-1])
        for each in rendering.of("Certificate")
        if "dnsNames" in each["spec"]
    }
    assert asked == {
        OPERATOR_NAME: ("segue-operator-tls", "client auth"),
        sidecar_name(fleet="default", namespace="segue-system"): ("segue-default-tls", "server auth"),
        sidecar_name(fleet="gpu", namespace="segue-system"): ("segue-gpu-tls", "server auth"),
    }
    assert rendering.of("Secret") == []


def test_an_issuer_of_ones_own_is_used(helm: Helm) -> None:
    issuer = (
        "--set",
        "tls.mode=certManager,tls.certManager.issuerRef.name=house,tls.certManager.issuerRef.kind=ClusterIssuer",
    )
    rendering = helm.render(DEFAULT, more=issuer)
    assert rendering.of("Issuer") == []
    references = [each["spec"]["issuerRef"] for each in rendering.of("Certificate")]
    assert references == [{"name": "house", "kind": "ClusterIssuer"}] * 2


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_every_secret_that_pods_need_is_made_or_somebody_elses_by_name(helm: Helm, case: Path) -> None:
    rendering = helm.render(case)
    made = {each["metadata"]["name"] for each in rendering.of("Secret")}
    made |= {each["spec"]["secretName"] for each in rendering.of("Certificate")}
    needed = {
        volume["secret"]["secretName"]
        for each in rendering.of("Deployment")
        for volume in each["spec"]["template"]["spec"]["volumes"]
        if "secret" in volume
    }
    brought = {
        "alertmanager-token",
        "prometheus-access",
        "speech-api-keys",
        "operator-certificate",
        "house-certificate",
    }
    assert needed - made <= brought


# --- over upgrades ----------------------------------------------------------------------------------------------------


class Release:
    """One installation in a namespace of its own."""

    def __init__(self, helm: Helm, cluster: TestCluster) -> None:
        self.namespace = cluster.new_namespace("release")
        self._helm = replace(helm, kubeconfig=cluster.kubeconfig)
        self._cluster = cluster

    def upgrade(self, *settings: str) -> None:
        """Install it, or bring it up to date; pods never run here, so nobody waits for them."""
        place = ("--namespace", self.namespace, "--wait=hookOnly")
        self._helm.run("upgrade", "--install", "segue", str(CHART), *place, *settings)

    def uninstall(self) -> None:
        self._helm.run("uninstall", "segue", "--namespace", self.namespace, "--wait=hookOnly", "--ignore-not-found")

    def secret(self, name: str) -> Body:
        with self._cluster.client() as api:
            found: dict[str, Any] = api.get(f"/api/v1/namespaces/{self.namespace}/secrets/{name}").json()
        assert found["kind"] == "Secret", found
        return found

    def date_back(self, name: str, made: str) -> None:
        """Have a pair made at another time, said by helm itself: what others wrote it would not overwrite."""
        body = self.secret(name)
        body["metadata"]["annotations"][MADE] = made
        for field in ("managedFields", "resourceVersion"):
            del body["metadata"][field]
        as_helm = ("apply", "--server-side", "--field-manager=helm", "--force-conflicts", "-f", "-")
        self._cluster.kubectl(*as_helm, input=json.dumps(body))

    def pairs(self, *fleets: str) -> dict[str, Any]:
        return {name: self.secret(f"segue-{name}-tls")["data"] for name in (*fleets, "operator")}


@pytest.fixture
def release(helm: Helm, own_cluster: TestCluster) -> Iterator[Release]:
    """Nothing is installed yet; whatever is, goes at the end."""
    release = Release(helm, own_cluster)
    yield release
    release.uninstall()


def test_an_upgrade_keeps_pairs_and_authority(release: Release) -> None:
    release.upgrade(*BARE)
    before = release.pairs("default")
    release.upgrade(*BARE, "--set", "operator.replicas=3")
    assert release.pairs("default") == before


def test_a_fleet_that_comes_later_has_the_same_authority(release: Release, tmp_path: Path) -> None:
    release.upgrade(*BARE)
    before = release.pairs("default")
    release.upgrade(*BARE, "--set", "fleets.later.replicas=1")
    assert release.pairs("default") == before
    later = unpacked(release.secret("segue-later-tls"), tmp_path / "later")
    operator = unpacked(release.secret("segue-operator-tls"), tmp_path / "operator")
    name = sidecar_name(fleet="later", namespace=release.namespace)
    shake_hands(server_context(later, client_name=OPERATOR_NAME), client_context(operator, server_name=name))


def test_an_old_pair_is_made_anew_by_the_same_authority(release: Release) -> None:
    release.upgrade(*BARE)
    before = release.pairs("default")
    release.date_back("segue-default-tls", "1600000000")
    release.upgrade(*BARE)
    after = release.pairs("default")
    assert after["operator"] == before["operator"]
    assert after["default"]["tls.crt"] != before["default"]["tls.crt"]
    assert after["default"]["ca.crt"] == before["default"]["ca.crt"]
    assert int(release.secret("segue-default-tls")["metadata"]["annotations"][MADE]) > 1_600_000_000


def test_an_uninstall_leaves_the_crd_and_nothing_else(release: Release, own_cluster: TestCluster) -> None:
    release.upgrade("--take-ownership", "--force-conflicts")
    release.uninstall()
    kinds = "deployments,services,secrets,configmaps,serviceaccounts,networkpolicies,poddisruptionbudgets"
    mine = ("-l", "app.kubernetes.io/instance=segue", "-o", "name")
    try:
        assert own_cluster.kubectl("-n", release.namespace, "get", kinds, *mine).stdout == ""
        assert (
            own_cluster.kubectl("get", "clusterroles,clusterrolebindings,roles,rolebindings", "-A", *mine).stdout == ""
        )
        with own_cluster.client() as api:
            assert api.get(CRD_PATH).is_success
    finally:
        own_cluster.install_crd()


def test_a_rendering_says_when_its_pairs_were_made(helm: Helm) -> None:
    rendering: Rendering = helm.render(DEFAULT)
    made = rendering.one("Secret", "segue-operator-tls")["metadata"]["annotations"][MADE]
    assert made.isdigit()
