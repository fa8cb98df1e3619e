"""What is added to a pod: the sidecar, its volumes, its configuration file.

Plain data and pure functions, so that the test that compares them with the chart needs no files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import LiteralScalarString

from segue.desired import SHARDS, config_map_name

Body = dict[str, Any]

SIDECAR = "sidecar"
SOCKET_DIRECTORY = "/run/segue"
CONTROL_PORT, STATUS_PORT = 8443, 8081
STARTUP_S = 1800
OWN_BYTES = 512 << 20
"""Of the sidecar's process and its children, beside weights."""

COLD_START_S = 5
"""How long the server has requests wait for a cold voice, unless it is told otherwise."""

_MIB = 1 << 20
_FIELDS = {"SEGUE_POD_UID": "uid", "SEGUE_POD_NAME": "name", "SEGUE_POD_NAMESPACE": "namespace"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarPlan:
    """What the sidecar is to be.

    Attributes
    ----------
    workload
        Name of the Deployment; the ConfigMap with the configuration is called after it.
    server_uid
        Whose workers may connect.
    budget_bytes, largest_file_bytes, cache_bytes, prepared_bytes
        Memory for weights; the largest file that may be fetched; disk for fetched files, and for prepared parts.
    """

    fleet: str
    image: str
    uid: int
    tls_secret: str
    device_class: str
    budget_bytes: int
    largest_file_bytes: int
    cache_bytes: int
    prepared_bytes: int
    sources: Sequence[str] = ()
    trusted_keys: Sequence[str] = ()
    workload: str = ""
    server_uid: int = 0

    @property
    def config_map(self) -> str:
        """Name of the ConfigMap with its configuration."""
        return f"{self.workload}-segue"

    @property
    def memory(self) -> str:
        """Its limit: the budget, two of the largest file while it is read and prepared, and its own."""
        return _mebibytes(self.budget_bytes + 2 * self.largest_file_bytes + OWN_BYTES)

    @property
    def fingerprint(self) -> str:
        """Of the configuration file."""
        return hashlib.sha256(_dumped(config(self)).encode()).hexdigest()[:16]


def sidecar(plan: SidecarPlan) -> Body:
    """The container: a native sidecar, which starts before the server and ends after it."""
    return {
        "name": SIDECAR,
        "image": plan.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", "segue_sidecar", "--config", "/config/sidecar.yaml", "--log-format", "json"],
        "restartPolicy": "Always",
        "env": [{"name": "HOME", "value": "/tmp"}, *(_from_pod(name, field) for name, field in _FIELDS.items())],
        "ports": [
            {"name": "segue-control", "containerPort": CONTROL_PORT},
            {"name": "sidecar-status", "containerPort": STATUS_PORT},
        ],
        "startupProbe": _probe("/readyz", periodSeconds=2, timeoutSeconds=2, failureThreshold=STARTUP_S // 2),
        "readinessProbe": _probe("/readyz", periodSeconds=5, timeoutSeconds=2),
        "livenessProbe": _probe("/healthz", timeoutSeconds=5, failureThreshold=6),
        "resources": {"limits": {"memory": plan.memory}, "requests": {"cpu": "100m", "memory": plan.memory}},
        "securityContext": {
            "runAsUser": plan.uid,
            "runAsGroup": plan.uid,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            _mount("sidecar-config", "/config", readOnly=True),
            _mount("tls", "/tls", readOnly=True),
            _mount("handoff", SOCKET_DIRECTORY),
            _mount("journal", "/journal"),
            _mount("cache", "/cache"),
            _mount("desired", "/desired", readOnly=True),
            _mount("sidecar-tmp", "/tmp"),
        ],
    }


def server_mount(directory: str) -> Body:
    """What the server's container gets: the hand-off directory, which it must not be able to write."""
    return _mount("handoff", directory, readOnly=True)


def volumes(plan: SidecarPlan) -> list[Body]:
    """All volumes of the sidecar."""
    shards = [{"configMap": {"name": config_map_name(plan.fleet, index), "optional": True}} for index in range(SHARDS)]
    config = {"name": plan.config_map, "items": [{"key": "sidecar.yaml", "path": "sidecar.yaml"}]}
    cache = _mebibytes(plan.cache_bytes + plan.prepared_bytes + 3 * plan.largest_file_bytes)
    return [
        {"name": "segue-sidecar-config", "configMap": config},
        {"name": "segue-tls", "secret": {"secretName": plan.tls_secret, "defaultMode": 0o440}},
        {"name": "segue-handoff", "emptyDir": {"sizeLimit": "1Mi"}},
        {"name": "segue-journal", "emptyDir": {"sizeLimit": "1Gi"}},
        {"name": "segue-cache", "emptyDir": {"sizeLimit": cache}},
        {"name": "segue-desired", "projected": {"sources": shards}},
        {"name": "segue-sidecar-tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
    ]


def config(plan: SidecarPlan) -> Body:
    """The configuration file; who the pod is comes from the environment."""
    written: Body = {
        "pod": {"fleet": plan.fleet, "deviceClass": plan.device_class},
        "controlListen": f"0.0.0.0:{CONTROL_PORT}",
        "statusListen": f"0.0.0.0:{STATUS_PORT}",
        "tls": {"directory": "/tls"},
        "handoffDirectory": SOCKET_DIRECTORY,
        "serverUids": [plan.server_uid],
        "journalDirectory": "/journal",
        "cacheDirectory": "/cache",
        "desiredDirectory": "/desired",
        "pool": {"budgetBytes": plan.budget_bytes},
        "limits": {"fileBytes": plan.largest_file_bytes, "cacheBytes": plan.cache_bytes},
        "tiers": {"diskBytes": plan.prepared_bytes, "waitS": COLD_START_S},
    }
    if plan.sources:
        written["sources"] = [{"uriPrefixes": list(plan.sources)}]
    if plan.trusted_keys:
        written["trustedKeys"] = list(plan.trusted_keys)
    return written


def config_map(plan: SidecarPlan, *, namespace: str | None) -> str:
    """The ConfigMap with it, as a YAML document."""
    metadata = {"name": plan.config_map, **({"namespace": namespace} if namespace else {})}
    data = {"sidecar.yaml": LiteralScalarString(_dumped(config(plan)))}
    return _dumped({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


def _dumped(node: Body) -> str:
    out = StringIO()
    YAML(typ="rt").dump(node, out)
    return out.getvalue()


def _from_pod(name: str, field: str) -> Body:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": f"metadata.{field}"}}}


def _probe(path: str, **timing: int) -> Body:
    return {"httpGet": {"path": path, "port": "sidecar-status"}, **timing}


def _mount(volume: str, path: str, **more: bool) -> Body:
    return {"name": f"segue-{volume}", "mountPath": path, **more}


def _mebibytes(count: int) -> str:
    return f"{-(-count // _MIB)}Mi"
