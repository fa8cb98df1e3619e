"""The same suite on kind, where a Docker engine is: a cluster is made, gets the images, and is deleted.

Separate because it shares nothing with a node of our own but the suite.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tests.support.cluster.cluster import CONTEXT, KUBECONFIG

NAME = "segue-e2e"
CONFIG = Path(__file__).parents[2] / "e2e" / "kind.yaml"

Say = Callable[[str], None]


class NoKind(Exception):
    """kind cannot be used on this machine; the message says what is missing."""


def on_kind(command: Sequence[str], *, images: Callable[[], Iterable[Path]], say: Say) -> int:
    """Run a command with the environment that names a fresh kind cluster with our images; its exit code.

    Parameters
    ----------
    images
        Builds them, once the cluster is there; their archives.

    Raises
    ------
    NoKind
        There is no Docker engine, no kind, or kind could not make the cluster.
    """
    kind = _kind()
    with tempfile.TemporaryDirectory(prefix="segue-kind-") as folder:
        kubeconfig = Path(folder) / "kubeconfig"
        say(f"kind: creating the cluster {NAME}")
        _run(kind, "create", "cluster", "--name", NAME, "--config", str(CONFIG), "--kubeconfig", str(kubeconfig))
        try:
            for archive in images():
                say(f"kind: loading {archive.name}")
                _run(kind, "load", "image-archive", str(archive), "--name", NAME)
            environment = {**os.environ, KUBECONFIG: str(kubeconfig), CONTEXT: f"kind-{NAME}"}
            return subprocess.run(command, env=environment, check=False).returncode
        finally:
            _run(kind, "delete", "cluster", "--name", NAME)


def _kind() -> str:
    docker = shutil.which("docker")
    if docker is None:
        raise NoKind("CLUSTER=kind needs a Docker engine, and there is no docker in PATH; `make e2e` needs none")
    asked = subprocess.run([docker, "info"], capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        raise NoKind(f"CLUSTER=kind needs a Docker engine, and none answers: {asked.stderr.strip()[-300:]}")
    kind = shutil.which("kind")
    if kind is None:
        raise NoKind("CLUSTER=kind needs kind in PATH (go install sigs.k8s.io/kind@v0.30.0)")
    return kind


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NoKind(f"{' '.join(command[:3])}: {done.stderr.strip()[-1000:]}")
