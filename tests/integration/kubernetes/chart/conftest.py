"""helm, and a cluster that knows every kind that the chart can make."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.support import chart
from tests.support.chart.helm import Helm
from tests.support.cluster import NoBinary, TestCluster, obtain
from tests.support.cluster.binaries import HELM
from tests.support.cluster.cluster import WITHIN_S
from tests.support.cluster.processes import wait_for

FOREIGN_KINDS = Path(chart.__file__).with_name("foreign_kinds.yaml")


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """The real one; skipped where there is none, failed where `SEGUE_REQUIRE` names `cluster`."""
    try:
        return Helm(obtain(HELM), tmp_path_factory.mktemp("helm"))
    except NoBinary as error:
        if "cluster" in os.environ.get("SEGUE_REQUIRE", "").split(","):
            pytest.fail(f"SEGUE_REQUIRE demands helm: {error}")
        pytest.skip(f"no helm: {error}")


@pytest.fixture(scope="session")
def full_cluster(cluster: TestCluster) -> TestCluster:
    """A cluster of our own with the kinds of cert-manager, KEDA and the Prometheus operator."""
    if not cluster.owned:
        pytest.skip("would install CRDs of other projects into a cluster that is not ours")
    cluster.kubectl("apply", "--server-side", "-f", str(FOREIGN_KINDS))
    cluster.kubectl("wait", "--for=condition=Established", "-f", str(FOREIGN_KINDS), "--timeout=30s")
    for kind in ("issuers", "certificates", "scaledobjects", "podmonitors", "prometheusrules"):
        wait_for(lambda kind=kind: _known(cluster, kind), within_s=WITHIN_S, what=f"{kind} can be listed")  # type: ignore[misc]
    return cluster


def _known(cluster: TestCluster, kind: str) -> bool | None:
    return cluster.kubectl("get", kind, "-n", "default", check=False).returncode == 0 or None
