"""The operator's rights as `deploy/` ships them, a kubeconfig that has these and no others, and which were used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from tests.support.cluster import TestCluster

RIGHTS = Path(__file__).parents[3] / "deploy" / "rights.yaml"
"""Of an operator for the whole cluster."""
ROLES = frozenset({"Role", "ClusterRole"})


class Right(NamedTuple):
    """One verb on one resource."""

    group: str
    resource: str
    verb: str


def shipped(path: Path = RIGHTS) -> list[dict[str, Any]]:
    """The objects in it."""
    return [each for each in YAML(typ="safe").load_all(path.read_text(encoding="utf-8")) if each]


def granted(path: Path = RIGHTS) -> frozenset[Right]:
    """Every right in it."""
    return frozenset(
        Right(group, resource, verb)
        for each in shipped(path)
        if each["kind"] in ROLES
        for rule in each["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    )


def used(cluster: TestCluster) -> frozenset[Right]:
    """Every right by which the API server let the shipped service account do something, since the cluster began."""
    account = _account()
    user = f"system:serviceaccount:{account['namespace']}:{account['name']}"
    return frozenset(
        Right(about.get("apiGroup", ""), _resource(about), event["verb"])
        for event in cluster.requests_of(user)
        if (about := event.get("objectRef")) and event["responseStatus"]["code"] != 403
    )


def _resource(about: dict[str, Any]) -> str:
    parts = (about["resource"], about.get("subresource"))
    return "/".join(part for part in parts if part)


def _account() -> dict[str, Any]:
    (account,) = (each["metadata"] for each in shipped() if each["kind"] == "ServiceAccount")
    return dict(account)


def install_rights(cluster: TestCluster) -> None:
    """Apply them."""
    content = {"apiVersion": "v1", "kind": "List", "items": shipped()}
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=json.dumps(content))


def operator_kubeconfig(cluster: TestCluster) -> Path:
    """A fresh token of the operator's service account."""
    account = _account()
    return cluster.kubeconfig_of_service_account(account["namespace"], account["name"])
