"""A base without a registry: Debian with Python, from the packages that this machine installs from.

Separate from the choice of a base because it is the one part that depends on Debian: its mirrors and debootstrap.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.images.errors import NoBase
from tools.images.running import LoggedRunner, Say

SUITE = "bookworm"
PACKAGES = ("ca-certificates", "python3", "python3-venv")
ARCHIVE = "http://deb.debian.org/debian"
SECURITY = "http://deb.debian.org/debian-security"
SOURCES = (Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d"))

_ONE_LINE = re.compile(r"^deb\s+(?:\[[^]]*]\s+)?(\S+)\s+(\S+)")

# What a machine's own base has no use for (the official slim images leave out the same), and what names this machine.
_SLIM = """\
set -eu
cd "$1"
rm -rf var/cache/apt/* var/lib/apt/lists/* var/cache/debconf/*-old var/log/* var/cache/ldconfig/aux-cache
rm -rf usr/share/man usr/share/info usr/share/locale usr/share/lintian usr/share/python-wheels/*.egg
find usr/share/doc -type f ! -name copyright -delete
find usr/share/doc -type l -xtype l -delete
find usr/share/doc -mindepth 1 -type d -empty -delete
find . -xdev -name __pycache__ -path '*/dist-packages/*' -prune -exec rm -rf {} +
rm -f etc/resolv.conf etc/hostname etc/machine-id etc/apt/sources.list
: > etc/machine-id
rm -rf dev/* tmp/* run/*
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrors:
    """Where packages come from.

    Attributes
    ----------
    archive
        The suite itself.
    security
        Its security fixes.
    """

    archive: str = ARCHIVE
    security: str = SECURITY


def read_mirrors(sources: Iterable[Path] = SOURCES) -> Mirrors:
    """Those of this machine's apt; Debian's own where it names none for the suite."""
    found = [pair for file in _files(sources) for pair in _entries(file.read_text(encoding="utf-8"))]
    archives = [uri for uri, suite in found if suite == SUITE]
    fixes = [uri for uri, suite in found if suite in (f"{SUITE}-security", f"{SUITE}/updates")]
    return Mirrors(archive=(archives or [ARCHIVE])[0], security=(fixes or [SECURITY])[0])


def root_key() -> str:
    """What a root file system is made by, in short: another recipe is another base."""
    return f"{SUITE}-{hashlib.sha256(repr((SUITE, PACKAGES, _SLIM)).encode()).hexdigest()[:8]}"


def make_root(target: Path, *, mirrors: Mirrors, log: Path, say: Say) -> None:
    """A tar of Debian with Python, with today's security fixes, and without a trace of this machine.

    Raises
    ------
    NoBase
        debootstrap is missing, or somebody else than root runs this.
    BuildFailed
        Packages cannot be had, or do not install.
    """
    if shutil.which("debootstrap") is None:
        raise NoBase("the base needs debootstrap: apt-get install debootstrap, or name another with --base")
    if os.geteuid() != 0:
        raise NoBase("debootstrap makes a base as root only: run it with sudo, or name another with --base")
    run = LoggedRunner(label="base", log=log, say=say)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".root.") as scratch:
        root = Path(scratch) / "root"
        say(f"base: Debian {SUITE} with {', '.join(PACKAGES)} from {mirrors.archive} (a minute or two, once)")
        include = f"--include={','.join(PACKAGES)}"
        run(["debootstrap", "--variant=minbase", "--force-check-gpg", include, SUITE, str(root), mirrors.archive])
        _fix(root, mirrors, run)
        run(["sh", "-c", _SLIM, "slim", str(root)])
        (root / "etc/apt/sources.list").write_text(_sources(Mirrors()), encoding="utf-8")
        run(["tar", "-C", str(root), "--sort=name", "--numeric-owner", "--one-file-system", "-cf", str(target), "."])


def _fix(root: Path, mirrors: Mirrors, run: LoggedRunner) -> None:
    """debootstrap knows one suite; what was mended since is in another."""
    (root / "etc/apt/sources.list").write_text(_sources(mirrors), encoding="utf-8")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["-y", "--no-install-recommends", "dist-upgrade"]):
        run(["chroot", str(root), "apt-get", "-q", *words], environment=quiet)


def _sources(mirrors: Mirrors) -> str:
    return f"deb {mirrors.archive} {SUITE} main\ndeb {mirrors.security} {SUITE}-security main\n"


def _files(sources: Iterable[Path]) -> Iterator[Path]:
    for source in sources:
        if source.is_dir():
            yield from sorted(file for file in source.iterdir() if file.suffix in (".list", ".sources"))
        elif source.is_file():
            yield source


def _entries(text: str) -> Iterator[tuple[str, str]]:
    """(URI, suite) of one file, whichever of apt's two formats it has (sources.list(5))."""
    for line in text.splitlines():
        if found := _ONE_LINE.match(line):
            yield found[1].rstrip("/"), found[2].rstrip("/")
    for stanza in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", stanza, re.MULTILINE))
        if "deb" in fields.get("Types", "").split() and fields.get("Enabled", "yes") != "no":
            for uri in fields.get("URIs", "").split():
                yield from ((uri.rstrip("/"), suite) for suite in fields.get("Suites", "").split())
