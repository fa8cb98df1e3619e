"""One cluster and one release for the whole suite; its files are one story, in the order of their names.

Separate from the integration tests because a node is needed: `make e2e` brings one up and runs this on it.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from tests.support.chart.helm import Helm
from tests.support.cluster import NoBinary, obtain
from tests.support.cluster.binaries import HELM
from tests.support.e2e.diagnosis import diagnose
from tests.support.e2e.flows import Flows
from tests.support.e2e.installation import FLEET, Installation
from tests.support.e2e.place import Place, open_place
from tests.support.e2e.report import StepReport
from tests.support.e2e.scene import Service, Theatre
from tests.support.e2e.surgeon import Surgeon
from tests.support.node import NodeUnavailable
from tests.support.pods.kube import Kube

from segue import __version__

PLACE = pytest.StashKey[Place]()
REPORT = pytest.StashKey[StepReport]()
REQUIRE = "SEGUE_REQUIRE"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The story in order, whatever was asked for on the command line."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.node)
            item.add_marker(pytest.mark.timeout(600), append=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Write down how the cluster was when a test failed."""
    outcome = yield
    place = item.config.stash.get(PLACE, None)
    if outcome.failed and place is not None:
        outcome.sections.append(("diagnosis", f"the cluster as it was: {diagnose(place, item.name)}"))
    return outcome


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> StepReport:
    """Of this run."""
    return pytestconfig.stash.setdefault(REPORT, StepReport())


@pytest.fixture(scope="session")
def place(report: StepReport, pytestconfig: pytest.Config) -> Iterator[Place]:
    """A cluster with nodes; skipped where there is none, failed where `SEGUE_REQUIRE` names `node`."""
    opened = open_place(say=lambda line: print(line, flush=True))
    try:
        with report.step("node"):
            made = opened.__enter__()
    except NodeUnavailable as error:
        if "node" in os.environ.get(REQUIRE, "").split(","):
            pytest.fail(f"{REQUIRE} demands a node: {error}")
        pytest.skip(f"no node: {error}")
    pytestconfig.stash[PLACE] = made
    try:
        yield made
    finally:
        del pytestconfig.stash[PLACE]
        opened.__exit__(None, None, None)


@pytest.fixture(scope="session")
def kube(place: Place) -> Iterator[Kube]:
    with place.cluster.client() as api:
        yield Kube(api)


@pytest.fixture(scope="session", autouse=True)
def flows(place: Place, kube: Kube, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flows | None]:
    """Who dials whom, from the beginning on; None where the machine below the cluster is not ours."""
    if place.node is None:
        yield None
        return
    watched = Flows(kube, tmp_path_factory.mktemp("flows") / "conntrack")
    watched.begin()
    yield watched
    watched.end()


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    try:
        return Helm(obtain(HELM), tmp_path_factory.mktemp("helm"))
    except NoBinary as error:
        pytest.fail(f"a node without helm: {error}")


@pytest.fixture(scope="session")
def installation(place: Place, helm: Helm, kube: Kube) -> Installation:
    """The release, which may not be there (any more)."""
    return Installation(helm, place.cluster, kube)


@pytest.fixture
def installed(installation: Installation) -> Installation:
    """The release with its default values, as the first test leaves it."""
    if not installation.exists():
        installation.upgrade()
    installation.wait_ready()
    return installation


@pytest.fixture(scope="session")
def surgeon(place: Place) -> Iterator[Surgeon]:
    """At work."""
    made = Surgeon(place.cluster)
    made.arrive(f"segue/sidecar:{__version__}")
    yield made
    made.leave()


@pytest.fixture(scope="session")
def theatre(
    place: Place, installation: Installation, report: StepReport, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Theatre]:
    """Listeners ask the fleet's Service."""

    def service() -> Service:
        address, port = place.address_of(installation.namespace, FLEET, port="http")
        return Service(name=FLEET, address=address, port=port)

    made = Theatre(
        installation=installation, service=service, report=report, folder=tmp_path_factory.mktemp("listeners")
    )
    yield made
    made.backstage.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The totals at the end of the run."""
    found = config.stash.get(REPORT, None)
    if found is not None and found.lines:
        terminalreporter.write_line(found.summary())
