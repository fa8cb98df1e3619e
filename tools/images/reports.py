"""What a build tells: a row for each image, as a table for people and as JSON for programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is true of an image wherever its archive lies.

    Attributes
    ----------
    name
        Of the process: `operator`, `sidecar`, `server`.
    reference
        As the chart's default values name it: `segue/operator:0.1.0`.
    digest
        Of its manifest, `sha256:...`.
    base, revision
        What it was built upon, and from which commit.
    uncompressed_bytes, compressed_bytes
        Of all its layers: on a node's disk, and over the network.
    python_packages, debian_packages
        How many its SBOM lists.
    seconds
        That building it took, on the machine and the day on which it was built.
    """

    name: str
    reference: str
    digest: str
    base: str
    revision: str
    uncompressed_bytes: int
    compressed_bytes: int
    python_packages: int
    debian_packages: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltImage:
    """An image that is there.

    Attributes
    ----------
    archive
        An OCI archive: `ctr images import`, `kind load image-archive`, `docker load`, `skopeo copy oci-archive:...`.
    sbom
        The CycloneDX document that lies in the image too.
    cached
        Whether an earlier build of the same inputs was used.
    """

    facts: Facts
    archive: Path
    sbom: Path
    cached: bool

    @property
    def reference(self) -> str:
        """As the chart's default values name it: `segue/operator:0.1.0`."""
        return self.facts.reference

    @property
    def digest(self) -> str:
        """Of its manifest."""
        return self.facts.digest


def count_packages(sbom: str) -> Counter[str]:
    """How many components of each kind of purl an SBOM lists: `pypi`, `deb`, `generic`."""
    components: list[dict[str, Any]] = json.loads(sbom)["components"]
    return Counter(one["purl"].partition("/")[0].removeprefix("pkg:") for one in components if "purl" in one)


def as_json(images: Mapping[str, BuiltImage]) -> str:
    """For `report.json`."""
    rows = {
        name: {**asdict(image.facts), "archive": image.archive.name, "sbom": image.sbom.name, "cached": image.cached}
        for name, image in images.items()
    }
    return json.dumps({"images": rows}, indent=2) + "\n"


def as_table(images: Iterable[BuiltImage]) -> str:
    """For a person."""
    head = ("image", "on disk", "compressed", "python", "debian", "built in", "digest")
    rows = [head, *map(_row, images)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _row(image: BuiltImage) -> tuple[str, ...]:
    facts = image.facts
    return (
        facts.reference,
        f"{facts.uncompressed_bytes / MIB:.0f} MiB",
        f"{facts.compressed_bytes / MIB:.0f} MiB",
        str(facts.python_packages),
        str(facts.debian_packages),
        f"{facts.seconds:.0f} s{' (cached)' if image.cached else ''}",
        facts.digest[:19],
    )
