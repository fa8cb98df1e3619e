"""What a node needs from the distribution: programs in PATH, and one that is only unpacked.

Separate from the programs that are built from Go modules (`tests/support/cluster/binaries.py`): these come with
libraries, so the distribution installs them. On a machine without apt they have to be there.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.support.cluster.binaries import NoBinary, cache_root, run_or_refuse, unpack_package
from tests.support.cluster.processes import search_path

PROGRAMS: Mapping[str, str] = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "ip": "iproute2",
    "nft": "nftables",
    "conntrack": "conntrack",
    "curl": "curl",  # the README uses it
    "iptables": "iptables",  # portmap, for hostPort
    "debootstrap": "debootstrap",
    "buildah": "buildah",
    "mount": "mount",
    "unshare": "util-linux",
}
"""Program to the Debian package that holds it."""
PLUGINS_PACKAGE = "containernetworking-plugins"
PLUGIN_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"), Path("/usr/libexec/cni"))
PLUGINS = ("ptp", "host-local", "portmap", "loopback")
BUSYBOX = "busybox-static"


Say = Callable[[str], None]


def missing() -> list[str]:
    """Packages whose programs are not on this machine."""
    packages = {package for program, package in PROGRAMS.items() if shutil.which(program, path=search_path()) is None}
    if plugin_folder() is None:
        packages.add(PLUGINS_PACKAGE)
    return sorted(packages)


def install(*, say: Say) -> None:
    """Install what is missing, without the service that Debian would start for it.

    Raises
    ------
    NoBinary
        There is no apt-get, or it failed.
    """
    packages = missing()
    if not packages:
        return
    apt = shutil.which("apt-get")
    if apt is None:
        raise NoBinary(f"no apt-get to install {', '.join(packages)} with: install what holds {_programs_of(packages)}")
    say(f"installing {' '.join(packages)}")
    quietly = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for words in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        run_or_refuse([apt, "-q", *words], environment=quietly, folder=Path.cwd())
    if still := missing():
        raise NoBinary(f"after apt-get install there is still no {_programs_of(still)}")


def plugin_folder() -> Path | None:
    """Where the CNI plugins are."""
    for folder in PLUGIN_FOLDERS:
        if all((folder / name).exists() for name in PLUGINS):
            return folder
    return None


def busybox(*, say: Say) -> Path:
    """A static program that can wait, for the sandbox of each pod; unpacked into the cache.

    Raises
    ------
    NoBinary
        It is neither in PATH nor can it be had from the distribution.
    """
    kept = cache_root() / "node" / "busybox"
    for found in (kept, Path("/bin/busybox")):
        if found.exists():
            return found
    say(f"unpacking the package {BUSYBOX}")
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
        unpack_package(BUSYBOX, Path(scratch), environment=os.environ)
        (unpacked,) = (path for path in Path(scratch).rglob("busybox") if path.is_file() and os.access(path, os.X_OK))
        unpacked.replace(kept)
    return kept


def program(name: str) -> Path:
    """One of `PROGRAMS`.

    Raises
    ------
    NoBinary
        It is not there.
    """
    found = shutil.which(name, path=search_path())
    if found is None:
        raise NoBinary(f"no {name}; on Debian: apt-get install {PROGRAMS.get(name, name)}")
    return Path(found)


def _programs_of(packages: list[str]) -> str:
    held = [name for name, package in PROGRAMS.items() if package in packages]
    return ", ".join([*held, *(["the CNI plugins"] if PLUGINS_PACKAGE in packages else [])])
