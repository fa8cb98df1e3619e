"""One installation on a real API server, in a namespace of its own.

Separate from `helm.py`, which needs no cluster. No pod ever runs by itself here, so nobody waits for one.
"""

from __future__ import annotations

import json
from dataclasses import replace

from tests.support.chart.helm import CHART, RELEASE, Helm
from tests.support.chart.rendering import Body
from tests.support.cluster import TestCluster

MADE = "segue.dev/made"
"""Annotation of a certificate's Secret: when the chart made it."""


class Release:
    """The release `segue` of a namespace."""

    def __init__(self, helm: Helm, cluster: TestCluster) -> None:
        self.namespace = cluster.new_namespace("release")
        self.cluster = cluster
        self._helm = replace(helm, kubeconfig=cluster.kubeconfig)

    def upgrade(self, *settings: str) -> None:
        """Install it, or bring it up to date."""
        place = ("--namespace", self.namespace, "--wait=hookOnly")
        self._helm.run("upgrade", "--install", RELEASE, str(CHART), *place, *settings)

    def uninstall(self) -> None:
        """If it is there."""
        self._helm.run("uninstall", RELEASE, "--namespace", self.namespace, "--wait=hookOnly", "--ignore-not-found")

    def secret(self, name: str) -> Body:
        """As it lies there."""
        return self._object(f"/api/v1/namespaces/{self.namespace}/secrets/{name}")

    def deployment(self, name: str) -> Body:
        """As it lies there."""
        return self._object(f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{name}")

    def pairs(self, *fleets: str) -> dict[str, Body]:
        """The contents of the certificates' Secrets, the operator's among them."""
        return {name: self.secret(f"{RELEASE}-{name}-tls")["data"] for name in (*fleets, "operator")}

    def date_back(self, name: str, made: str) -> None:
        """Have a pair made at another time, said by helm itself: what others wrote it would not overwrite."""
        body = self.secret(name)
        body["metadata"]["annotations"][MADE] = made
        for field in ("managedFields", "resourceVersion"):
            del body["metadata"][field]
        as_helm = ("apply", "--server-side", "--field-manager=helm", "--force-conflicts", "-f", "-")
        self.cluster.kubectl(*as_helm, input=json.dumps(body))

    def _object(self, path: str) -> Body:
        with self.cluster.client() as api:
            answer = api.get(path)
        assert answer.is_success, answer.text
        body: Body = answer.json()
        return body
