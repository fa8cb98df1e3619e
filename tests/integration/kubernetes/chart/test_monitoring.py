"""Alerts, scalers and monitors speak only of what the processes really tell."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from tests.support.chart.helm import CHART, Helm
from tests.support.chart.rendering import Rendering, containers

from segue.memory.host import HostMemory
from segue.memory.stats_layout import Outcome
from segue_operator.kubernetes.metrics import Counted, registry_of
from segue_server.supervisor.metrics import Snapshot
from segue_server.supervisor.totals import Totals
from segue_sidecar.books import Books
from segue_sidecar.journal import Journal
from segue_sidecar.metrics import BooksCollector, Metrics
from segue_sidecar.throttle import Pacer
from segue_sidecar.workers import Roster

pytestmark = pytest.mark.cluster

TWO_FLEETS = CHART / "ci" / "two-fleets-values.yaml"
NAME = re.compile(r"\bsegue_[a-z_]+\b")
NO_METRICS = {"segue_namespace", "segue_voice"}
"""Labels of an alert by which the operator knows a voice."""


@pytest.fixture
def rendering(helm: Helm) -> Rendering:
    return helm.render(TWO_FLEETS)


def names_in(registry: CollectorRegistry) -> set[str]:
    """Every name that can be asked for, also of families that have no sample yet."""
    found = set()
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        found |= {family.name.removesuffix("_total") + suffix for suffix in suffixes}
    return found


def of_server() -> set[str]:
    registry = CollectorRegistry()
    registry.register(Snapshot(Totals(), living=[], ready=0, restarts=0))
    return names_in(registry)


def of_sidecar(tmp_path: Any) -> set[str]:
    metrics, memory = Metrics(), HostMemory(1 << 20, spares=0)
    books = Books(Journal(tmp_path / "journal.log"))
    collector = BooksCollector(books=books, memory=memory, roster=Roster(), pacer=Pacer(), silent_s=lambda: 0.0)
    metrics.registry.register(collector)
    try:
        return names_in(metrics.registry)
    finally:
        memory.close()


def of_operator() -> set[str]:
    """Of parts that have counted nothing; only what is read of them is there."""
    parts = SimpleNamespace(
        api=SimpleNamespace(requests={}),
        cluster=SimpleNamespace(seen=SimpleNamespace(bodies={}), problems=dict),
        pods=SimpleNamespace(records=tuple),
        events=SimpleNamespace(posted=0, dropped=0),
        watching=SimpleNamespace(watches=(), restarts={}),
        leading=lambda: True,
    )
    return names_in(registry_of(cast(Counted, parts)))


def rules(rendering: Rendering) -> list[dict[str, Any]]:
    (found,) = rendering.of("PrometheusRule")
    return [rule for group in found["spec"]["groups"] for rule in group["rules"]]


def test_every_figure_that_is_asked_for_exists(rendering: Rendering, tmp_path: Any) -> None:
    told = of_server() | of_sidecar(tmp_path) | of_operator()
    triggers = [trigger for each in rendering.of("ScaledObject") for trigger in each["spec"]["triggers"]]
    asked = {name for rule in rules(rendering) for name in NAME.findall(rule["expr"])}
    asked |= {name for trigger in triggers for name in NAME.findall(trigger["metadata"]["query"])}
    assert "segue_queue_depth" in asked
    assert asked - NO_METRICS <= told, asked - NO_METRICS - told


def test_outcomes_that_count_as_failures_exist(rendering: Rendering) -> None:
    (rule,) = (each for each in rules(rendering) if each["alert"] == "SegueVoiceFails")
    match = re.search(r'outcome=~"([a-z|]+)"', rule["expr"])
    assert match is not None
    known = {outcome.name.lower() for outcome in Outcome} | {"died"}
    assert set(match[1].split("|")) <= known


def test_the_alert_that_takes_back_names_the_voice_as_the_operator_reads_it(rendering: Rendering) -> None:
    (rule,) = (each for each in rules(rendering) if each["alert"] == "SegueVoiceFails")
    for label in NO_METRICS:
        assert f'"{label}"' in rule["expr"]


def test_every_alert_is_balanced_and_explained(rendering: Rendering) -> None:
    for rule in rules(rendering):
        assert rule["annotations"].keys() == {"summary", "description"}, rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        for opening, closing in ("()", "{}", "[]"):
            assert rule["expr"].count(opening) == rule["expr"].count(closing), rule["expr"]


def test_pods_are_matched_as_a_deployment_names_them(rendering: Rendering) -> None:
    queries = [
        trigger["metadata"]["query"] for each in rendering.of("ScaledObject") for trigger in each["spec"]["triggers"]
    ]
    patterns = [
        found
        for text in (*queries, *(rule["expr"] for rule in rules(rendering)))
        for found in re.findall(r'pod=~"([^"]+)"', text)
    ]
    assert patterns
    names = ("segue-gpu-7c9f6d5b8-x2x9z", "segue-operator-5d4c8f7b9-k8s2p", "segue-gpu-large-7c9f6d5b8-x2x9z")
    for pattern in patterns:
        assert sum(re.fullmatch(pattern, name) is not None for name in names) == 1, pattern


def test_monitors_scrape_ports_that_are_open(rendering: Rendering) -> None:
    deployments = {each["metadata"]["name"]: each for each in rendering.of("Deployment")}
    monitors = rendering.of("PodMonitor")
    assert {each["metadata"]["name"] for each in monitors} == deployments.keys()
    for monitor in monitors:
        found = containers(deployments[monitor["metadata"]["name"]]).values()
        open_ports = {port["name"] for each in found for port in each["ports"]}
        assert {each["port"] for each in monitor["spec"]["podMetricsEndpoints"]} <= open_ports
