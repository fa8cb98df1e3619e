"""`helm uninstall` leaves nothing but the CRD, and namespaces can be deleted."""

from __future__ import annotations

from tests.support.cluster.processes import wait_for
from tests.support.e2e.installation import FLEET, NAMESPACE, Installation, left_behind
from tests.support.e2e.place import OUTSIDE
from tests.support.e2e.scene import Theatre
from tests.support.e2e.shipped import FIRST, shipped

CRD = "voicemodels.segue.dev"
GONE_S = 120.0
NOT_HELMS = ("secret/speech-keys", f"service/{FLEET}{OUTSIDE}")
"""What earlier tests put there by hand."""
CLUSTER_WIDE = ("clusterroles", "clusterrolebindings", "priorityclasses", "customresourcedefinitions")


def test_nothing_is_left_but_the_crd(installed: Installation, theatre: Theatre) -> None:
    voice = theatre.voice("last")
    voice.wait_promoted(voice.apply(shipped(FIRST)))
    wait_for(lambda: desired(installed) or None, within_s=90, what="the desired set is written")
    installed.kubectl("delete", "vmodel", "--all")
    installed.uninstall()

    def nothing_left() -> bool | None:
        return left_behind(installed.cluster, NAMESPACE, but=NOT_HELMS) == [] or None

    wait_for(nothing_left, within_s=GONE_S, what="empty", now=lambda: left_behind(installed.cluster, NAMESPACE))
    listed = str(installed.cluster.kubectl("get", ",".join(CLUSTER_WIDE), "-o", "name").stdout).split()
    assert [name for name in listed if "segue" in name] == [f"customresourcedefinition.apiextensions.k8s.io/{CRD}"]


def desired(installation: Installation) -> list[str]:
    names = installation.kubectl("get", "configmaps", "-o", "name").split()
    return [name for name in names if "segue-desired-" in name]


def test_the_namespace_can_be_deleted(installation: Installation) -> None:
    cluster = installation.cluster
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    path = f"/api/v1/namespaces/{NAMESPACE}"
    wait_for(lambda: installation.kube.get(path) is None or None, within_s=GONE_S, what=f"{NAMESPACE} is gone")
