"""The cluster that all tests here share; helm, which some need, is had at the same time.

Programs are built or downloaded after collection and not in the fixture: that takes minutes once, and a test's timeout
counts its fixtures.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

import pytest
from tests.support.cluster import ClusterUnavailable, NoBinary, TestCluster, obtain, open_cluster
from tests.support.cluster.binaries import CONTROL_PLANE, HELM
from tests.support.cluster.cluster import KUBECONFIG

_MISSING = pytest.StashKey[str | None]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Have the programs at hand before the first test, saying what takes so long."""
    if session.config.option.collectonly:
        return
    fixtures = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if "cluster" in fixtures and not os.environ.get(KUBECONFIG):
        session.config.stash[_MISSING] = _fetch(session, CONTROL_PLANE)
    if "helm" in fixtures:
        _fetch(session, (HELM,))  # its fixture looks again, and says what is missing


def _fetch(session: pytest.Session, names: Sequence[str]) -> str | None:
    """Have programs at hand; what was tried where one cannot be had."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    try:
        for name in names:
            obtain(name, say=reporter.write_line if reporter else lambda line: None)
    except NoBinary as error:
        return str(error)
    return None


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config) -> Iterator[TestCluster]:
    """A cluster with the CRD; skipped where there is none, failed where `SEGUE_REQUIRE` names `cluster`."""
    with contextlib.ExitStack() as stack:
        try:
            if (missing := pytestconfig.stash.get(_MISSING, None)) is not None:
                raise ClusterUnavailable(missing)
            running = stack.enter_context(open_cluster())
        except ClusterUnavailable as error:
            if "cluster" in os.environ.get("SEGUE_REQUIRE", "").split(","):
                pytest.fail(f"SEGUE_REQUIRE demands a cluster: {error}")
            pytest.skip(f"no cluster: {error}")
        yield running


@pytest.fixture
def own_cluster(cluster: TestCluster) -> TestCluster:
    """The cluster, where its processes and its CRD are ours to break."""
    if not cluster.owned:
        pytest.skip(f"needs a cluster of its own, not the one that {KUBECONFIG} names")
    return cluster
