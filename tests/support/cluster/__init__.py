"""A real Kubernetes control plane for tests: etcd, kube-apiserver and kube-controller-manager as plain processes.

Start at `cluster.py` (what a test gets), then `control_plane.py` (which processes, with which flags), `binaries.py`
(where they come from), `processes.py` (how none of them outlives us), `certificates.py` and `access.py` (who may in).
Developers: `make cluster`. There is no kubelet: pods are objects, and a test sets their status. helm comes from the
same places as the others, for the tests of the chart.
"""

from tests.support.cluster.binaries import NoBinary, obtain
from tests.support.cluster.cluster import ClusterUnavailable, TestCluster, open_cluster

__all__ = ["ClusterUnavailable", "NoBinary", "TestCluster", "obtain", "open_cluster"]
