"""Whom a token says that we are; whatever else it is, it says nothing."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from segue_operator.kubernetes.lease_record import LeaseName, Tenure, held, parse, unheld
from segue_operator.kubernetes.own_account import owner_references

ACCOUNT = {"name": "segue-operator", "uid": "11111111-2222-3333-4444-555555555555"}
REFERENCE = {"apiVersion": "v1", "kind": "ServiceAccount", **ACCOUNT}


def token(folder: Path, claims: Any) -> Path:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    path = folder / "token"
    path.write_text(f"eyJhbGciOiJSUzI1NiJ9.{body}.c2lnbmF0dXJl", encoding="ascii")
    return path


def test_a_bound_token_names_our_account(tmp_path: Path) -> None:
    claims = {"aud": ["api"], "kubernetes.io": {"namespace": "voices", "serviceaccount": ACCOUNT}}
    assert owner_references("voices", token=token(tmp_path, claims)) == [REFERENCE]


def test_an_account_of_another_namespace_owns_nothing_here(tmp_path: Path) -> None:
    claims = {"kubernetes.io": {"namespace": "segue-system", "serviceaccount": ACCOUNT}}
    assert owner_references("voices", token=token(tmp_path, claims)) == []


@pytest.mark.parametrize(
    "claims", [{}, {"kubernetes.io": {}}, {"kubernetes.io": None}, [], {"kubernetes.io": {"serviceaccount": "text"}}]
)
def test_a_token_of_another_kind_names_nobody(tmp_path: Path, claims: Any) -> None:
    assert owner_references("voices", token=token(tmp_path, claims)) == []


@pytest.mark.parametrize("text", ["", "no token", "a.b", "a.%%%.c", "a..c"])
def test_what_is_no_token_names_nobody(tmp_path: Path, text: str) -> None:
    path = tmp_path / "token"
    path.write_text(text, encoding="ascii")
    assert owner_references("voices", token=path) == []


def test_outside_a_cluster_there_is_no_account(tmp_path: Path) -> None:
    assert owner_references("voices", token=tmp_path / "absent") == []


# --- what a Lease makes of it -----------------------------------------------------------------------------------------

NOW = datetime(2026, 11, 27, tzinfo=UTC)
AT = LeaseName(namespace="voices", name="segue-operator")


def test_a_new_lease_has_its_owner_whoever_makes_it() -> None:
    tenure = Tenure(holder="me", acquired_at="now", term=1)
    made = unheld(AT, duration_s=15, now=NOW, owners=[REFERENCE])
    again = held(tenure, at=AT, over=None, duration_s=15, now=NOW, owners=[REFERENCE])
    assert made["metadata"]["ownerReferences"] == again["metadata"]["ownerReferences"] == [REFERENCE]


def test_a_lease_that_exists_keeps_the_owners_that_it_has() -> None:
    tenure = Tenure(holder="me", acquired_at="now", term=1)
    found = parse({"metadata": {"name": AT.name, "namespace": AT.namespace, "uid": "u"}, "spec": {}})
    body = held(tenure, at=AT, over=found, duration_s=15, now=NOW, owners=[REFERENCE])
    assert "ownerReferences" not in body["metadata"]
