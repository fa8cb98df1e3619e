"""Pairs that the chart makes, or has made, are good for the real handshake and for nobody else's part in it."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from tests.support.chart.handshakes import shake_hands, unpacked
from tests.support.chart.helm import CASES, CHART, Helm
from tests.support.chart.release import MADE
from tests.support.chart.rendering import Rendering

from segue.tls import OPERATOR_NAME, client_context, server_context, sidecar_name

pytestmark = pytest.mark.cluster

TWO_FLEETS = CHART / "ci" / "two-fleets-values.yaml"
DEFAULT = CHART / "ci" / "default-values.yaml"


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
        "console-token",
        "prometheus-access",
        "speech-api-keys",
        "operator-certificate",
        "house-certificate",
    }
    assert needed - made <= brought


def test_a_rendering_says_when_its_pairs_were_made(helm: Helm) -> None:
    rendering: Rendering = helm.render(DEFAULT)
    made = rendering.one("Secret", "segue-operator-tls")["metadata"]["annotations"][MADE]
    assert made.isdigit()
