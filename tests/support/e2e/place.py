"""Whose cluster it is: a node of our own, kind's, or one that the environment names.

Separate from what is installed there: the suite reads the same wherever it runs, and only what needs the machine below
the cluster asks for `node`.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.cluster.cluster import KUBECONFIG, TestCluster, given_cluster
from tests.support.node import Node, open_node

IMAGES = "SEGUE_E2E_IMAGES"
"""Folder with the images' archives, to be loaded into a node of our own."""

OUTSIDE = "-outside"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A cluster with nodes, and our images on them.

    Attributes
    ----------
    node
        Of our own; None: the machine below the cluster is not ours.
    """

    cluster: TestCluster
    node: Node | None

    def address_of(self, namespace: str, service: str, *, port: str) -> tuple[str, int]:
        """Host and port at which a process here reaches a Service.

        On a node of our own that is what pods use too. Elsewhere another Service for the same pods is made, of type
        NodePort; the nodes' addresses must be reachable, as kind's are on Linux.
        """
        body = self._service(namespace, service)
        if self.node is not None:
            return body["spec"]["clusterIP"], _port(body, port)["port"]
        outside = f"{service}{OUTSIDE}"
        spec = {name: body["spec"][name] for name in ("selector", "ports")}
        manifest = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": outside},
            "spec": {**spec, "type": "NodePort"},
        }
        self.cluster.kubectl("-n", namespace, "apply", "-f", "-", input=json.dumps(manifest))
        return self._node_address(), _port(self._service(namespace, outside), port)["nodePort"]

    def _service(self, namespace: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            self.cluster.kubectl("-n", namespace, "get", "service", name, "-o", "json").stdout
        )
        return found

    def _node_address(self) -> str:
        (body, *_) = json.loads(self.cluster.kubectl("get", "nodes", "-o", "json").stdout)["items"]
        return next(str(each["address"]) for each in body["status"]["addresses"] if each["type"] == "InternalIP")


def _port(service: Mapping[str, Any], name: str) -> dict[str, Any]:
    (found,) = (each for each in service["spec"]["ports"] if each.get("name") == name)
    return dict(found)


@contextlib.contextmanager
def open_place(*, say: Say = lambda line: None) -> Iterator[Place]:
    """The cluster that the environment names, which has the images already; else a node of our own.

    Raises
    ------
    NodeUnavailable
        Neither was given, and none can be started here.
    """
    if os.environ.get(KUBECONFIG):
        with given_cluster() as cluster:
            yield Place(cluster=cluster, node=None)
        return
    with (
        tempfile.TemporaryDirectory(prefix="segue-e2e-", ignore_cleanup_errors=True) as folder,
        open_node(Path(folder), say=say) as node,
    ):
        node.load(archives())
        yield Place(cluster=node.cluster, node=node)


def archives() -> Sequence[Path]:
    """The images that were built for this run."""
    return sorted(Path(os.environ[IMAGES]).glob("*.tar")) if IMAGES in os.environ else []
