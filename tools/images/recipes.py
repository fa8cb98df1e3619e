"""What each image is made from: its Dockerfile, and the files of the checkout that the Dockerfile copies.

Those files are read from the Dockerfile itself, so that what an image depends on is written down once.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from segue import __version__

IMAGES = ("operator", "sidecar", "server")
ENGINES = {"gpt-sovits": ("sidecar", "server")}
"""Engines whose libraries are in images of their own, and which images those are."""
ROOT = Path(__file__).parents[2]

_COPY = re.compile(r"^COPY (?!--from)(.+)$", re.MULTILINE)
_NOT_COPIED = ("__pycache__",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One image.

    Attributes
    ----------
    name
        Of the process, and of the folder with its Dockerfile.
    engines
        Of `ENGINES`: the image that has this one as well. Empty: the one without.
    root
        The checkout, which is the build's context.
    """

    name: str
    engines: str = ""
    root: Path = ROOT

    @property
    def suffix(self) -> str:
        """Of its tag and its files."""
        return f"-{self.engines}" if self.engines else ""

    @property
    def label(self) -> str:
        """What its files are called."""
        return f"{self.name}{self.suffix}"

    @property
    def repository(self) -> str:
        """As the chart's values name it."""
        return f"segue/{self.name}"

    @property
    def dockerfile(self) -> Path:
        """Its path."""
        return self.root / self.name / "Dockerfile"

    @property
    def inputs(self) -> tuple[Path, ...]:
        """What it is made from, below the root: the Dockerfile and whatever that copies."""
        lines = _COPY.findall(self.dockerfile.read_text(encoding="utf-8"))
        copied = {Path(source) for line in lines for source in line.split()[:-1]}
        return (self.dockerfile.relative_to(self.root), Path(".dockerignore"), *sorted(copied))

    def digest(self) -> str:
        """sha256 over names, modes and contents of all inputs."""
        whole = hashlib.sha256()
        for file in sorted(set(self._files())):
            executable = bool(file.stat().st_mode & 0o100)
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            whole.update(f"{file.relative_to(self.root)}\0{executable}\0{content}\n".encode())
        return whole.hexdigest()

    def _files(self) -> Iterator[Path]:
        for start in (self.root / one for one in self.inputs):
            below = start.rglob("*") if start.is_dir() else (start,)
            yield from (file for file in below if file.is_file() and not {*file.parts} & {*_NOT_COPIED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """Which commit an image shows: the last one that changed what it is made from.

    Attributes
    ----------
    name
        The commit, with `-dirty` where files were changed since; `unknown` outside a git checkout.
    time
        Of the commit, in seconds since 1970; what is built bears it, so that the same sources give the same bytes.
    """

    name: str
    time: int

    @classmethod
    def of(cls, recipe: Recipe) -> Revision:
        """Of the checkout in which the recipe lies."""
        paths = [str(path) for path in recipe.inputs]
        name, _, time = _git(recipe.root, "log", "-1", "--format=%H %ct", "--", *paths).partition(" ")
        if not name:
            return cls(name="unknown", time=0)
        changed = _git(recipe.root, "status", "--porcelain", "--", *paths)
        return cls(name=f"{name}-dirty" if changed else name, time=int(time))


def version() -> str:
    """Segue's, which is the chart's appVersion and so the tag of the images."""
    return __version__


def _git(root: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
