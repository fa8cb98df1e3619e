"""Which image the others are built upon: a name in a registry, or a Debian of our own where no registry answers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from tools.images.debian import make_root, read_mirrors, root_key
from tools.images.engines import Engine
from tools.images.errors import ImageError, NoBase
from tools.images.running import Say
from tools.images.store import Store

PYTHON = "docker.io/library/python:3.12-slim"
AUTO = "auto"
DEBOOTSTRAP = "debootstrap"


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What `FROM` names, and what that is.

    Attributes
    ----------
    name
        For the Dockerfile's BASE.
    identity
        Changes whenever its content does.
    """

    name: str
    identity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bases:
    """Finds bases for one engine; what it has got once it uses again.

    Attributes
    ----------
    refresh
        Get it anew, with what was mended since.
    """

    engine: Engine
    store: Store
    say: Say
    refresh: bool = False

    def find(self, wanted: str) -> Base:
        """The base of a name, of `debootstrap`, or of `auto`: Python's official one, else one by debootstrap.

        Raises
        ------
        NoBase
            It can neither be pulled nor made.
        """
        if wanted == DEBOOTSTRAP:
            return self._own()
        if wanted != AUTO:
            return self._named(wanted)
        if self._root.exists() and not self.refresh and self.engine.image_id(PYTHON) is None:
            return self._own()
        try:
            return self._named(PYTHON)
        except NoBase as error:
            self.say(f"base: {error}; debootstrap makes one instead")
            return self._own()

    def _named(self, name: str) -> Base:
        identity = None if self.refresh else self.engine.image_id(name)
        if identity is None:
            self.say(f"base: pulling {name}")
            try:
                self.engine.pull(name)
            except ImageError as error:
                raise NoBase(f"{name} cannot be pulled ({error})") from error
            identity = self.engine.image_id(name)
        if identity is None:
            raise NoBase(f"{name} was pulled, but {self.engine.name} does not know it by that name; write it in full")
        return Base(name=name, identity=identity)

    def _own(self) -> Base:
        if self.refresh or not self._root.exists():
            self._make()
        digest = self._digest.read_text(encoding="utf-8")
        name = f"localhost/segue-base:{root_key()}-{digest[:12]}"
        if self.engine.image_id(name) is None:
            self.say(f"base: {name} into {self.engine.name}")
            self.engine.take_root(self._root, name)
        return Base(name=name, identity=f"sha256:{digest}")

    def _make(self) -> None:
        self.store.bases.mkdir(parents=True, exist_ok=True)
        made = self._root.with_suffix(".new")
        make_root(made, mirrors=read_mirrors(), log=self.store.bases / "debootstrap.log", say=self.say)
        with made.open("rb") as file:
            self._digest.write_text(hashlib.file_digest(file, "sha256").hexdigest(), encoding="utf-8")
        made.rename(self._root)

    @property
    def _root(self) -> Path:
        return self.store.bases / f"{root_key()}.tar"

    @property
    def _digest(self) -> Path:
        return self.store.bases / f"{root_key()}.sha256"
