"""The Python packages of one environment, as CycloneDX components."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, License
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

OWN = "segue"
"""Ours is on no index: a purl of PyPI would name somebody else's package."""

_LONGEST_LICENCE_NAME = 120
_TROVE = "License :: "


def python_components(environment: Path, *, digests: Mapping[str, str]) -> dict[str, Component]:
    """One component for each installed distribution, by its canonical name.

    Parameters
    ----------
    environment
        A virtual environment, or any folder above `lib/python3*/site-packages`.
    digests
        sha256 of the wheel that each came from, by canonical name; where one is missing the component has no hash.

    Raises
    ------
    ValueError
        There is no `site-packages` below the environment.
    """
    components: dict[str, Component] = {}
    for found in installed(environment):
        name = canonicalize_name(found.name)
        purl = PackageURL("generic" if name == OWN else "pypi", name=name, version=found.version)
        digest = digests.get(name)
        components[name] = Component(
            type=ComponentType.APPLICATION if name == OWN else ComponentType.LIBRARY,
            name=name,
            version=found.version,
            description=_field(found, "Summary") or None,
            purl=purl,
            bom_ref=purl.to_string(),
            licenses=_licences(found),
            hashes=[] if digest is None else [HashType(alg=HashAlgorithm.SHA_256, content=digest)],
            external_references=[*_boms(found)],
        )
    return components


def needs(environment: Path) -> dict[str, list[str]]:
    """Which installed distributions each one asks for, all by canonical name; extras are left out."""
    present = {canonicalize_name(one.name): one for one in installed(environment)}
    return {name: sorted({*_asked_for(one)} & present.keys()) for name, one in present.items()}


def installed(environment: Path) -> Iterator[Distribution]:
    """What is installed there, in order of name.

    Raises
    ------
    ValueError
        There is no `site-packages` below the environment.
    """
    folders = sorted(str(folder) for folder in environment.glob("lib/python3*/site-packages"))
    if not folders:
        raise ValueError(f"{environment} has no lib/python3*/site-packages; name a virtual environment")
    yield from sorted(distributions(path=folders), key=lambda one: canonicalize_name(one.name))


def wheel_digests(report: Path) -> dict[str, str]:
    """sha256 of each wheel, by canonical name, as `pip install --report` wrote it down."""
    entries = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {
        str(canonicalize_name(entry["metadata"]["name"])): digest
        for entry in entries
        if (digest := entry["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256"))
    }


def _asked_for(one: Distribution) -> Iterator[str]:
    for line in one.requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield canonicalize_name(requirement.name)


def _licences(one: Distribution) -> Iterable[License]:
    """As the package says it: an SPDX expression, else its licence field, else its classifiers."""
    factory = LicenseFactory()
    if expression := _field(one, "License-Expression"):
        return [factory.make_from_string(expression)]
    field = _field(one, "License").strip()
    if field and field != "UNKNOWN" and "\n" not in field and len(field) <= _LONGEST_LICENCE_NAME:
        return [factory.make_from_string(field)]
    trove = [line for line in one.metadata.get_all("Classifier") or () if line.startswith(_TROVE)]
    return [DisjunctiveLicense(name=line.rpartition(" :: ")[2]) for line in trove]


def _field(one: Distribution, name: str) -> str:
    """A field of its metadata that may stand there once; empty where it does not."""
    return str((one.metadata.get_all(name) or [""])[0])


def _boms(one: Distribution) -> Iterator[ExternalReference]:
    """SBOMs that the wheel brought of what is compiled into it (PEP 770), by where they lie in the image."""
    for file in one.files or ():
        if file.parts[0].endswith(".dist-info") and "sboms" in file.parts[1:-1]:
            place = Path(str(one.locate_file(file)))
            yield ExternalReference(type=ExternalReferenceType.BOM, url=XsUri(place.as_uri()))
