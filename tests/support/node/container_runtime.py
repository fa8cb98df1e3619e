"""containerd, with the settings that a machine without all capabilities needs, and the images in it.

Separate from the kubelet because images go in here before any pod asks for them: nothing can be pulled.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.support.cluster.processes import Child, Leash, wait_for
from tests.support.node.packages import plugin_folder, program
from tests.support.node.pause import NAME

SOCKET = Path("/run/containerd/containerd.sock")
NAMESPACE = "k8s.io"
READY_WITHIN_S = 60.0
_IMPORT_LIMIT_S = 600


class ContainerRuntime:
    """containerd within the node's namespaces."""

    def __init__(self, folder: Path, *, plugins_config: Path, leash: Leash) -> None:
        config = folder / "containerd.toml"
        config.write_text(_config(plugins_config), encoding="utf-8")
        self._ctr = program("ctr")
        self.process = Child([program("containerd"), "--config", config], log=folder / "containerd.log", leash=leash)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.process.start()
        wait_for(self._answers, within_s=READY_WITHIN_S, what="containerd answers")

    def _answers(self) -> bool | None:
        self.process.check()
        return self._run("version").returncode == 0 or None

    def load(self, archives: Iterable[Path]) -> None:
        """Take images from archives, under the names that these give them."""
        for archive in archives:
            done = self._run("-n", NAMESPACE, "images", "import", "--local", str(archive))
            if done.returncode != 0:  # 1.6 knows no --local, and needs none
                done = self._run("-n", NAMESPACE, "images", "import", str(archive))
            if done.returncode != 0:
                raise RuntimeError(f"{archive} cannot be imported: {done.stderr.strip()}")

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(self._ctr), "--address", str(SOCKET), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=_IMPORT_LIMIT_S, check=False)


def _config(plugins_config: Path) -> str:
    """For containerd 1.6 and 1.7, whose second form is the same.

    `restrict_oom_score_adj`: without CAP_SYS_RESOURCE no sandbox may have less than we have, and none would start.
    """
    return f"""\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{NAME}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugin_folder()}"
    conf_dir = "{plugins_config}"
"""
