"""One image as one CycloneDX document, the same bytes for the same packages."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cyclonedx.contrib.this.builders import this_component
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from tools.images.sbom.debian_packages import debian_components, owned_by_dpkg, read_release
from tools.images.sbom.python_packages import needs, python_components


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is described.

    Attributes
    ----------
    name, version
        Of the image.
    environment
        The virtual environment in it.
    root
        Its root file system.
    """

    name: str
    version: str
    environment: Path
    root: Path = Path("/")


def describe(subject: Subject, *, digests: Mapping[str, str]) -> str:
    """The document, as JSON of CycloneDX 1.6.

    Its time is `SOURCE_DATE_EPOCH`, or 1970: what is the same has the same description.

    Parameters
    ----------
    digests
        sha256 of wheels, by canonical name.
    """
    release = read_release(subject.root)
    python = python_components(subject.environment, digests=digests)
    below = [*debian_components(subject.root, release=release), *_interpreter(subject.root)]
    image = Component(
        type=ComponentType.CONTAINER, name=subject.name, version=subject.version, bom_ref=f"image:{subject.name}"
    )
    components = [release.component, *below, *python.values()]
    bom = Bom(components=components, serial_number=_serial(subject, components))
    bom.metadata = BomMetaData(
        component=image, tools=ToolRepository(components=[this_component()]), timestamp=_timestamp()
    )
    edges = needs(subject.environment)
    needed = {one for wanted in edges.values() for one in wanted}
    tops = [component for name, component in python.items() if name not in needed]
    bom.register_dependency(image, [release.component, *below, *tops])
    for name, wanted in edges.items():
        bom.register_dependency(python[name], [python[one] for one in wanted])
    return JsonV1Dot6(bom).output_as_string(indent=1) + "\n"


def _interpreter(root: Path) -> list[Component]:
    """Python, where it is no package of the distribution (the official images build their own)."""
    program = Path(os.path.realpath(sys.executable))
    if owned_by_dpkg(root, program):
        return []
    version = ".".join(map(str, sys.version_info[:3]))
    purl = PackageURL("generic", name="python", version=version)
    return [Component(type=ComponentType.PLATFORM, name="python", version=version, purl=purl, bom_ref=purl.to_string())]


def _serial(subject: Subject, components: list[Component]) -> uuid.UUID:
    """Follows from what is listed."""
    refs = sorted(str(component.bom_ref.value) for component in components)
    return uuid.uuid5(uuid.NAMESPACE_OID, "\n".join([subject.name, subject.version, *refs]))


def _timestamp() -> datetime:
    return datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH") or 0), UTC)
