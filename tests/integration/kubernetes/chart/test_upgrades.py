"""What stays as it is over upgrades of a real release, and what an uninstall leaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.chart.handshakes import shake_hands, unpacked
from tests.support.chart.helm import Helm
from tests.support.chart.release import MADE, Release
from tests.support.cluster import TestCluster
from tests.support.cluster.cluster import CRD_PATH

from segue.tls import OPERATOR_NAME, client_context, server_context, sidecar_name

pytestmark = pytest.mark.cluster

BARE = ("--set", "crds.enabled=false,rbac.userRole=false,rbac.create=false")
"""Nothing cluster-wide: releases of several tests live side by side."""

SCALED = ("--set", "fleet.autoscaling.enabled=true,fleet.autoscaling.maxReplicas=9")


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


def replicas(release: Release) -> int:
    return int(release.deployment("segue-default")["spec"]["replicas"])


def test_an_autoscaler_that_is_switched_on_begins_with_the_pods_that_there_are(release: Release) -> None:
    release.upgrade(*BARE, "--set", "fleet.replicas=5")
    release.upgrade(*BARE, *SCALED)
    assert replicas(release) == 5
    release.upgrade(*BARE, *SCALED, "--set", "fleet.fsGroup=7")
    assert replicas(release) == 5


def test_an_upgrade_leaves_the_number_to_the_autoscaler(release: Release, own_cluster: TestCluster) -> None:
    release.upgrade(*BARE, "--set", "fleet.replicas=5")
    release.upgrade(*BARE, *SCALED)
    own_cluster.kubectl("-n", release.namespace, "scale", "deployment/segue-default", "--replicas=7")
    release.upgrade(*BARE, *SCALED, "--set", "fleet.fsGroup=7")
    assert replicas(release) == 7
    own_cluster.kubectl("-n", release.namespace, "scale", "deployment/segue-default", "--replicas=3")
    release.upgrade(*BARE, *SCALED)
    assert replicas(release) == 3


def test_an_uninstall_leaves_the_crd_and_nothing_else(release: Release, own_cluster: TestCluster) -> None:
    own_names = ("--set", f"fullnameOverride={release.namespace}")  # of what is cluster-wide, all but the CRD's
    release.upgrade("--take-ownership", "--force-conflicts", *own_names)
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
