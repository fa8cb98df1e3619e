"""The operator's rights as `deploy/` ships them, and a kubeconfig that has these and no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from tests.support.cluster import TestCluster

DEPLOY = Path(__file__).parents[3] / "deploy"
RIGHTS = (
    "Namespace",
    "ServiceAccount",
    "Role",
    "ClusterRole",
    "RoleBinding",
    "ClusterRoleBinding",
)
"""Kinds that are applied; the rest of the folder describes where the operator runs, and here it is a process."""


def shipped() -> list[dict[str, Any]]:
    """The objects of these kinds for an operator of the whole cluster, in the order of `RIGHTS`."""
    yaml = YAML(typ="safe")
    documents = [each for path in sorted(DEPLOY.glob("*.yaml")) for each in yaml.load_all(path.read_text()) if each]
    return sorted((each for each in documents if each["kind"] in RIGHTS), key=lambda each: RIGHTS.index(each["kind"]))


def install_rights(cluster: TestCluster) -> None:
    """Apply them."""
    content = {"apiVersion": "v1", "kind": "List", "items": shipped()}
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=json.dumps(content))


def operator_kubeconfig(cluster: TestCluster) -> Path:
    """A fresh token of the operator's service account."""
    (account,) = (each["metadata"] for each in shipped() if each["kind"] == "ServiceAccount")
    return cluster.kubeconfig_of_service_account(account["namespace"], account["name"])
