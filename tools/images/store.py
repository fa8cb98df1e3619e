"""Where bases, layers and built images are kept: outside the checkout, under names that follow from what made them."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tools.images.running import Say

KEPT_BUILDS = 3
"""Of each image; a look back at the last one must not cost a build, a year of them must not fill the disk."""


def cache_root() -> Path:
    """The same folder as `scripts/venv`."""
    if own := os.environ.get("SEGUE_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segue"


@dataclass(frozen=True, slots=True)
class Store:
    """One folder, which one build at a time may change."""

    root: Path = field(default_factory=lambda: cache_root() / "images")

    @property
    def storage(self) -> Path:
        """For an engine that keeps its layers here."""
        return self.root / "buildah"

    @property
    def bases(self) -> Path:
        """For root file systems."""
        return self.root / "bases"

    def built(self, image: str, key: str) -> Path:
        """The folder of one build, which is there when the build has succeeded."""
        return self.root / "built" / f"{image}-{key}"

    @contextmanager
    def alone(self, say: Say) -> Iterator[None]:
        """Two builds at once would do the same work twice: the second waits."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("waiting for another build, which has the cache")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextmanager
    def filling(self, target: Path) -> Iterator[Path]:
        """A folder to fill, which takes the target's place when it is full and is gone when it is not."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
            folder = Path(scratch) / "folder"
            folder.mkdir()
            yield folder
            shutil.rmtree(target, ignore_errors=True)
            folder.rename(target)

    def let_go(self, image: str) -> None:
        """Delete all but the latest builds of an image."""
        found = sorted((self.root / "built").glob(f"{image}-*"), key=lambda folder: folder.stat().st_mtime)
        for old in found[:-KEPT_BUILDS]:
            shutil.rmtree(old)
