"""What values the chart takes: the schema alone, without helm."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from ruamel.yaml import YAML
from tests.support.chart.helm import CASES, CHART, case_name
from tests.support.chart.wrong_values import BY_SCHEMA, as_values, ids
from tools.chart.schema import FILES, OWNED, config_schema

SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema_rs.validator_for(SCHEMA)


def values_of_chart() -> dict[str, Any]:
    values: dict[str, Any] = YAML(typ="safe").load((CHART / "values.yaml").read_text(encoding="utf-8"))
    return values


def over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Values over the defaults, as helm lays them before it looks at the schema."""
    merged = dict(below)
    for name, value in above.items():
        both = isinstance(value, dict) and isinstance(below.get(name), dict)
        merged[name] = over(below[name], value) if both else value
    return merged


def complaints(values: dict[str, Any]) -> list[str]:
    """Where and what."""
    return [f"{'/'.join(map(str, error.instance_path))}: {error.message}" for error in VALIDATOR.iter_errors(values)]


def test_the_defaults_hold() -> None:
    assert complaints(values_of_chart()) == []


@pytest.mark.parametrize("case", CASES, ids=case_name)
def test_what_is_tested_holds(case: Any) -> None:
    assert complaints(YAML(typ="safe").load(case.read_text(encoding="utf-8"))) == []


def test_what_the_documentation_sets_holds() -> None:
    page = (CHART.parents[1] / "docs" / "helm.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) > 1
    assert [complaints(YAML(typ="safe").load(block)) for block in blocks] == [[]] * len(blocks)


@pytest.mark.parametrize(("text", "words"), BY_SCHEMA, ids=ids(BY_SCHEMA))
def test_a_wrong_value_is_refused_by_name(text: str, words: str) -> None:
    found = complaints(over(values_of_chart(), as_values(text)))
    assert any(words in complaint for complaint in found), found


def sections(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object with properties that the schema describes."""
    if "$ref" in node:
        node = SCHEMA["$defs"][node["$ref"].rpartition("/")[2]]
    if "properties" in node:
        yield path, node
        for name, child in node["properties"].items():
            yield from sections(child, f"{path}.{name}".lstrip("."))


def test_every_section_is_closed() -> None:
    found = dict(sections(SCHEMA))
    assert len(found) > 40
    assert [path for path, node in found.items() if node.get("additionalProperties") is not False] == []


def test_every_value_is_described_and_every_description_has_a_value() -> None:
    """The two say the same, section by section, but for what only somebody's own values hold."""

    def compare(node: dict[str, Any], values: Any, path: str) -> Iterator[str]:
        if "$ref" in node:
            node = SCHEMA["$defs"][node["$ref"].rpartition("/")[2]]
        properties = node.get("properties")
        if not properties or not isinstance(values, dict) or not values:
            return
        yield from (f"{path}.{name}" for name in properties.keys() ^ values.keys())
        for name in properties.keys() & values.keys():
            yield from compare(properties[name], values[name], f"{path}.{name}")

    only_yours = {".global", ".fleet.server.resources.limits", ".fleet.sidecar.resources.limits"}
    assert set(compare(SCHEMA, values_of_chart(), "")) == only_yours


@pytest.mark.parametrize("name", list(FILES))
def test_what_the_chart_writes_itself_cannot_be_set_beside_it(name: str) -> None:
    whole = config_schema(FILES[name], without=())
    cut = config_schema(FILES[name], without=OWNED[name])
    for path in OWNED[name]:
        *parents, leaf = path.split(".")
        inside, outside = whole, cut
        for parent in parents:
            inside, outside = inside["properties"][parent], outside["properties"][parent]
        assert leaf in inside["properties"]
        assert leaf not in outside["properties"]
