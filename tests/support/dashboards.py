"""The dashboards as the chart ships them, and what they ask when somebody has chosen something."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.chart.helm import CHART
from tests.support.exported import POD, VOICE
from tests.support.promql import filled

FOLDER = CHART / "dashboards"
DASHBOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))
}
NAMES = tuple(DASHBOARDS)
VALUES = {
    "__rate_interval": "2m",
    "__range": "3h",
    "namespace": POD["namespace"],
    "operator_namespace": "(segue-system|other)",
    "fleet": ".*",
    "pod": f"({POD['pod']}|other)",
    "voice_namespace": VOICE.partition("/")[0],
    "voice": VOICE,
}
"""What variables may be, as Grafana writes one value, several, and all."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One query and what names its series."""

    where: str
    expr: str
    legend: str


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """All but headings."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def variables(dashboard: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By name."""
    return {each["name"]: each for each in dashboard["templating"]["list"]}


def asked(name: str, values: Mapping[str, str] = VALUES) -> Iterator[Asked]:
    """Every query of one dashboard, with the variables filled in."""
    for panel in panels(DASHBOARDS[name]):
        for target in panel["targets"]:
            where = f"{name}: {panel['title']} {target['refId']}"
            yield Asked(where, filled(target["expr"], values), target["legendFormat"])
    for marker in DASHBOARDS[name]["annotations"]["list"]:
        yield Asked(f"{name}: {marker['name']}", filled(marker["expr"], values), marker["textFormat"])


QUERIES = tuple(each for name in NAMES for each in asked(name))
