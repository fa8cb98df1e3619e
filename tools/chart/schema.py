"""The schema of the values: written by hand (`schema.yaml`) but for what goes into configuration files as it is.

That is taken from the types by which the three processes read these files, so a value that helm lets pass is one that a
process takes. What the chart itself writes into a file is left out: it has a value of its own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from ruamel.yaml import YAML

from segue_operator.config import KubernetesConfig
from segue_server.config import ServerConfig
from segue_sidecar.config import Config as SidecarConfig

SOURCE = Path(__file__).with_name("schema.yaml")
QUANTITY = {"type": "string", "pattern": "^[0-9]+(Ki|Mi|Gi|Ti)?$"}

Node = dict[str, Any]

FILES: dict[str, type[BaseModel]] = {
    "operatorConfig": KubernetesConfig,
    "serverConfig": ServerConfig,
    "sidecarConfig": SidecarConfig,
}
"""Definitions of the schema, and the types that they are made from."""

OWNED: dict[str, tuple[str, ...]] = {
    "operatorConfig": (
        "adapter",
        "kubeconfig",
        "context",
        "namespaces",
        "listen",
        "readyFile",
        "tls",
        "fleets",
        "hooks",
        "prometheus",
        "console",
        "lease.name",
        "lease.namespace",
        "lease.identity",
    ),
    "serverConfig": (
        "listen",
        "statusListen",
        "workers",
        "threads",
        "device",
        "socketDir",
        "readyFile",
        "keysFile",
        "engines",
        "cacheBytes",
        "drainSeconds",
    ),
    "sidecarConfig": (
        "pod",
        "controlListen",
        "statusListen",
        "tls",
        "handoffDirectory",
        "serverUids",
        "journalDirectory",
        "cacheDirectory",
        "readyFile",
        "pool.budgetBytes",
        "sources",
        "trustedKeys",
        "engines",
        "sharedModels",
        "desiredDirectory",
        "limits.fileBytes",
        "limits.cacheBytes",
    ),
}
"""What the chart writes itself, or what a pod has no use for."""


def render_schema() -> str:
    """values.schema.json."""
    schema: Node = YAML(typ="safe").load(SOURCE.read_text(encoding="utf-8"))
    for name, model in FILES.items():
        schema["$defs"][name] = config_schema(model, without=OWNED[name])
    return json.dumps(schema, indent=2) + "\n"


def config_schema(model: type[BaseModel], *, without: tuple[str, ...]) -> Node:
    """A type's schema in one piece, less some fields (`lease.name`); nothing is required."""
    raw = model.model_json_schema(by_alias=True)
    node = _inlined(raw, raw.get("$defs", {}))
    for path in without:
        *parents, leaf = path.split(".")
        holder = node
        for parent in parents:
            holder = holder["properties"][parent]
        del holder["properties"][leaf]
    return _without_requirements(node)


def _inlined(node: Any, definitions: Node) -> Any:
    """References replaced by what they mean; titles and defaults, which helm has no use for, left out."""
    if isinstance(node, list):
        return [_inlined(each, definitions) for each in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _inlined(definitions[node["$ref"].rpartition("/")[2]], definitions)
    kept = {key: value for key, value in node.items() if key not in ("title", "default", "format", "$defs")}
    if "properties" in kept:
        properties = {name: _field(name, value, definitions) for name, value in kept.pop("properties").items()}
        return {**_inlined(kept, definitions), "properties": properties}
    return {key: _inlined(value, definitions) for key, value in kept.items()}


def _field(name: str, node: Node, definitions: Node) -> Node:
    """One field; a number of bytes may also be written `512Mi` where the process takes that."""
    made: Node = _inlined(node, definitions)
    if name.endswith("Bytes") and made.get("type") == "integer":
        return {"anyOf": [made, QUANTITY]}
    return made


def _without_requirements(node: Node) -> Node:
    node.pop("required", None)
    for child in node["properties"].values():
        if "properties" in child:
            child.pop("required", None)
    return node
