"""The service account that we run as, for what shall go with it.

Separate because a token is only read here, and believed nothing that matters: it names the owner of the Lease, so that
an operator that is uninstalled leaves none behind. No right is needed for that, unlike for asking the API server.

Source: the claim `kubernetes.io` of bound service account tokens (kubernetes/enhancements, KEP-1205).
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


def owner_references(namespace: str, *, token: Path = TOKEN) -> list[dict[str, str]]:
    """For an object of this namespace: our service account, if it is there too; else none."""
    try:
        claims = _claims(token.read_text(encoding="ascii"))
        account = claims["serviceaccount"]
        is_near = claims["namespace"] == namespace
        reference = {"apiVersion": "v1", "kind": "ServiceAccount", "name": account["name"], "uid": account["uid"]}
    except (OSError, ValueError, KeyError, TypeError):
        return []  # outside a cluster, or a token of another kind
    return [reference] if is_near and all(isinstance(each, str) for each in reference.values()) else []


def _claims(token: str) -> Any:
    body = token.split(".")[1] if token.count(".") == 2 else ""
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["kubernetes.io"]
