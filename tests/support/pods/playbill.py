"""Which stage a case plays on, and which cases play at the same time.

Separate from the fixtures because of what it saves: pods, operator and the first voice take half a minute to come up,
so a stage is kept from module to module while the next one asks for the same; and a case mostly waits, so the cases of
a module that asks for it (`AT_ONCE = 3`) are played side by side, each with voices and listeners of its own. pytest
goes through its items one by one all the same and is told what became of each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from inspect import signature
from types import ModuleType
from typing import Any

import pytest
from tests.support.cluster import TestCluster
from tests.support.pods.case import Case, play
from tests.support.pods.report import Report
from tests.support.pods.rights import install_rights, operator_kubeconfig
from tests.support.pods.stage import Stage, staged

PODS = 2
POD_SETTINGS: Mapping[str, Any] = {"outOfReachS": 20, "throttle": {"busy": 1.0}}
"""Out of reach: longer than an operator that watches ever stays silent (10 s), less than the default of the dead-man
rule. Children do not yield: pods that share two cores would hold back each other's for minutes, and pacing is judged
elsewhere (`make bench ONLY=swap`, and `make e2e` with the chart's own settings)."""


class Playbill:
    """Everything of one test run."""

    def __init__(self, cluster: TestCluster, report: Report) -> None:
        install_rights(cluster)
        self._cluster = cluster
        self._report = report
        self._stage: Stage | None = None
        self._asked: tuple[int, Mapping[str, Any]] | None = None
        self._standing = ExitStack()
        self._playing: dict[str, Future[None]] = {}

    def stage_for(self, module: ModuleType) -> Stage:
        """The stage that a module asks for by `PODS` and `POD_SETTINGS`: the one that stands, or a new one."""
        asked = (getattr(module, "PODS", PODS), getattr(module, "POD_SETTINGS", POD_SETTINGS))
        if self._stage is None or self._stage.spoiled or asked != self._asked:
            self.close()
            pods, settings = asked
            kubeconfig = operator_kubeconfig(self._cluster)
            opened = staged(self._cluster, operator_kubeconfig=kubeconfig, pods=pods, pod_settings=settings)
            self._stage, self._asked = self._standing.enter_context(opened), asked
        return self._stage

    def play(self, item: pytest.Function) -> None:
        """Play one case, or wait for its end where it plays already."""
        stage = self._stage
        assert stage is not None, "a case without a stage"
        if item.nodeid not in self._playing:
            self._begin(stage, _together_with(item))
        try:
            self._playing.pop(item.nodeid).result()
        except BaseException:
            stage.spoiled = True
            raise

    def _begin(self, stage: Stage, items: Sequence[pytest.Function]) -> None:
        at_once: int = getattr(items[0].module, "AT_ONCE", 1)
        pool = ThreadPoolExecutor(at_once, thread_name_prefix="case")
        for item in items:
            self._playing[item.nodeid] = pool.submit(play, stage, name_of(item), self._report, story_of(item))
        pool.shutdown(wait=False)

    def close(self) -> None:
        """Take the stage down."""
        self._standing.close()
        self._stage = None


def _together_with(item: pytest.Function) -> list[pytest.Function]:
    """The cases of the module from this one on, where they may be played side by side; else this one alone."""
    if not hasattr(item.module, "AT_ONCE"):
        return [item]
    everybody = [each for each in item.session.items if isinstance(each, pytest.Function)]
    return [each for each in everybody[everybody.index(item) :] if each.module is item.module and is_case(each)]


def is_case(item: pytest.Item) -> bool:
    """Whether a test tells the story of a case."""
    return isinstance(item, pytest.Function) and "case" in item.fixturenames


def story_of(item: pytest.Function) -> Callable[[Case], None]:
    """The test function with all that it asks for but its case.

    Fixtures of an item that pytest has not come to yet do not exist: those that are played side by side have
    parameters only.
    """
    known: dict[str, Any] = {**(item.callspec.params if hasattr(item, "callspec") else {}), **item.funcargs}
    wanted = [name for name in signature(item.obj).parameters if name != "case"]
    return partial(_tell, item.obj, {name: known[name] for name in wanted})


def _tell(test: Callable[..., None], arguments: Mapping[str, Any], case: Case) -> None:
    test(case=case, **arguments)


def name_of(item: pytest.Item) -> str:
    """Of the case, in the report and for its voices."""
    name = item.name.removeprefix("test_").lower()
    return "".join(char if char.isalnum() else "-" for char in name).strip("-")
