"""A login that tests can hand on, where a kubeconfig has none: a token instead of a command or a provider.

Separate because it is the one thing that is put into somebody else's cluster beside namespaces: a service account with
every right, for as long as the tests run. `kubectl` logs in as the kubeconfig says; nobody else has to know how.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.cluster.access import Access, NoLogin

ACCOUNT = "tests"
LIFETIME = "8h"
_LIMIT_S = 60


@contextlib.contextmanager
def portable(kubeconfig: Path, *, kubectl: Path, directory: Path) -> Iterator[Path]:
    """A kubeconfig that logs in by certificate or token: the one given, or one with a token of a new service account.

    Raises
    ------
    ValueError
        kubectl could not log in or was not allowed to; the message is its own.
    """
    try:
        Access.read(kubeconfig)
    except NoLogin as given:
        with _account(kubeconfig, kubectl) as token:
            access = Access(server=given.server, ca=given.ca, token=token)
            yield access.write(directory / "kubeconfig-token.yaml")
    else:
        yield kubeconfig


@contextlib.contextmanager
def _account(kubeconfig: Path, kubectl: Path) -> Iterator[str]:
    """A service account that may do everything, until the end of the context; its token."""

    def run(*arguments: str, body: Any = None) -> str:
        command = [str(kubectl), "--kubeconfig", str(kubeconfig), *arguments]
        content = json.dumps(body) if body is not None else ""
        done = subprocess.run(command, input=content, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
        if done.returncode != 0:
            raise ValueError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    created = json.loads(run("create", "-o", "json", "-f", "-", body=_namespace()))
    namespace = str(created["metadata"]["name"])
    try:
        run("-n", namespace, "create", "serviceaccount", ACCOUNT)
        subject = f"--serviceaccount={namespace}:{ACCOUNT}"
        run("create", "clusterrolebinding", namespace, "--clusterrole=cluster-admin", subject)
        yield run("-n", namespace, "create", "token", ACCOUNT, f"--duration={LIFETIME}").strip()
    finally:
        run("delete", "clusterrolebinding", namespace, "--ignore-not-found")
        run("delete", "namespace", namespace, "--wait=false")


def _namespace() -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": "segue-tests-"}}
