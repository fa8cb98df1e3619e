"""Namespaces around the node: what it mounts, listens on and starts is nobody else's, and ends with it.

Separate because everything else may then be as blunt as a node is: it takes well-known ports and paths, writes nftables
and sysctls, and is never tidied up but by the end of the namespaces. There is no way out of them into the network: what
is to be downloaded must be there before.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

INSIDE = "SEGUE_NODE_NAMESPACES"
"""Set within the namespaces, to the folder that the node may fill."""

_CGROUPS = Path("/sys/fs/cgroup")
_CGROUP = "segue-node"


class CannotIsolate(Exception):
    """Namespaces cannot be made here; the message says what is missing."""


def inside() -> Path | None:
    """The folder for the node, where this process runs within its namespaces."""
    return Path(os.environ[INSIDE]) if INSIDE in os.environ else None


def enter(command: Sequence[str], folder: Path) -> int:
    """Run a command in new namespaces, as their first process; its exit code.

    Parameters
    ----------
    folder
        On a file system that overlayfs can use; the node's files go there.

    Raises
    ------
    CannotIsolate
        Not root, or no `unshare`.
    """
    if os.geteuid() != 0:
        raise CannotIsolate("a node needs root (for namespaces, mounts and nftables)")
    unshare = shutil.which("unshare")
    if unshare is None:
        raise CannotIsolate("a node needs `unshare` (package util-linux)")
    flags = ["--net", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc"]
    prepared = [sys.executable, "-m", "tests.support.node", "inside", "--", *command]
    environment = {**os.environ, INSIDE: str(folder)}
    try:
        return subprocess.run([unshare, *flags, *prepared], env=environment, check=False).returncode
    finally:
        _remove_cgroups(folder)


def furnish(folder: Path) -> None:
    """Give the mounts of these namespaces what a node expects, without touching the machine's own."""
    _run("mount", "--make-rshared", "/")  # shared with nobody outside: these are the node's own mounts
    _run("ip", "link", "set", "lo", "up")
    for place in ("/run", "/var/log"):
        _run("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", place)
    for place in ("/var/lib/kubelet", "/var/lib/cni", "/var/lib/containerd"):
        ours = folder / Path(place).name
        ours.mkdir(parents=True, exist_ok=True)
        Path(place).mkdir(parents=True, exist_ok=True)
        _run("mount", "--bind", str(ours), place)
    _run("mount", "--make-rshared", "/var/lib/kubelet")


def cgroup_of(folder: Path) -> str:
    """The cgroup below which the pods are, made in every hierarchy: `/segue-node-…`."""
    name = f"{_CGROUP}-{folder.name}"
    for hierarchy in _hierarchies():
        made = hierarchy / name
        made.mkdir(exist_ok=True)
        _inherit_cpuset(hierarchy, made)
    return f"/{name}"


def _inherit_cpuset(hierarchy: Path, made: Path) -> None:
    """A new cpuset (v1) has no processor and no memory, and nothing can be put into it."""
    for file in ("cpuset.cpus", "cpuset.mems"):
        with contextlib.suppress(OSError):
            if not (made / file).read_text().strip():
                (made / file).write_text((hierarchy / file).read_text())


def _hierarchies() -> Iterator[Path]:
    """Of cgroup v1 each mounted one, of v2 the only one."""
    if (_CGROUPS / "cgroup.controllers").exists():
        yield _CGROUPS
        return
    for each in sorted(_CGROUPS.iterdir()):
        if each.is_dir() and not each.is_symlink() and (each / "cgroup.procs").exists():
            yield each


def _remove_cgroups(folder: Path) -> None:
    """All processes are gone; what is left of the cgroups is empty."""
    for hierarchy in _hierarchies():
        ours = hierarchy / f"{_CGROUP}-{folder.name}"
        for path, _, _ in os.walk(ours, topdown=False):
            with contextlib.suppress(OSError):
                Path(path).rmdir()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotIsolate(f"{' '.join(command)}: {done.stderr.strip()}")
