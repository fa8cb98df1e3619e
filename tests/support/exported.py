"""What the three processes export, as Prometheus would keep it: from their own collectors, every family with a value.

Separate from the tests of dashboards and of alerts, which both ask whether what is asked for exists.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families
from tools.metrics.sample import REVISION, VOICE, texts

__all__ = ["OPERATOR", "POD", "REVISION", "VOICE", "Figure", "exported", "names"]

POD = {
    "namespace": "voices",
    "pod": "segue-default-7c9f6d5b8-x2x9z",
    "container": "server",
    "endpoint": "status",
    "instance": "10.0.0.7:8001",
    "job": "voices/segue-default",
    "segue_dev_fleet": "default",
}
"""Labels that a PodMonitor of the chart adds to each figure of a fleet's pod."""

OPERATOR = {
    "namespace": "segue-system",
    "pod": "segue-operator-5d4c8f7b9-k8s2p",
    "container": "operator",
    "endpoint": "http",
    "instance": "10.0.0.9:8080",
    "job": "segue-system/segue-operator",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One series at one time. `family` is the name under which its type is known."""

    name: str
    labels: dict[str, str]
    value: float
    family: str
    kind: str


def exported() -> list[Figure]:
    """All figures of one server, one sidecar and one operator."""
    targets = {"server": POD, "sidecar": POD, "operator": OPERATOR}
    return [figure for process, text in texts().items() for figure in _figures(text, targets[process])]


def names() -> set[str]:
    """Everything that can be asked for."""
    return {figure.name for figure in exported()}


def _figures(text: str, target: dict[str, str]) -> Iterator[Figure]:
    for family in text_string_to_metric_families(text):
        assert family.samples, f"{family.name} has no value here: give it one"
        for sample in family.samples:
            yield Figure(sample.name, {**target, **sample.labels}, sample.value, family.name, family.type)
