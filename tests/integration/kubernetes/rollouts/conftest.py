"""Fixtures of the rollout cases: a stage for each module, a case for each test, and the report of them all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.cluster import TestCluster
from tests.support.pods.playbill import Playbill, is_case
from tests.support.pods.report import Report
from tests.support.pods.stage import Stage

HERE = Path(__file__).parent
REPORT = pytest.StashKey[Report]()
PLAYBILL = pytest.StashKey[Playbill]()


@pytest.fixture(scope="session")
def playbill(cluster: TestCluster, pytestconfig: pytest.Config) -> Iterator[Playbill]:
    """Of this run."""
    made = Playbill(cluster, pytestconfig.stash.setdefault(REPORT, Report()))
    pytestconfig.stash[PLAYBILL] = made
    yield made
    made.close()


@pytest.fixture(scope="module")
def stage(playbill: Playbill, request: pytest.FixtureRequest) -> Stage:
    """Pods and an operator for the cases of a module; it may ask for other pods by `PODS` and `POD_SETTINGS`."""
    return playbill.stage_for(request.module)


@pytest.fixture
def case(stage: Stage) -> None:
    """One case under traffic (`tests.support.pods.case.Case`): made when the test is played, which may be earlier."""


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Play a case; it fails with its story, or where a single request failed or was mixed."""
    if not is_case(pyfuncitem):
        return None
    pyfuncitem.config.stash[PLAYBILL].play(pyfuncitem)
    return True


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """After the last test of this folder the stage goes: its operator leads, and would lead in everybody's cluster."""
    playbill = item.config.stash.get(PLAYBILL, None)
    if playbill is not None and (nextitem is None or HERE not in nextitem.path.parents):
        playbill.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The totals at the end of the run."""
    found = config.stash.get(REPORT, None)
    if found is not None and found.lines:
        terminalreporter.write_line(found.summary())
