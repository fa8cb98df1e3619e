"""kubelet, kube-proxy and kube-scheduler: which flags and settings, beside a control plane of ours.

Separate from the control plane, which most tests use without a node.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.cluster.control_plane import ControlPlane, Setting, as_client
from tests.support.cluster.processes import Child
from tests.support.node.container_runtime import SOCKET
from tests.support.node.network import ADDRESS, PODS

NODE_NAME = "segue-node"
KUBELET_FOLDER = Path("/var/lib/kubelet")

SETTING = Setting(
    address=ADDRESS,
    port=6443,
    controllers=("*",),
    api_server=(
        f"--advertise-address={ADDRESS}",
        "--kubelet-client-certificate=kubelet-client.crt",
        "--kubelet-client-key=kubelet-client.key",
        "--kubelet-preferred-address-types=InternalIP",
        "--enable-admission-plugins=NodeRestriction",
    ),
)


def kubelet(program: Path, plane: ControlPlane, *, cgroup: str) -> Child:
    """Not started yet."""
    access = _kubeconfig(plane, "kubelet", f"system:node:{NODE_NAME}", "system:nodes")
    resolver = plane.directory / "resolv.conf"
    resolver.write_text(f"nameserver {ADDRESS}\n", encoding="ascii")
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": ADDRESS,
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(plane.directory / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "failCgroupV1": False,
        "failSwapOn": False,
        "resolvConf": str(resolver),
        "clusterDNS": [ADDRESS],  # nobody answers there, and says so at once
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,  # what is thrown away cannot be pulled again
        "volumePluginDir": str(plane.directory / "volume-plugins"),
        "oomScoreAdj": 0,
    }
    file = _written(plane.directory / "kubelet.json", config)
    arguments: list[str | Path] = [
        "--config",
        file,
        "--kubeconfig",
        access,
        "--hostname-override",
        NODE_NAME,
        "--node-ip",
        ADDRESS,
    ]
    return _child(plane, program, [*arguments, "--root-dir", KUBELET_FOLDER])


def kube_proxy(program: Path, plane: ControlPlane) -> Child:
    """Not started yet."""
    config = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(_kubeconfig(plane, "kube-proxy", "system:kube-proxy"))},
        "clusterCIDR": PODS,
        "hostnameOverride": NODE_NAME,
        "conntrack": {"maxPerCore": 0},
        "oomScoreAdj": 0,
    }
    return _child(plane, program, ["--config", _written(plane.directory / "kube-proxy.json", config)])


def kube_scheduler(program: Path, plane: ControlPlane) -> Child:
    """Not started yet."""
    access = _kubeconfig(plane, "kube-scheduler", "system:kube-scheduler")
    delegation: list[str | Path] = ["--authentication-kubeconfig", access, "--authorization-kubeconfig", access]
    return _child(plane, program, ["--kubeconfig", access, *delegation, "--leader-elect=false"])


def _kubeconfig(plane: ControlPlane, file: str, user: str, *groups: str) -> Path:
    return as_client(plane.authority, plane.admin.server, user, *groups).write(plane.directory / f"{file}.kubeconfig")


def _written(path: Path, document: dict[str, Any]) -> Path:
    path.write_text(json.dumps(document, indent=2), encoding="utf-8")
    return path


def _child(plane: ControlPlane, program: Path, arguments: list[str | Path]) -> Child:
    return Child([program, *arguments], log=plane.directory / f"{program.name}.log", leash=plane.leash)
