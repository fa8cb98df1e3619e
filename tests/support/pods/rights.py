"""The operator's rights as `deploy/` ships them, and a kubeconfig that has these and no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from tests.support.cluster import TestCluster

RIGHTS = Path(__file__).parents[3] / "deploy" / "rights.yaml"
"""Of an operator for the whole cluster."""


def shipped() -> list[dict[str, Any]]:
    """The objects in it."""
    return [each for each in YAML(typ="safe").load_all(RIGHTS.read_text(encoding="utf-8")) if each]


def install_rights(cluster: TestCluster) -> None:
    """Apply them."""
    content = {"apiVersion": "v1", "kind": "List", "items": shipped()}
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=json.dumps(content))


def operator_kubeconfig(cluster: TestCluster) -> Path:
    """A fresh token of the operator's service account."""
    (account,) = (each["metadata"] for each in shipped() if each["kind"] == "ServiceAccount")
    return cluster.kubeconfig_of_service_account(account["namespace"], account["name"])
