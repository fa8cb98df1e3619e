"""Fixtures of the rollout cases: rights once, a stage for each module, a case for each test, and the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from tests.support.cluster import TestCluster
from tests.support.pods.case import Case
from tests.support.pods.report import CaseLine, Report
from tests.support.pods.rights import install_rights, operator_kubeconfig
from tests.support.pods.stage import Stage, staged

REPORT = pytest.StashKey[Report]()
PASSED = pytest.StashKey[bool]()


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest) -> Report:
    """Of this run."""
    return request.config.stash.setdefault(REPORT, Report())


@pytest.fixture(scope="session")
def installed(cluster: TestCluster) -> TestCluster:
    """The cluster with the operator's rights in it."""
    install_rights(cluster)
    return cluster


@pytest.fixture(scope="module")
def stage(installed: TestCluster, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Pods and an operator for the cases of a module; it may ask for other pods by `PODS` and `POD_SETTINGS`."""
    pods: int = getattr(request.module, "PODS", 2)
    settings: dict[str, Any] = getattr(request.module, "POD_SETTINGS", {})
    kubeconfig = operator_kubeconfig(installed)
    with staged(installed, operator_kubeconfig=kubeconfig, pods=pods, pod_settings=settings) as made:
        yield made


@pytest.fixture
def case(stage: Stage, report: Report, request: pytest.FixtureRequest) -> Iterator[Case]:
    """One case under traffic; it fails where a single request failed or was mixed."""
    name = request.node.name.removeprefix("test_").replace("_", "-").replace("[", "-").replace("]", "").lower()
    case = Case(stage, name)
    with ExitStack() as after:
        after.callback(case.clear)
        after.callback(_conclude, case, report, lambda: bool(request.node.stash.get(PASSED, False)))
        case.open()
        yield case


def _conclude(case: Case, report: Report, passed: Callable[[], bool]) -> None:
    tally = case.finish()
    seconds = time.monotonic() - case.began_s
    report.add(CaseLine.of(case.name, tally, seconds=seconds, passed=passed(), notes=case.notes))
    assert tally.requests, "nobody asked for anything"
    assert not tally.failed, f"{tally.failed} of {tally.requests} requests failed: {dict(tally.errors)}"
    assert not tally.mixed, f"{tally.mixed} of {tally.requests} answers were mixed: {tally.findings}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Remember how the test itself went: its fixtures write the report."""
    made = yield
    if made.when == "call":
        item.stash[PASSED] = made.passed
    return made


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The totals at the end of the run."""
    found = config.stash.get(REPORT, None)
    if found is not None and found.lines:
        terminalreporter.write_line(found.summary())
