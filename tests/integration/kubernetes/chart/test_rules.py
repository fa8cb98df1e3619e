"""Every alert of the chart, as Prometheus evaluates it: by series that it is for, and by such that are almost so."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from tests.support.chart.helm import CHART, NAMESPACE, Helm
from tests.support.promtool import Expectation, Promtool, find_promtool
from tests.support.rule_cases import CASES, HERE, VOICE

pytestmark = [pytest.mark.cluster, pytest.mark.process]

TWO_FLEETS = CHART / "ci" / "two-fleets-values.yaml"
RUNBOOKS = Path(__file__).parents[4] / "docs" / "runbooks"
SECTIONS = ("## What it means", "## What to look at", "## What to do", "## When it clears")
ALERTS = pytest.mark.parametrize("alert", sorted(CASES))


@pytest.fixture(scope="module")
def promtool() -> Promtool:
    return find_promtool()


@pytest.fixture(scope="module")
def groups(helm: Helm) -> list[dict[str, Any]]:
    assert NAMESPACE == HERE
    (found,) = helm.render(TWO_FLEETS).of("PrometheusRule")
    made: list[dict[str, Any]] = found["spec"]["groups"]
    return made


@pytest.fixture(scope="module")
def rules(groups: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rules") / "rules.yaml"
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump({"groups": groups}, file)
    return path


def alerts(groups: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return (rule for group in groups for rule in group["rules"] if "alert" in rule)


def firing(alert: str) -> str:
    return f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})'


def test_prometheus_takes_all_of_them(rules: Path, promtool: Promtool) -> None:
    command = [promtool.program, "check", "rules", "--lint=all", "--lint-fatal", str(rules)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried_and_nothing_else_is(groups: list[dict[str, Any]]) -> None:
    assert sorted(rule["alert"] for rule in alerts(groups)) == sorted(CASES)
    assert all(case.quiet for case in CASES.values())


@ALERTS
def test_it_fires(alert: str, rules: Path, promtool: Promtool, tmp_path: Path) -> None:
    case = CASES[alert]
    expected = [Expectation(firing(alert), case.at_m * 60, [{}])]
    assert promtool.complaints(case.fires, expected, folder=tmp_path, rules=rules) == ""


@ALERTS
def test_it_does_not_fire_where_all_is_well(alert: str, rules: Path, promtool: Promtool, tmp_path: Path) -> None:
    case = CASES[alert]
    never = [Expectation(firing(alert), minute * 60, []) for minute in (*range(10, case.at_m, 10), case.at_m)]
    for series in case.quiet:
        assert promtool.complaints(series, never, folder=tmp_path, rules=rules) == "", series


def test_what_fires_and_should_not_is_told_of(rules: Path, promtool: Promtool, tmp_path: Path) -> None:
    case = CASES["SegueServerNotReady"]
    wrong = [Expectation(firing("SegueServerNotReady"), 3600, [])]
    assert promtool.complaints(case.fires, wrong, folder=tmp_path, rules=rules) != ""


def test_the_alert_that_takes_back_names_the_voice(rules: Path, promtool: Promtool, tmp_path: Path) -> None:
    namespace, _, voice = VOICE.partition("/")
    expr = 'count by (segue_namespace, segue_voice) (ALERTS{alertname="SegueVoiceFails",alertstate="firing"})'
    expected = [Expectation(expr, 3600, [{"segue_namespace": namespace, "segue_voice": voice}])]
    assert promtool.complaints(CASES["SegueVoiceFails"].fires, expected, folder=tmp_path, rules=rules) == ""


def test_without_taking_back_it_fires_and_names_nobody(helm: Helm, promtool: Promtool, tmp_path: Path) -> None:
    rendering = helm.render(CHART / "ci" / "default-values.yaml", more=("--set", "monitoring.rules.enabled=true"))
    (found,) = rendering.of("PrometheusRule")
    path = tmp_path / "rules.yaml"
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump({"groups": found["spec"]["groups"]}, file)
    expr = 'count by (segue_voice, voice) (ALERTS{alertname="SegueVoiceFails",alertstate="firing"})'
    expected = [Expectation(expr, 3600, [{"voice": VOICE}])]
    assert promtool.complaints(CASES["SegueVoiceFails"].fires, expected, folder=tmp_path, rules=path) == ""


# --- what people read -------------------------------------------------------------------------------------------------


@ALERTS
def test_a_page_says_what_to_do(alert: str, groups: list[dict[str, Any]]) -> None:
    (rule,) = (each for each in alerts(groups) if each["alert"] == alert)
    assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{alert}.md"
    text = (RUNBOOKS / f"{alert}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {alert}\n")
    places = [text.index(section) for section in SECTIONS]
    assert places == sorted(places)
    assert "```console" in text, "exact commands"


def test_there_is_no_page_of_an_alert_that_is_gone() -> None:
    pages = {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"}
    assert pages == set(CASES)
    index = (RUNBOOKS / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\((Segue\w+)\.md\)", index)) == set(CASES)


def test_pages_can_be_anywhere(helm: Helm) -> None:
    rendering = helm.render(TWO_FLEETS, more=("--set", "monitoring.rules.runbooks=https://wiki.example.com/segue/"))
    (found,) = rendering.of("PrometheusRule")
    for rule in alerts(found["spec"]["groups"]):
        assert rule["annotations"]["runbook_url"] == f"https://wiki.example.com/segue/{rule['alert']}.md"
