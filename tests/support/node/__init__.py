"""A real Kubernetes node on this machine: kubelet, containerd, scheduler and kube-proxy, without Docker.

It needs root and Linux, and leaves nothing behind: everything runs in namespaces of its own (`isolation.py`) for
network, mounts and processes, and vanishes with the last of them. Start at `node.py` (what a suite gets), then
`network.py`, `container_runtime.py`, `kubernetes.py` (which programs, with which settings), `packages.py` (where they
come from).
Developers: `make node` for a shell on it; `make e2e` for the suite.
"""

from tests.support.node.node import Node, NodeUnavailable, open_node

__all__ = ["Node", "NodeUnavailable", "open_node"]
