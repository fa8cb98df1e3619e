"""The Debian packages of a root file system, as CycloneDX components."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License, LicenseExpression
from debian.deb822 import Deb822
from packageurl import PackageURL

STATUS = Path("var/lib/dpkg/status")
_HERE = "install ok installed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Which distribution it is, from `/etc/os-release`: `debian`, `12`, `Debian GNU/Linux 12 (bookworm)`."""

    name: str
    version: str
    title: str

    @property
    def component(self) -> Component:
        """The distribution itself."""
        return Component(
            type=ComponentType.OPERATING_SYSTEM,
            name=self.name,
            version=self.version,
            description=self.title,
            bom_ref=f"os:{self.name}-{self.version}",
        )


def read_release(root: Path) -> Release:
    """Of the root file system below a folder."""
    lines = (root / "etc" / "os-release").read_text(encoding="utf-8").splitlines()
    facts = {key: value.strip().strip('"') for key, _, value in (line.partition("=") for line in lines)}
    return Release(
        name=facts.get("ID", "linux"), version=facts.get("VERSION_ID", "unknown"), title=facts.get("PRETTY_NAME", "")
    )


def debian_components(root: Path, *, release: Release) -> list[Component]:
    """One for each installed package, in order of name; none where dpkg has no records."""
    status = root / STATUS
    if not status.exists():
        return []
    with status.open(encoding="utf-8") as file:
        here = [dict(entry) for entry in Deb822.iter_paragraphs(file, use_apt_pkg=False) if entry["Status"] == _HERE]
    return [_component(entry, root, release) for entry in sorted(here, key=lambda entry: entry["Package"])]


def owned_by_dpkg(root: Path, file: Path) -> bool:
    """Whether a package of the distribution put a file (an absolute path inside the root) there."""
    lists = (root / "var" / "lib" / "dpkg" / "info").glob("*.list")
    return any(str(file) in one.read_text(encoding="utf-8").splitlines() for one in lists)


def _component(entry: dict[str, str], root: Path, release: Release) -> Component:
    qualifiers = {
        "arch": entry["Architecture"],
        "distro": f"{release.name}-{release.version}",
        "upstream": _source(entry),
    }
    purl = PackageURL(
        "deb", namespace=release.name, name=entry["Package"], version=entry["Version"], qualifiers=qualifiers
    )
    return Component(
        type=ComponentType.LIBRARY,
        name=entry["Package"],
        version=entry["Version"],
        description=entry.get("Description", "").partition("\n")[0] or None,
        purl=purl,
        bom_ref=purl.to_string(),
        licenses=[*_licences(root / "usr" / "share" / "doc" / entry["Package"] / "copyright")],
    )


def _source(entry: dict[str, str]) -> str:
    """The source package, by which a distribution's security tracker knows it: `glibc` or `gcc@12.2.0-14`."""
    name, _, version = entry.get("Source", entry["Package"]).partition(" ")
    return f"{name}@{version.strip('()')}" if version else name


def _licences(copyright_file: Path) -> Iterator[License]:
    """The short names in a machine-readable copyright file (DEP 5); where it is not one, nothing is claimed."""
    for name in sorted(_short_names(copyright_file)):
        made = LicenseFactory().make_from_string(name)
        if not isinstance(made, LicenseExpression):  # a list may hold names or one expression
            yield made


def _short_names(copyright_file: Path) -> set[str]:
    if not copyright_file.is_file():
        return set()
    with copyright_file.open(encoding="utf-8", errors="replace") as file:
        head, *paragraphs = [*Deb822.iter_paragraphs(file, use_apt_pkg=False)] or [Deb822()]
    if "Format" not in head:
        return set()
    stated = [paragraph["License"].partition("\n")[0].strip() for paragraph in paragraphs if "License" in paragraph]
    return {name for name in stated if name}
