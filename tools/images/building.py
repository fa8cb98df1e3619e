"""Builds images: finds engine and base, looks into the cache, runs the recipe, and looks at what came out."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.images.archives import read_contents, read_file, uncompressed_bytes
from tools.images.bases import AUTO, Base, Bases
from tools.images.engines import Engine, Order, choose_engine
from tools.images.errors import ImageError
from tools.images.pip_settings import read_settings
from tools.images.recipes import ENGINES, IMAGES, Recipe, Revision, version
from tools.images.reports import BuiltImage, Facts, as_json, count_packages
from tools.images.running import LoggedRunner, Say
from tools.images.store import Store

OUTPUT = Path("build/images")
SBOM = "/usr/share/segue/sbom.cdx.json"

_ARCHIVE, _SBOM, _FACTS = "image.tar", "sbom.cdx.json", "facts.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Torch:
    """Another torch than the locked one.

    Attributes
    ----------
    line
        As in a lock file: `torch==2.8.0+cpu --hash=sha256:…`; empty: the locked one.
    index
        URL of the index that has it, where pip's settings name none.
    """

    line: str = ""
    index: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One image as it is wanted; whatever changes what comes out is a field here."""

    recipe: Recipe
    revision: Revision
    base: Base
    tag: str
    source: str
    engine: str
    torch: Torch = Torch()

    @property
    def reference(self) -> str:
        """As the chart names it."""
        return f"{self.recipe.repository}:{self.tag}{self.recipe.suffix}"

    @property
    def name(self) -> str:
        """In full, as container runtimes read the reference."""
        return f"docker.io/{self.reference}"

    @property
    def arguments(self) -> dict[str, str]:
        """For the Dockerfile."""
        return {
            "BASE": self.base.name,
            "VERSION": self.tag,
            "REVISION": self.revision.name,
            "SOURCE": self.source,
            "SOURCE_DATE_EPOCH": str(self.revision.time),
            **self._engines,
        }

    @property
    def _engines(self) -> dict[str, str]:
        if not self.recipe.engines:
            return {}
        return {"ENGINES": self.recipe.engines, "TORCH": self.torch.line, "TORCH_INDEX": self.torch.index}

    @property
    def key(self) -> str:
        """Of the cache."""
        made_of = (self.recipe.digest(), self.base.identity, self.arguments, self.name, self.engine)
        return hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]


def build(
    images: Sequence[str] = (),
    *,
    engines: str = "",
    torch: Torch | None = None,
    output: Path = OUTPUT,
    base: str = AUTO,
    tag: str | None = None,
    engine: str = "auto",
    source: str = "",
    refresh: bool = False,
    store: Store | None = None,
    say: Say = print,
) -> dict[str, BuiltImage]:
    """Build images, or take them from the cache where nothing that they are made of has changed.

    Parameters
    ----------
    images
        Of `IMAGES`; all that there are of these engines unless given.
    engines
        Of `ENGINES`: images with that engine's libraries, their tags ending in its name.
    torch
        Another torch for them.
    output
        Gets `NAME.tar`, `NAME.cdx.json`, `NAME.log` and `report.json`.
    base
        An image that `FROM` can name; `debootstrap`: one that is made here; `auto`: Python's official one if it can be
        pulled, else one by debootstrap.
    tag
        Of all of them; Segue's version unless given.
    engine
        `docker`, `podman`, `buildah`, or `auto`: the first that works.
    source
        URL of the sources, for a label.
    refresh
        Get the base anew.
    store
        The cache; that of this user unless given.

    Raises
    ------
    ImageError
        Something is missing or failed; the message says what to do.
    """
    there_are = ENGINES.get(engines, ()) if engines else IMAGES
    if unknown := [name for name in images if name not in there_are]:
        with_engine = f" with the engine {engines}" if engines else ""
        raise ImageError(f"there is no image {unknown[0]}{with_engine}; there are {', '.join(there_are) or 'none'}")
    store = store or Store()
    with store.alone(say):
        chosen = choose_engine(engine, storage=store.storage)
        found = Bases(engine=chosen, store=store, say=say, refresh=refresh).find(base)
        workshop = Workshop(engine=chosen, store=store, output=output, say=say)
        built = {}
        for recipe in (Recipe(name=name, engines=engines) for name in images or there_are):
            revision = Revision.of(recipe)
            built[recipe.label] = workshop.obtain(
                Wish(
                    recipe=recipe,
                    revision=revision,
                    base=found,
                    tag=tag or version(),
                    source=source,
                    engine=chosen.name,
                    torch=torch or Torch(),
                )
            )
    (output / "report.json").write_text(as_json(built), encoding="utf-8")
    return built


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """Where wishes come true: an engine, a cache, and a folder for what is asked for."""

    engine: Engine
    store: Store
    output: Path
    say: Say

    def obtain(self, wish: Wish) -> BuiltImage:
        """The image, built unless an earlier build of the same inputs is there."""
        name = wish.recipe.label
        self.output.mkdir(parents=True, exist_ok=True)
        folder = self.store.built(name, wish.key)
        if cached := folder.exists():
            self.say(f"{name}: nothing changed, taken from {folder}")
            os.utime(folder)
        else:
            with self.store.filling(folder) as scratch:
                self._make(wish, scratch)
            self.store.let_go(name)
        facts = Facts(**json.loads((folder / _FACTS).read_text(encoding="utf-8")))
        archive, sbom = self.output / f"{name}.tar", self.output / f"{name}.cdx.json"
        _place(folder / _ARCHIVE, archive)
        _place(folder / _SBOM, sbom)
        return BuiltImage(facts=facts, archive=archive, sbom=sbom, cached=cached)

    def _make(self, wish: Wish, folder: Path) -> None:
        """Fill a folder of the cache."""
        started, name, archive = time.monotonic(), wish.recipe.label, folder / _ARCHIVE
        self.say(f"{name}: {self.engine.name} builds it upon {wish.base.name}")
        with tempfile.TemporaryDirectory() as lent:
            runner = LoggedRunner(label=name, log=self.output / f"{name}.log", say=self.say)
            self.engine.build(_order(wish, Path(lent)), runner)
        self.say(f"{name}: writing the archive")
        self.engine.save(wish.name, archive)
        facts, sbom = _look_at(archive, wish, seconds=time.monotonic() - started)
        (folder / _SBOM).write_text(sbom, encoding="utf-8")
        (folder / _FACTS).write_text(json.dumps(asdict(facts), indent=1), encoding="utf-8")
        self.say(f"{name}: {facts.seconds:.0f} s")


def _order(wish: Wish, lent: Path) -> Order:
    return Order(
        name=wish.name,
        dockerfile=wish.recipe.dockerfile,
        context=wish.recipe.root,
        arguments=wish.arguments,
        pip=read_settings(os.environ),
        lent=lent,
        time=wish.revision.time,
    )


def _look_at(archive: Path, wish: Wish, *, seconds: float) -> tuple[Facts, str]:
    contents = read_contents(archive)
    sbom = read_file(archive, SBOM).decode()
    packages = count_packages(sbom)
    facts = Facts(
        name=wish.recipe.label,
        reference=wish.reference,
        digest=contents.digest,
        base=wish.base.name,
        revision=wish.revision.name,
        uncompressed_bytes=uncompressed_bytes(archive),
        compressed_bytes=contents.compressed_bytes,
        python_packages=packages["pypi"],
        debian_packages=packages["deb"],
        seconds=round(seconds, 1),
    )
    return facts, sbom


def _place(kept: Path, target: Path) -> None:
    """A second name for a file of the cache; a copy where the target is on another file system."""
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(kept)
    except OSError:
        shutil.copyfile(kept, target)
