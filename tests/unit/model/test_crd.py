"""The CRD is what the API server accepts as structural, says something of every field, and is up to date."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from segue.model.crd import FILE_NAME, crd, render_crd

ROOT = Path(__file__).parents[3]
ALLOWED = {
    *("type", "description", "properties", "required", "items", "default", "enum", "pattern", "format"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength"),
    *("minItems", "maxItems", "minProperties", "maxProperties", "additionalProperties", "anyOf", "not"),
}


def nodes(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if isinstance(node.get(name), dict):
            yield from nodes(node[name], f"{path}[]")


def schema() -> dict[str, Any]:
    found: dict[str, Any] = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def spec_of(*path: str) -> dict[str, Any]:
    node: dict[str, Any] = schema()["properties"]["spec"]
    for part in path:
        node = node["properties"][part]
    return node


def test_the_schema_is_structural() -> None:
    for path, node in nodes(schema()):
        typed = node.get("type") or node.get("x-kubernetes-int-or-string")
        assert typed or node.get("x-kubernetes-preserve-unknown-fields"), path
        assert not ("properties" in node and "additionalProperties" in node), path
        assert {key for key in node if not key.startswith("x-kubernetes-")} <= ALLOWED, path
        assert isinstance(node.get("exclusiveMinimum", True), bool), path


def test_every_field_explains_itself() -> None:
    silent = [path for path, node in nodes(schema()) if "description" not in node and not path.endswith("[]")]
    assert silent == [".metadata"] or silent == ["", ".metadata"]


def test_defaults_are_written_as_a_person_would() -> None:
    assert spec_of("rollout", "preloadWaves")["default"] == [1, "25%", "100%"]
    assert spec_of("rollout", "canary", "steps")["default"] == ["5%"]
    assert spec_of("watch", "duration")["default"] == "10m"
    assert spec_of("rollout")["default"] == {}


def test_digests_are_required_in_a_cluster() -> None:
    assert spec_of("weights")["additionalProperties"]["required"] == ["sha256", "uri"]


def test_engine_and_fleet_cannot_change() -> None:
    for name in ("engine", "fleet"):
        rule = spec_of(name)["x-kubernetes-validations"][0]
        assert rule["rule"] == "self == oldSelf"
        assert name in rule["message"]


def test_every_rule_has_a_message_that_names_its_field() -> None:
    for path, node in nodes(schema()):
        for rule in node.get("x-kubernetes-validations", ()):
            leaf = path.rsplit(".", 1)[-1]
            assert leaf in rule["message"] or node.get("type") == "object", (path, rule)


def test_columns_and_names() -> None:
    version = crd()["spec"]["versions"][0]
    shown = [column["name"] for column in version["additionalPrinterColumns"] if column["priority"] == 0]
    assert shown == ["Phase", "Active", "Target", "Pods", "Age"]
    assert version["subresources"] == {"status": {}}
    assert crd()["spec"]["names"]["shortNames"] == ["vmodel"]


def test_the_file_in_the_repository_is_up_to_date() -> None:
    assert (ROOT / "crds" / FILE_NAME).read_text() == render_crd(), "run `segue crd`"
