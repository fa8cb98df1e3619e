"""Alerts, scalers and monitors speak only of what the processes really tell."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.support import exported, promql
from tests.support.chart.helm import CHART, Helm
from tests.support.chart.rendering import Rendering, containers

from segue.memory.stats_layout import Outcome
from segue_server.supervisor.metrics import PAST

pytestmark = pytest.mark.cluster

TWO_FLEETS = CHART / "ci" / "two-fleets-values.yaml"
NAME = re.compile(r"(?<![\w:])segue_[a-z_]+\b(?!:)")
NO_METRICS = {"segue_namespace", "segue_voice"}
"""Labels of an alert by which the operator knows a voice."""


@pytest.fixture
def rendering(helm: Helm) -> Rendering:
    return helm.render(TWO_FLEETS)


def rules(rendering: Rendering) -> list[dict[str, Any]]:
    (found,) = rendering.of("PrometheusRule")
    return [rule for group in found["spec"]["groups"] for rule in group["rules"]]


def alerts(rendering: Rendering) -> list[dict[str, Any]]:
    return [rule for rule in rules(rendering) if "alert" in rule]


def test_every_figure_that_is_asked_for_exists(rendering: Rendering, tmp_path: Path) -> None:
    told = exported.names()
    triggers = [trigger for each in rendering.of("ScaledObject") for trigger in each["spec"]["triggers"]]
    asked = {name for rule in rules(rendering) for name in NAME.findall(rule["expr"])}
    asked |= {name for trigger in triggers for name in NAME.findall(trigger["metadata"]["query"])}
    assert "segue_queue_depth" in asked
    assert asked - NO_METRICS <= told, asked - NO_METRICS - told


def test_every_rule_is_promql_and_counts_no_revision_twice_that_is_gone(rendering: Rendering, tmp_path: Path) -> None:
    """What a revision ever counted goes into `past` at once: to a rate, all its failures of weeks in a second."""
    figures = exported.exported()
    by_revision = {figure.name for figure in figures if figure.labels.get("revision") == PAST}
    read = [selector for rule in rules(rendering) for selector in promql.selectors(rule["expr"])]
    assert by_revision & {selector.name for selector in read}
    for selector in read:
        gone = {"namespace": "segue-system", "revision": PAST, "outcome": "timeout"}
        assert selector.name not in by_revision or not promql.matches(selector, gone), str(selector)


def test_outcomes_that_count_as_failures_exist(rendering: Rendering) -> None:
    (rule,) = (each for each in alerts(rendering) if each["alert"] == "SegueVoiceFails")
    match = re.search(r'outcome=~"([a-z|]+)"', rule["expr"])
    assert match is not None
    known = {outcome.name.lower() for outcome in Outcome} | {"died"}
    assert set(match[1].split("|")) <= known


def test_the_alert_that_takes_back_names_the_voice_as_the_operator_reads_it(rendering: Rendering) -> None:
    (rule,) = (each for each in alerts(rendering) if each["alert"] == "SegueVoiceFails")
    for label in NO_METRICS:
        assert f'"{label}"' in rule["expr"]


def test_every_alert_is_balanced_and_explained(rendering: Rendering) -> None:
    for rule in alerts(rendering):
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}, rule["alert"]
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


# --- dashboards -------------------------------------------------------------------------------------------------------


def dashboards(rendering: Rendering) -> list[dict[str, Any]]:
    return [each for each in rendering.of("ConfigMap") if "-dashboard-" in each["metadata"]["name"]]


def test_dashboards_arrive_as_they_are(rendering: Rendering) -> None:
    files = {name: text for each in dashboards(rendering) for name, text in each["data"].items()}
    assert files == {
        f"segue-{path.name}": path.read_text(encoding="utf-8") for path in (CHART / "dashboards").glob("*.json")
    }


def test_grafanas_sidecar_finds_dashboards_and_their_folder(rendering: Rendering) -> None:
    for each in dashboards(rendering):
        assert each["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert each["metadata"]["annotations"] == {
            "example.com/team": "speech",
            "k8s-sidecar-target-directory": "Segue",
        }


def test_dashboards_are_made_where_somebody_asks_for_them(helm: Helm) -> None:
    default = CHART / "ci" / "default-values.yaml"
    assert dashboards(helm.render(default)) == []
    made = dashboards(helm.render(default, more=("--set", "monitoring.dashboards.enabled=true")))
    assert len(made) == len(list((CHART / "dashboards").iterdir()))
    assert all("annotations" not in each["metadata"] for each in made)


def test_the_label_of_dashboards_can_be_another_one(helm: Helm, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(
        "monitoring: {dashboards: {enabled: true, labels: {grafana_dashboard: null, dashboards: speech}}}\n",
        encoding="utf-8",
    )
    labels = [each["metadata"]["labels"] for each in dashboards(helm.render(values))]
    assert labels
    assert all("grafana_dashboard" not in each and each["dashboards"] == "speech" for each in labels)
