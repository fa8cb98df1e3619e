"""Programs of Debian packages, unpacked and not installed: a package would start a service.

Separate from `tests.support.cluster.binaries`, whose programs are built from pinned Go modules; these come as the
distribution has them, checked by apt.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.support.cluster.binaries import NoBinary, cache_root

PACKAGE_OF = {
    "promtool": "prometheus",
    "prometheus": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
}
FOLDER = "prometheus"
TEMPLATES = "usr/share/prometheus/alertmanager"
TEMPLATES_HERE = "./" * 11 + ".//templates"
"""Debian's Alertmanager does not start without files at a place that only an installation has. The name of that place
is replaced in our copy of the program by one as long, in the folder that it is started in: see `home_of`."""
LIMIT_S = 300


def find(name: str) -> Path | None:
    """Where it is on this machine: in PATH, or in the cache."""
    given = shutil.which(name)
    if given is not None:
        return Path(given)
    cached = cache_root() / FOLDER / name
    return cached if cached.is_file() else None


def obtain(name: str) -> Path:
    """Its path; got from the distribution where it is not here.

    Raises
    ------
    NoBinary
        apt-get knows no such package, or cannot reach its source.
    """
    found = find(name)
    if found is not None:
        return found
    package = PACKAGE_OF[name]
    with tempfile.TemporaryDirectory() as folder:
        try:
            _run("apt-get", "download", "-qq", package, folder=folder)
        except NoBinary:
            _run("apt-get", "update", "-qq", folder=folder)
            _run("apt-get", "download", "-qq", package, folder=folder)
        (archive,) = Path(folder).glob(f"{package}_*.deb")
        _run("dpkg-deb", "-x", str(archive), ".", folder=folder)
        return _keep(name, Path(folder))


def home_of(program: Path) -> Path:
    """The folder to start a program in."""
    return program.parent


def _keep(name: str, unpacked: Path) -> Path:
    store = cache_root() / FOLDER
    store.mkdir(parents=True, exist_ok=True)
    temporary = store / f".{name}.new"
    shutil.copy(unpacked / "usr" / "bin" / name, temporary)
    if (unpacked / TEMPLATES).is_dir():
        shutil.copytree(unpacked / TEMPLATES, store / "templates", dirs_exist_ok=True)
        there, here = f"/{TEMPLATES}".encode(), TEMPLATES_HERE.encode()
        assert len(there) == len(here), "a program keeps its length"
        temporary.write_bytes(temporary.read_bytes().replace(there, here))
    temporary.replace(store / name)
    return store / name


def _run(*command: str, folder: str) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoBinary(f"{' '.join(command)}: {error}") from error
    if done.returncode != 0:
        raise NoBinary(f"{' '.join(command)}: code {done.returncode}: {done.stderr.strip()}")


if __name__ == "__main__":
    for program in PACKAGE_OF:
        print(obtain(program))
