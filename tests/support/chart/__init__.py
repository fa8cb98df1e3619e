"""The Helm chart under test: run through the real helm, and looked at as the objects that come out.

`helm.py` runs helm, `rendering.py` knows what is in a rendering, `snapshots.py` keeps renderings as readable files,
`wrong_values.py` lists values that must be refused. With an API server: `release.py` is an installation, `kubelet.py`
runs its pods as plain processes, `handshakes.py` tries its certificates. Foreign kinds (cert-manager's, KEDA's,
Prometheus') that a cluster for tests does not know are in `foreign_kinds.yaml`.
"""
