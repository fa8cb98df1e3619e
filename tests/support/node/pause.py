"""The image of every pod's sandbox: one static program that waits.

Separate because nothing builds it: an image is a tar file with a layer and two JSON documents, and this one has a
single file. (The official one cannot be pulled from within the node's namespaces.)

Source: the layout of `docker save`, which containerd imports.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path
from typing import Any

NAME = "segue.test/pause:1"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
_PROGRAM = "pause/busybox"


def write_pause_image(busybox: Path, target: Path) -> None:
    """Write an archive for `ctr images import`, with the image called `NAME`."""
    layer = _tar({_PROGRAM: busybox.read_bytes()}, mode=0o755)
    config = {
        "architecture": _MACHINES.get(platform.machine(), platform.machine()),
        "os": "linux",
        # The kubelet ends a sandbox with SIGKILL: that the first process of a pod hears no other signal does no harm.
        "config": {"Entrypoint": [f"/{_PROGRAM}", "sleep", "2147483647"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [NAME], "Layers": ["layer.tar"]}]
    files = {"layer.tar": layer, "config.json": _json(config), "manifest.json": _json(manifest)}
    target.write_bytes(_tar(files, mode=0o644))


def _tar(files: dict[str, bytes], *, mode: int) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return target.getvalue()


def _json(document: Any) -> bytes:
    return json.dumps(document).encode()
