"""The programs that can build an image: docker, podman, buildah. What differs between them is here and nowhere else."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tools.images.errors import ImageError, NoEngine
from tools.images.pip_settings import PipSettings
from tools.images.running import Runner

ENGINES = ("docker", "podman", "buildah")

KEPT_LAYERS = 300
"""Of buildah's, some 20 of which are new when a source file has changed."""

_RUN = Path("/run/segue-images")
"""What buildah remembers of mounts must not outlive a restart of the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One image to build.

    Attributes
    ----------
    name
        What it is called, with registry and tag: `docker.io/segue/operator:0.1.0`.
    dockerfile, context
        Where the recipe and its files are.
    arguments
        Build arguments.
    pip
        What the build is lent.
    lent
        A folder, gone after the build, for files that are lent.
    time
        What the files that are made bear, in seconds since 1970.
    """

    name: str
    dockerfile: Path
    context: Path
    arguments: Mapping[str, str]
    pip: PipSettings
    lent: Path
    time: int

    def options(self) -> list[str]:
        """What all engines understand alike."""
        conf = self.lent / "pip.conf"
        conf.write_text(self.pip.text, encoding="utf-8")
        words = ["--file", str(self.dockerfile), "--tag", self.name, "--secret", f"id=pip.conf,src={conf}"]
        for key, value in self.arguments.items():
            words += ["--build-arg", f"{key}={value}"]
        if self.pip.certificates is not None:
            words += ["--secret", f"id=ca.pem,src={self.pip.certificates}"]
        if self.pip.wheels is not None:
            words += ["--build-context", f"wheels={self.pip.wheels}"]
        return [*words, str(self.context)]


class Engine(Protocol):
    """Builds images and keeps them under names, in a place of its own."""

    @property
    def name(self) -> str:
        """Of the program."""

    def image_id(self, image: str) -> str | None:
        """What a name means here, as `sha256:...`; None where it means nothing."""

    def pull(self, image: str) -> None:
        """Get it from its registry.

        Raises
        ------
        ImageError
            It cannot be had.
        """

    def take_root(self, archive: Path, image: str) -> None:
        """Make an image of a tar of a root file system."""

    def build(self, order: Order, run: Runner) -> None:
        """Run a recipe, line by line through `run`."""

    def save(self, image: str, archive: Path) -> None:
        """Write it as an OCI archive, in which it has the same name."""


@dataclass(frozen=True, slots=True)
class Docker:
    """Docker with BuildKit, and a daemon that answers."""

    name: str = "docker"

    def image_id(self, image: str) -> str | None:
        return _asked(["docker", "image", "inspect", "--format", "{{.Id}}", image])

    def pull(self, image: str) -> None:
        _told(["docker", "pull", "--quiet", image])

    def take_root(self, archive: Path, image: str) -> None:
        _told(["docker", "import", str(archive), image])

    def build(self, order: Order, run: Runner) -> None:
        run(["docker", "buildx", "build", "--load", "--progress", "plain", *order.options()])

    def save(self, image: str, archive: Path) -> None:
        """An OCI layout since Docker 25."""
        _told(["docker", "save", "--output", str(archive), image])


@dataclass(frozen=True, slots=True)
class Podman:
    """Podman, with whatever storage it has."""

    name: str = "podman"

    def image_id(self, image: str) -> str | None:
        return _asked(["podman", "image", "inspect", "--format", "{{.Id}}", image])

    def pull(self, image: str) -> None:
        _told(["podman", "pull", "--quiet", image])

    def take_root(self, archive: Path, image: str) -> None:
        _told(["podman", "import", "--quiet", str(archive), image])

    def build(self, order: Order, run: Runner) -> None:
        run(["podman", "build", "--layers", "--timestamp", str(order.time), *order.options()])

    def save(self, image: str, archive: Path) -> None:
        _told(["podman", "push", "--quiet", image, f"oci-archive:{archive}:{image}"])


@dataclass(frozen=True, slots=True)
class Buildah:
    """buildah, with a storage of its own below the cache: the machine's is left alone.

    Attributes
    ----------
    storage
        Where layers are kept.
    driver
        `overlay` where the machine can, else `vfs`, which copies each layer whole.
    """

    storage: Path
    driver: str = "overlay"
    name: str = field(default="buildah")

    def image_id(self, image: str) -> str | None:
        listed = _asked([*self._words, "images", "--no-trunc", "--json", image])
        return None if listed is None else str(json.loads(listed)[0]["id"])

    def pull(self, image: str) -> None:
        _told([*self._words, "pull", "--quiet", image], self._environment)

    def take_root(self, archive: Path, image: str) -> None:
        container = _told([*self._words, "from", "scratch"], self._environment)
        try:
            _told([*self._words, "add", "--quiet", container, str(archive), "/"], self._environment)
            _told([*self._words, "config", "--cmd", '["/bin/sh"]', container], self._environment)
            _told([*self._words, "commit", "--quiet", "--timestamp", "0", container, image], self._environment)
        finally:
            _told([*self._words, "rm", container], self._environment)

    def build(self, order: Order, run: Runner) -> None:
        words = ["bud", "--isolation", "chroot", "--layers", "--timestamp", str(order.time)]
        run([*self._words, *words, *order.options()], environment=self._environment)

    def save(self, image: str, archive: Path) -> None:
        _told([*self._words, "push", "--quiet", image, f"oci-archive:{archive}:{image}"], self._environment)

    def works(self) -> bool:
        """Whether this driver can be used with this file system."""
        return _asked([*self._words, "images", "--quiet"]) is not None

    def tidy(self) -> None:
        """Forget all layers when there are many: an old build's are never asked for again, and nobody else would."""
        kept = self.storage / ("overlay" if self.driver == "overlay" else "vfs/dir")
        if kept.is_dir() and sum(1 for _ in kept.iterdir()) > KEPT_LAYERS:
            _told([*self._words, "rmi", "--all", "--force"], self._environment)

    @property
    def _words(self) -> list[str]:
        run = _RUN / hashlib.sha256(str(self.storage).encode()).hexdigest()[:8]
        return ["buildah", "--root", str(self.storage), "--runroot", str(run), "--storage-driver", self.driver]

    @property
    def _environment(self) -> dict[str, str]:
        """Its temporary files lie beside the storage, where there is room."""
        scratch = self.storage.parent / "tmp"
        scratch.mkdir(parents=True, exist_ok=True)
        return {**os.environ, "TMPDIR": str(scratch)}


def choose_engine(wanted: str, *, storage: Path, user: int | None = None) -> Engine:
    """The engine of that name; with `auto`, the first that works here.

    Parameters
    ----------
    storage
        For an engine that keeps its layers where it is told to.
    user
        Id of who runs it; the process's unless given.

    Raises
    ------
    NoEngine
        It does not work here; the message says why and which package has it.
    """
    probes: dict[str, Callable[[], Engine | str]] = {
        "docker": _docker,
        "podman": _podman,
        "buildah": lambda: _buildah(storage, os.geteuid() if user is None else user),
    }
    if wanted != "auto" and wanted not in probes:
        raise NoEngine(f"no engine is called {wanted}; there are {', '.join(ENGINES)}, and auto")
    refusals = []
    for name in ENGINES if wanted == "auto" else (wanted,):
        found = probes[name]()
        if not isinstance(found, str):
            return found
        refusals.append(found)
    raise NoEngine(f"no engine here can build images: {'; '.join(refusals)}. On Debian: apt-get install buildah")


def _docker() -> Engine | str:
    if shutil.which("docker") is None:
        return "docker is not in PATH (packages docker.io and docker-buildx, or docker-ce)"
    if _asked(["docker", "info", "--format", "{{.ServerVersion}}"]) is None:
        return "docker has no daemon that answers (docker info says why)"
    if _asked(["docker", "buildx", "version"]) is None:
        return "docker has no buildx (package docker-buildx, or docker-buildx-plugin)"
    return Docker()


def _podman() -> Engine | str:
    if shutil.which("podman") is None:
        return "podman is not in PATH (package podman)"
    return Podman()


def _buildah(storage: Path, user: int) -> Engine | str:
    if shutil.which("buildah") is None:
        return "buildah is not in PATH (package buildah)"
    if user != 0:
        return "buildah builds here as root only: run it with sudo, or install docker or podman"
    drivers = [Buildah(storage=storage / driver, driver=driver) for driver in ("overlay", "vfs")]
    found = next((one for one in drivers if one.works()), None)
    if found is None:
        return f"buildah can use neither overlay nor vfs in {storage}"
    found.tidy()
    return found


def _asked(command: Sequence[str]) -> str | None:
    """What a question prints; None where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _told(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """What a command prints, which must succeed."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-3:] or [f"exit code {done.returncode}"]
        raise ImageError(f"{' '.join(command[:1])} failed: {' '.join(last)}")
    return done.stdout.strip()
