"""What a user of a kubeconfig proves itself with: tokens, passwords, certificates, or a command that fetches them.

Separate from the session because only this runs other programs: the exec protocol of `client.authentication.k8s.io`,
which cloud providers' logins use. The older `auth-provider` plugins, which kubectl dropped (but for `oidc`), are told
apart and refused with a word on what to do.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from segue_cli.cluster.errors import NoCredentials
from segue_cli.cluster.kubeconfig import Access, Entry

_EXEC_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
_EARLY = timedelta(seconds=10)
"""Credentials this close to their end are not used any more."""

_TOKEN_FILE_LIFE = timedelta(minutes=1)
"""A token file is read again after this long: a pod's token is replaced in place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What goes with each request.

    Attributes
    ----------
    certificate
        Client certificate and key, PEM.
    expires
        When to ask for new ones; None: never.
    can_renew
        Whether asking again can give others: worth a second try after a 401.
    """

    headers: tuple[tuple[str, str], ...] = ()
    certificate: tuple[bytes, bytes] | None = None
    expires: datetime | None = None
    can_renew: bool = False

    def is_over(self, now: datetime) -> bool:
        """Whether they are too old to be used."""
        return self.expires is not None and now >= self.expires - _EARLY


def credentials_of(access: Access) -> Credentials:
    """Gather the credentials of a user; may run its login command, which may ask the person something.

    Raises
    ------
    NoCredentials
        They cannot be had.
    NoSuchContext
        A file that the kubeconfig names cannot be read.
    """
    user = access.user
    own = _static(user)
    if "exec" in user.values:
        own = _merge(own, _from_command(user.values["exec"], access))
    elif "auth-provider" in user.values and not own.headers:
        own = _merge(own, _from_provider(user.values["auth-provider"]))
    return _merge(Credentials(headers=_impersonation(user)), own)


def _merge(first: Credentials, second: Credentials) -> Credentials:
    has_token = any(name == "Authorization" for name, _ in first.headers)
    extra = [each for each in second.headers if not (has_token and each[0] == "Authorization")]
    return Credentials(
        headers=(*first.headers, *extra),
        certificate=first.certificate or second.certificate,
        expires=first.expires or second.expires,
        can_renew=first.can_renew or second.can_renew,
    )


def _static(user: Entry) -> Credentials:
    """What stands in the kubeconfig itself."""
    certificate, key = user.content("client-certificate"), user.content("client-key")
    if (certificate is None) != (key is None):
        missing = "client-key" if key is None else "client-certificate"
        raise NoCredentials(f"the kubeconfig's user has no {missing} beside the other half of its pair")
    pair = (certificate, key) if certificate is not None and key is not None else None
    token_file = user.path("tokenFile")
    if token_file is not None:
        expires = datetime.now(UTC) + _TOKEN_FILE_LIFE
        return Credentials(headers=(_bearer(_read(token_file)),), certificate=pair, expires=expires, can_renew=True)
    token, name = user.text("token"), user.text("username")
    if token is not None:
        return Credentials(headers=(_bearer(token),), certificate=pair)
    if name is not None:
        words = f"{name}:{user.text('password') or ''}"
        basic = f"Basic {base64.b64encode(words.encode()).decode('ascii')}"
        return Credentials(headers=(("Authorization", basic),), certificate=pair)
    return Credentials(certificate=pair)


def _impersonation(user: Entry) -> tuple[tuple[str, str], ...]:
    """`kubectl --as`, as a kubeconfig writes it down."""
    found = [(f"Impersonate-{header}", user.text(key)) for header, key in (("User", "as"), ("Uid", "as-uid"))]
    found += [("Impersonate-Group", str(group)) for group in user.values.get("as-groups") or ()]
    for key, values in (user.values.get("as-user-extra") or {}).items():
        found += [(f"Impersonate-Extra-{key}", str(value)) for value in values]
    return tuple((header, value) for header, value in found if value is not None)


def _bearer(token: str) -> tuple[str, str]:
    return "Authorization", f"Bearer {token.strip()}"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NoCredentials(f"the token file {path} cannot be read: {error}") from error


# --- a command that logs in -------------------------------------------------------------------------------------------


def _from_command(settings: Any, access: Access) -> Credentials:
    if not isinstance(settings, Mapping) or not settings.get("command"):
        raise NoCredentials(f"context {access.context}: its exec entry names no command")
    version = str(settings.get("apiVersion"))
    if version not in _EXEC_VERSIONS:
        raise NoCredentials(f"context {access.context}: exec wants {version}; known are {', '.join(_EXEC_VERSIONS)}")
    answer = _answer_of(_run(settings, access, version), version, command=str(settings["command"]))
    certificate, key = answer.get("clientCertificateData"), answer.get("clientKeyData")
    token = answer.get("token")
    if not token and not (certificate and key):
        raise NoCredentials(f"{settings['command']} answered neither a token nor a certificate with its key")
    return Credentials(
        headers=(_bearer(str(token)),) if token else (),
        certificate=(str(certificate).encode(), str(key).encode()) if certificate and key else None,
        expires=_time(answer.get("expirationTimestamp")),
        can_renew=True,
    )


def _run(settings: Mapping[str, Any], access: Access, version: str) -> str:
    interactive = _may_ask(settings, access)
    command = _command(str(settings["command"]), access.user.folder)
    arguments = [command, *(str(each) for each in settings.get("args") or ())]
    extra = {str(each["name"]): str(each["value"]) for each in settings.get("env") or ()}
    info = {"apiVersion": version, "kind": "ExecCredential", "spec": _exec_spec(settings, access, interactive)}
    try:
        done = subprocess.run(
            arguments,
            env={**os.environ, **extra, "KUBERNETES_EXEC_INFO": json.dumps(info)},
            stdin=None if interactive else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
    except OSError as error:
        hint = f"; {settings['installHint']}" if settings.get("installHint") else ""
        raise NoCredentials(
            f"context {access.context} logs in with {command}, which cannot be run: {error.strerror}{hint}"
        ) from error
    if done.returncode != 0:
        raise NoCredentials(
            f"context {access.context}: {' '.join(arguments)} ended with {done.returncode}; log in again"
        )
    return done.stdout


def _may_ask(settings: Mapping[str, Any], access: Access) -> bool:
    """Whether the command gets the terminal."""
    mode = settings.get("interactiveMode", "IfAvailable")
    at_terminal = sys.stdin is not None and sys.stdin.isatty()
    if mode == "Always" and not at_terminal:
        raise NoCredentials(f"context {access.context}: {settings['command']} must ask you, and there is no terminal")
    return bool(mode != "Never" and at_terminal)


def _command(name: str, folder: Path) -> str:
    """A path with a slash starts from the kubeconfig's folder, a bare name is looked up in PATH."""
    return str(folder / name) if "/" in name and not Path(name).is_absolute() else name


def _exec_spec(settings: Mapping[str, Any], access: Access, interactive: bool) -> dict[str, Any]:
    spec: dict[str, Any] = {"interactive": interactive}
    if settings.get("provideClusterInfo"):
        authority = access.cluster.content("certificate-authority")
        told = {
            "server": access.server,
            "tls-server-name": access.cluster.text("tls-server-name"),
            "insecure-skip-tls-verify": access.cluster.values.get("insecure-skip-tls-verify"),
            "certificate-authority-data": base64.b64encode(authority).decode("ascii") if authority else None,
            "proxy-url": access.cluster.text("proxy-url"),
            "config": _extension(access.cluster),
        }
        spec["cluster"] = {key: value for key, value in told.items() if value is not None}
    return spec


def _extension(cluster: Entry) -> Any:
    """What the kubeconfig keeps for the command."""
    for each in cluster.values.get("extensions") or ():
        if each.get("name") == "client.authentication.k8s.io/exec":
            return each.get("extension")
    return None


def _answer_of(text: str, version: str, *, command: str) -> Mapping[str, Any]:
    try:
        answer = json.loads(text)
    except ValueError as error:
        raise NoCredentials(f"{command} answered no JSON: {text[:80]!r}") from error
    status = answer.get("status") if isinstance(answer, Mapping) else None
    if not isinstance(status, Mapping) or answer.get("apiVersion") != version:
        raise NoCredentials(f"{command} did not answer an ExecCredential of {version} with a status")
    return status


def _time(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text)) if text else None
    except ValueError as error:
        raise NoCredentials(f"expirationTimestamp of the credentials is no time: {text!r}") from error


# --- what kubectl had before ------------------------------------------------------------------------------------------


def _from_provider(settings: Any) -> Credentials:
    """An `oidc` token that kubectl left and that still holds; nothing is refreshed here."""
    name = settings.get("name") if isinstance(settings, Mapping) else None
    if name != "oidc":
        raise NoCredentials(f"the auth-provider {name} is not supported (nor by kubectl since 1.26); use an exec login")
    token = (settings.get("config") or {}).get("id-token")
    expires = _expiry(str(token)) if token else None
    if expires is None or expires <= datetime.now(UTC) + _EARLY:
        raise NoCredentials("the oidc token of the kubeconfig is over; any kubectl command refreshes it")
    return Credentials(headers=(_bearer(str(token)),), expires=expires)


def _expiry(token: str) -> datetime | None:
    """`exp` of a JWT, unverified: only the API server can judge it."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return datetime.fromtimestamp(float(claims["exp"]), UTC)
    except (IndexError, KeyError, ValueError, TypeError):
        return None
