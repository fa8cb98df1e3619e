"""The table of metrics says what the processes tell, by Prometheus' own rules of naming."""

from __future__ import annotations

import subprocess

import pytest
from tests.support.promtool import find_promtool
from tools.metrics.page import BOUNDS, described, render_page
from tools.metrics.sample import texts

PROCESSES = pytest.mark.parametrize("process", ["server", "sidecar", "operator"])


@PROCESSES
def test_every_metric_is_explained_and_every_label_is_bounded(process: str) -> None:
    metrics = described(texts()[process])
    assert metrics
    for metric in metrics:
        assert metric.meaning.endswith("."), metric.name
        assert set(metric.labels) <= BOUNDS.keys(), metric
        assert f"| `{metric.name}` | {metric.kind} |" in render_page()


@PROCESSES
def test_a_metric_says_whose_it_is(process: str) -> None:
    """`process_*` is every exporter's; the server's own have no further word."""
    prefix = {"server": "segue_", "sidecar": "segue_sidecar_", "operator": "segue_operator_"}[process]
    for metric in described(texts()[process]):
        assert metric.name.startswith((prefix, "process_")), metric.name


@PROCESSES
@pytest.mark.process
def test_names_are_as_prometheus_wants_them(process: str) -> None:
    program = find_promtool().program
    done = subprocess.run(
        [program, "check", "metrics"],
        input=texts()[process],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.process
def test_a_name_that_prometheus_does_not_want_is_told_of() -> None:
    bad = "# HELP segue_things A counter.\n# TYPE segue_things counter\nsegue_things 1\n"
    command = [find_promtool().program, "check", "metrics"]
    done = subprocess.run(command, input=bad, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
