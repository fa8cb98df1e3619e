"""What a user proves itself with; login commands are real programs."""

from __future__ import annotations

import base64
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from segue_cli.cluster.credentials import credentials_of
from segue_cli.cluster.errors import NoCredentials
from segue_cli.cluster.kubeconfig import Access, Entry

V1 = "client.authentication.k8s.io/v1"

LOGIN = f"""\
#!{sys.executable}
import json, os, sys
info = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
status = {{"token": os.environ.get("WHO", "nobody") + "@" + info["spec"].get("cluster", {{}}).get("server", "")}}
status["expirationTimestamp"] = "2126-11-22T10:00:00Z"
print(json.dumps({{"apiVersion": info["apiVersion"], "kind": "ExecCredential", "status": status}}))
sys.exit(int(os.environ.get("CODE", "0")))
"""


def access(folder: Path, **user: Any) -> Access:
    cluster = Entry({"server": "https://dev:6443"}, folder)
    return Access(context="dev", is_named=True, namespace="default", cluster=cluster, user=Entry(user, folder))


def login(folder: Path, **settings: Any) -> dict[str, Any]:
    """An `exec` entry whose command is a file beside the kubeconfig."""
    command = folder / "login"
    command.write_text(LOGIN, encoding="utf-8")
    command.chmod(0o755)
    return {"apiVersion": V1, "command": "./login", "interactiveMode": "Never", **settings}


def test_a_token_is_a_bearer(tmp_path: Path) -> None:
    assert credentials_of(access(tmp_path, token="abc")).headers == (("Authorization", "Bearer abc"),)


def test_a_token_file_goes_before_a_token_and_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("fresh\n", encoding="utf-8")
    found = credentials_of(access(tmp_path, token="stale", tokenFile="token"))
    assert found.headers == (("Authorization", "Bearer fresh"),)
    assert found.is_over(datetime.now(UTC) + timedelta(minutes=2))
    assert not found.is_over(datetime.now(UTC))


def test_a_name_and_a_password(tmp_path: Path) -> None:
    ((_, value),) = credentials_of(access(tmp_path, username="jane", password="s:e")).headers
    assert base64.b64decode(value.removeprefix("Basic ")) == b"jane:s:e"


def test_half_a_pair_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoCredentials, match="no client-key"):
        credentials_of(access(tmp_path, **{"client-certificate-data": base64.b64encode(b"cert").decode()}))


def test_somebody_else_is_asked_for_by_header(tmp_path: Path) -> None:
    user = {"token": "t", "as": "joe", "as-groups": ["a", "b"], "as-user-extra": {"reason": ["x"]}}
    assert credentials_of(access(tmp_path, **user)).headers == (
        ("Impersonate-User", "joe"),
        ("Impersonate-Group", "a"),
        ("Impersonate-Group", "b"),
        ("Impersonate-Extra-reason", "x"),
        ("Authorization", "Bearer t"),
    )


def test_a_command_logs_in_with_its_environment(tmp_path: Path) -> None:
    settings = login(tmp_path, env=[{"name": "WHO", "value": "jane"}], provideClusterInfo=True)
    found = credentials_of(access(tmp_path, exec=settings))
    assert found.headers == (("Authorization", "Bearer jane@https://dev:6443"),)
    assert found.expires == datetime(2126, 11, 22, 10, tzinfo=UTC)
    assert found.can_renew


def test_a_command_that_fails_is_named(tmp_path: Path) -> None:
    settings = login(tmp_path, env=[{"name": "CODE", "value": "7"}])
    with pytest.raises(NoCredentials, match="login ended with 7; log in again"):
        credentials_of(access(tmp_path, exec=settings))


def test_a_command_that_is_not_installed_is_answered_with_its_hint(tmp_path: Path) -> None:
    settings = {"apiVersion": V1, "command": "no-such-login", "installHint": "get it from the cloud"}
    with pytest.raises(NoCredentials, match=r"no-such-login, which cannot be run: .*; get it from the cloud"):
        credentials_of(access(tmp_path, exec=settings))


def test_a_command_that_must_ask_has_nobody_to_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(NoCredentials, match="there is no terminal"):
        credentials_of(access(tmp_path, exec=login(tmp_path, interactiveMode="Always")))


@pytest.mark.parametrize("said", ["no json", "[]", "{}", json.dumps({"apiVersion": V1, "status": {}})])
def test_an_answer_that_is_none_is_refused(tmp_path: Path, said: str) -> None:
    settings = {"apiVersion": V1, "command": "echo", "args": [said], "interactiveMode": "Never"}
    with pytest.raises(NoCredentials):
        credentials_of(access(tmp_path, exec=settings))


def test_an_exec_version_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoCredentials, match="v1alpha1; known are"):
        credentials_of(access(tmp_path, exec={"apiVersion": "client.authentication.k8s.io/v1alpha1", "command": "x"}))


def jwt(expires: float) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": expires}).encode()).decode().rstrip("=")
    return f"head.{claims}.signature"


def test_an_oidc_token_serves_while_it_holds(tmp_path: Path) -> None:
    later = jwt((datetime.now(UTC) + timedelta(hours=1)).timestamp())
    provider = {"name": "oidc", "config": {"id-token": later}}
    assert credentials_of(access(tmp_path, **{"auth-provider": provider})).headers[0][1] == f"Bearer {later}"


@pytest.mark.parametrize("token", ["", "garbage", "a.b.c", jwt(0.0)])
def test_an_oidc_token_that_is_over_is_refreshed_by_kubectl(tmp_path: Path, token: str) -> None:
    with pytest.raises(NoCredentials, match="any kubectl command refreshes it"):
        credentials_of(access(tmp_path, **{"auth-provider": {"name": "oidc", "config": {"id-token": token}}}))


def test_a_provider_that_kubectl_dropped_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoCredentials, match="gcp is not supported"):
        credentials_of(access(tmp_path, **{"auth-provider": {"name": "gcp"}}))
