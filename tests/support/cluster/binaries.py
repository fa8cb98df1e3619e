"""Where the programs of a control plane, and helm, come from: given, cached, or got once and then cached.

The order is `$KUBEBUILDER_ASSETS` (the folder that controller-runtime's tests use), PATH, a cache outside the checkout,
`go build` of a module below `tools/`, the official download; etcd, which no Go module of ours holds, comes from the
package of the distribution instead. The cache is keyed by go.sum: another version is another folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

ETCD = "etcd"
HELM = "helm"
CONTROL_PLANE = (ETCD, "kube-apiserver", "kube-controller-manager", "kubectl")
NODE = ("kubelet", "kube-proxy", "kube-scheduler")
TOOLS = Path(__file__).parents[3] / "tools"
GIVEN_BY = "KUBEBUILDER_ASSETS"

_BUILD_LIMIT_S = 3600
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}

Say = Callable[[str], None]


class NoBinary(Exception):
    """A program cannot be had on this machine; the message says what was tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """Whose program it is: how its modules, its build and its downloads are called.

    Attributes
    ----------
    folder
        Of our module below `tools/`, and of the cache.
    module
        The Go module whose version is pinned; programs are packages below it.
    version_variable
        What the linker writes the version into.
    official
        URL below which the downloads are.
    file, digest_suffix
        What is downloaded, with `{version}`, `{machine}` and `{name}`, and where its sha256 is.
    member
        The program inside an archive; empty: the file is the program.
    """

    folder: str
    module: str
    version_variable: str
    official: str
    file: str
    digest_suffix: str
    member: str = ""


KUBERNETES = Project(
    folder="kubernetes",
    module="k8s.io/kubernetes",
    version_variable="k8s.io/component-base/version.gitVersion",
    official="https://dl.k8s.io/release",
    file="{version}/bin/linux/{machine}/{name}",
    digest_suffix=".sha256",
)
HELM_PROJECT = Project(
    folder="helm",
    module="helm.sh/helm/v4",
    version_variable="helm.sh/helm/v4/internal/version.version",
    official="https://get.helm.sh",
    file="helm-{version}-linux-{machine}.tar.gz",
    digest_suffix=".sha256",
    member="linux-{machine}/{name}",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origins:
    """Everything outside this package that a search looks at.

    Attributes
    ----------
    store
        The cache, one folder for each go.sum below it.
    official
        URL below which the project's downloads are.
    environment
        PATH, `KUBEBUILDER_ASSETS`, and what `go` and `apt-get` see.
    """

    project: Project = KUBERNETES
    go_module: Path = TOOLS / KUBERNETES.folder
    store: Path = field(default_factory=lambda: cache_root() / KUBERNETES.folder)
    official: str = KUBERNETES.official
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    @classmethod
    def of(cls, name: str) -> Origins:
        """Those of a program on this machine."""
        project = HELM_PROJECT if name == HELM else KUBERNETES
        return cls(
            project=project,
            go_module=TOOLS / project.folder,
            store=cache_root() / project.folder,
            official=project.official,
        )

    @property
    def cache(self) -> Path:
        """The folder for this version."""
        return self.store / hashlib.sha256((self.go_module / "go.sum").read_bytes()).hexdigest()[:12]

    @property
    def version(self) -> str:
        """Of the project, as go.mod pins it: `v1.34.4`."""
        pinned = rf"{re.escape(self.project.module)} (v\S+)"
        match = re.search(pinned, (self.go_module / "go.mod").read_text(encoding="utf-8"))
        if match is None:
            raise ValueError(f"{self.go_module / 'go.mod'} requires no {self.project.module}")
        return match[1]


def obtain(name: str, *, origins: Origins | None = None, say: Say = lambda line: None) -> Path:
    """The path of a program, which is built or downloaded where it is neither given nor cached.

    Raises
    ------
    NoBinary
        Nothing worked.
    """
    origins = origins or Origins.of(name)
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
    flags = f"-s -w -X {origins.project.version_variable}={origins.version}"
    package = f"{origins.project.module}/cmd/{name}"
    command = [go, "build", "-trimpath", "-ldflags", flags, "-o", str(scratch / name), package]
    run_or_refuse(command, environment={**origins.environment, "CGO_ENABLED": "0"}, folder=origins.go_module)
    return scratch / name


def _download(name: str, origins: Origins, scratch: Path, say: Say) -> Path:
    """The official binary, checked against the digest that is published beside it."""
    project, machine = origins.project, _MACHINES.get(platform.machine(), platform.machine())
    names = {"version": origins.version, "machine": machine, "name": name}
    url = f"{origins.official}/{project.file.format(**names)}"
    say(f"{name}: downloading {url}")
    _fetch(url, scratch / name, digest_url=url + project.digest_suffix)
    return _taken_out(scratch / name, project.member.format(**names)) if project.member else scratch / name


def _fetch(url: str, target: Path, *, digest_url: str) -> None:
    digest = hashlib.sha256()
    try:
        with httpx.Client(follow_redirects=True, timeout=30) as client:
            expected = client.get(digest_url).raise_for_status().text.split()[0]
            with client.stream("GET", url) as response, target.open("wb") as file:
                for chunk in response.raise_for_status().iter_bytes():
                    digest.update(chunk)
                    file.write(chunk)
    except (httpx.HTTPError, IndexError) as error:
        raise NoBinary(f"{url} cannot be downloaded: {type(error).__name__} {error}") from error
    if digest.hexdigest() != expected:
        raise NoBinary(f"{url} has sha256 {digest.hexdigest()}, but {expected} is published")


def _taken_out(archive: Path, member: str) -> Path:
    """One file of an archive, in its place."""
    try:
        with tarfile.open(archive) as opened, tempfile.TemporaryDirectory(dir=archive.parent) as folder:
            opened.extract(member, folder, filter="data")
            return (Path(folder) / member).replace(archive)
    except (KeyError, tarfile.TarError, OSError) as error:
        raise NoBinary(f"{archive.name} holds no {member}: {error}") from error


def _package(name: str, origins: Origins, scratch: Path, say: Say) -> Path:
    """From the distribution's etcd-server, unpacked and not installed: installing it would start a service."""
    if shutil.which("apt-get", path=origins.environment.get("PATH", "")) is None:
        raise NoBinary("no apt-get to get the package etcd-server with; put etcd 3.4.23 or newer into PATH")
    say(f"{name}: unpacking the package etcd-server")
    unpack_package("etcd-server", scratch, environment=origins.environment)
    return scratch / "usr" / "bin" / name


def unpack_package(package: str, folder: Path, *, environment: Mapping[str, str]) -> None:
    """Unpack a package of the distribution into an empty folder, without installing it.

    Raises
    ------
    NoBinary
        There is no apt-get, or it failed.
    """
    apt = shutil.which("apt-get", path=environment.get("PATH", ""))
    if apt is None:
        raise NoBinary(f"no apt-get to get the package {package} with")
    download = [apt, "-q", "download", package]
    try:
        run_or_refuse(download, environment=environment, folder=folder)
    except NoBinary:
        run_or_refuse([apt, "-q", "update"], environment=environment, folder=folder)
        run_or_refuse(download, environment=environment, folder=folder)
    (archive,) = folder.glob("*.deb")
    run_or_refuse(["dpkg-deb", "-x", str(archive), str(folder)], environment=environment, folder=folder)


def run_or_refuse(command: list[str], *, environment: Mapping[str, str], folder: Path) -> None:
    """Run a command to its end; raises `NoBinary` with what it said where it fails."""
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


def cache_root() -> Path:
    """The same folder as `scripts/venv`."""
    if own := os.environ.get("SEGUE_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segue"
