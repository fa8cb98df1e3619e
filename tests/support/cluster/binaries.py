"""Where the programs of a control plane come from: given, cached, or got once and then cached.

The order is `$KUBEBUILDER_ASSETS` (the folder that controller-runtime's tests use), PATH, a cache outside the checkout,
`go build` of `tools/kubernetes`, the official download; etcd, which no Go module of ours holds, comes from the package
of the distribution instead. The cache is keyed by go.sum: another version of Kubernetes is another folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

ETCD = "etcd"
CONTROL_PLANE = (ETCD, "kube-apiserver", "kube-controller-manager", "kubectl")
GO_MODULE = Path(__file__).parents[3] / "tools" / "kubernetes"
OFFICIAL = "https://dl.k8s.io/release"
GIVEN_BY = "KUBEBUILDER_ASSETS"

_BUILD_LIMIT_S = 3600
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}

Say = Callable[[str], None]


class NoBinary(Exception):
    """A program cannot be had on this machine; the message says what was tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origins:
    """Everything outside this package that a search looks at.

    Attributes
    ----------
    store
        The cache, one folder for each go.sum below it.
    official
        URL below which `VERSION/bin/OS/ARCH/NAME` is served.
    environment
        PATH, `KUBEBUILDER_ASSETS`, and what `go` and `apt-get` see.
    """

    go_module: Path = GO_MODULE
    store: Path = field(default_factory=lambda: _cache_root() / "kubernetes")
    official: str = OFFICIAL
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    @property
    def cache(self) -> Path:
        """The folder for this version."""
        return self.store / hashlib.sha256((self.go_module / "go.sum").read_bytes()).hexdigest()[:12]

    @property
    def version(self) -> str:
        """Of Kubernetes, as go.mod pins it: `v1.34.4`."""
        match = re.search(r"k8s\.io/kubernetes (v\S+)", (self.go_module / "go.mod").read_text(encoding="utf-8"))
        if match is None:
            raise ValueError(f"{self.go_module / 'go.mod'} requires no k8s.io/kubernetes")
        return match[1]


def obtain(name: str, *, origins: Origins | None = None, say: Say = lambda line: None) -> Path:
    """The path of a program, which is built or downloaded where it is neither given nor cached.

    Raises
    ------
    NoBinary
        Nothing worked.
    """
    origins = origins or Origins()
    if (found := find(name, origins)) is not None:
        return found
    with _only_one(origins.cache):
        return find(name, origins) or _make(name, origins, say)


def find(name: str, origins: Origins) -> Path | None:
    """The path of a program that is on this machine already."""
    folders = (origins.environment.get(GIVEN_BY, ""), origins.environment.get("PATH", ""), str(origins.cache))
    for folder in folders:
        if folder and (path := shutil.which(name, path=folder)):
            return Path(path)
    return None


def _make(name: str, origins: Origins, say: Say) -> Path:
    tried = []
    for way in (_package,) if name == ETCD else (_build, _download):
        started = time.monotonic()
        with tempfile.TemporaryDirectory(dir=origins.cache, prefix=f".{name}.") as scratch:
            try:
                made = way(name, origins, Path(scratch), say)
            except NoBinary as error:
                tried.append(str(error))
                continue
            made.chmod(0o755)
            made.replace(origins.cache / name)
        say(f"{name}: {time.monotonic() - started:.0f} s, kept in {origins.cache}")
        return origins.cache / name
    raise NoBinary(f"no {name}: not in ${GIVEN_BY}, PATH or {origins.cache}; {'; '.join(tried)}")


def _build(name: str, origins: Origins, scratch: Path, say: Say) -> Path:
    go = shutil.which("go", path=origins.environment.get("PATH", ""))
    if go is None:
        raise NoBinary("no go in PATH to build it with")
    say(f"{name}: building {origins.version} (minutes, once)")
    flags = f"-s -w -X k8s.io/component-base/version.gitVersion={origins.version}"
    package = f"k8s.io/kubernetes/cmd/{name}"
    command = [go, "build", "-trimpath", "-ldflags", flags, "-o", str(scratch / name), package]
    _run(command, environment={**origins.environment, "CGO_ENABLED": "0"}, folder=origins.go_module)
    return scratch / name


def _download(name: str, origins: Origins, scratch: Path, say: Say) -> Path:
    """The official binary, checked against the digest that is published beside it."""
    machine = _MACHINES.get(platform.machine(), platform.machine())
    url = f"{origins.official}/{origins.version}/bin/linux/{machine}/{name}"
    say(f"{name}: downloading {url}")
    digest = hashlib.sha256()
    try:
        with httpx.Client(follow_redirects=True, timeout=30) as client:
            expected = client.get(f"{url}.sha256").raise_for_status().text.split()[0]
            with client.stream("GET", url) as response, (scratch / name).open("wb") as file:
                for chunk in response.raise_for_status().iter_bytes():
                    digest.update(chunk)
                    file.write(chunk)
    except (httpx.HTTPError, IndexError) as error:
        raise NoBinary(f"{url} cannot be downloaded: {type(error).__name__} {error}") from error
    if digest.hexdigest() != expected:
        raise NoBinary(f"{url} has sha256 {digest.hexdigest()}, but {expected} is published")
    return scratch / name


def _package(name: str, origins: Origins, scratch: Path, say: Say) -> Path:
    """From the distribution's etcd-server, unpacked and not installed: installing it would start a service."""
    apt = shutil.which("apt-get", path=origins.environment.get("PATH", ""))
    if apt is None:
        raise NoBinary("no apt-get to get the package etcd-server with; put etcd 3.4.23 or newer into PATH")
    say(f"{name}: unpacking the package etcd-server")
    download = [apt, "-q", "download", "etcd-server"]
    try:
        _run(download, environment=origins.environment, folder=scratch)
    except NoBinary:
        _run([apt, "-q", "update"], environment=origins.environment, folder=scratch)
        _run(download, environment=origins.environment, folder=scratch)
    (package,) = scratch.glob("*.deb")
    _run(["dpkg-deb", "-x", str(package), str(scratch)], environment=origins.environment, folder=scratch)
    return scratch / "usr" / "bin" / name


def _run(command: list[str], *, environment: Mapping[str, str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=_BUILD_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoBinary(f"{command[0]} {command[1]} failed: {error}") from error
    if done.returncode != 0:
        raise NoBinary(f"{' '.join(command[:3])} … failed: {done.stderr.strip()[-500:]}")


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Two test runs at once build it once."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _cache_root() -> Path:
    """The same folder as `scripts/venv`."""
    if own := os.environ.get("SEGUE_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segue"
