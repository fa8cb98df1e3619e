"""Kubeconfig files, written and read, and HTTP clients made from them.

A file of ours holds one context and everything inline, so that it can be handed to any process and can never reach
another cluster.
"""

from __future__ import annotations

import base64
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
from ruamel.yaml import YAML
from tests.support.cluster.certificates import KeyPair

_NAME = "segue-test"


class NoLogin(ValueError):
    """A kubeconfig that logs in neither by certificate nor by token, but knows its server.

    Attributes
    ----------
    server, ca
        Of the cluster.
    """

    def __init__(self, message: str, *, server: str, ca: bytes) -> None:
        super().__init__(message)
        self.server = server
        self.ca = ca


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """A server, and who one is there: by certificate or by token."""

    server: str
    ca: bytes
    pair: KeyPair | None = None
    token: str | None = None

    @classmethod
    def read(cls, path: Path) -> Self:
        """From a flattened file with one context, as `write` and `kubectl config view --minify --flatten` make it.

        Raises
        ------
        NoLogin
            It logs in neither by certificate nor by token.
        """
        document = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
        cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
        token, pair = user.get("token"), None
        if "client-certificate-data" in user:
            pair = KeyPair(cert=_decoded(user["client-certificate-data"]), key=_decoded(user["client-key-data"]))
        ca = _decoded(cluster.get("certificate-authority-data", ""))
        if token is None and pair is None:
            how = f"{path} logs in by {', '.join(user) or 'nothing'}; tests need a certificate or a token"
            raise NoLogin(how, server=cluster["server"], ca=ca)
        return cls(server=cluster["server"], ca=ca, pair=pair, token=token)

    def write(self, path: Path, *, namespace: str = "default") -> Path:
        """A kubeconfig, for its owner only."""
        user: dict[str, Any] = {"token": self.token} if self.token is not None else {}
        if self.pair is not None:
            user["client-certificate-data"] = _encoded(self.pair.cert)
            user["client-key-data"] = _encoded(self.pair.key)
        cluster = {"server": self.server, "certificate-authority-data": _encoded(self.ca)}
        context = {"cluster": _NAME, "user": _NAME, "namespace": namespace}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": _NAME, "cluster": cluster}],
            "users": [{"name": _NAME, "user": user}],
            "contexts": [{"name": _NAME, "context": context}],
            "current-context": _NAME,
        }
        path.touch(mode=0o600)
        with path.open("w", encoding="utf-8") as file:
            YAML(typ="safe").dump(document, file)
        return path

    def client(self) -> httpx.Client:
        """For raw calls of the API; to be closed by the caller."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token is not None else {}
        return httpx.Client(base_url=self.server, verify=self._context(), headers=headers, timeout=30, trust_env=False)

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.ca.decode() or None)
        if self.pair is not None:
            with tempfile.TemporaryDirectory() as folder:
                context.load_cert_chain(*self.pair.write(Path(folder), "client"))
        return context


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _decoded(text: str) -> bytes:
    return base64.b64decode(text)
