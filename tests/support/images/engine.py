"""An engine that remembers what it was asked for, and whose images hold an SBOM and nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.images.archives import write_archive
from tools.images.engines import Order
from tools.images.errors import BuildFailed, ImageError
from tools.images.running import Runner

SBOM = {
    "components": [
        {"purl": "pkg:pypi/numpy@2"},
        {"purl": "pkg:pypi/soxr@1"},
        {"purl": "pkg:deb/debian/libc6@2"},
        {"name": "debian"},
    ]
}


@dataclass
class FakeEngine:
    """See above.

    Attributes
    ----------
    registry
        What can be pulled, to its id.
    broken
        Whether builds fail.
    """

    registry: dict[str, str] = field(default_factory=dict)
    broken: bool = False
    images: dict[str, str] = field(default_factory=dict)
    pulled: list[str] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    name: str = "fake"

    def image_id(self, image: str) -> str | None:
        return self.images.get(image)

    def pull(self, image: str) -> None:
        self.pulled.append(image)
        if image not in self.registry:
            raise ImageError("fake failed: no such host")
        self.images[image] = self.registry[image]

    def take_root(self, archive: Path, image: str) -> None:
        self.images[image] = f"sha256:of-{archive.name}"

    def build(self, order: Order, run: Runner) -> None:
        self.orders.append(order)
        if self.broken:
            raise BuildFailed("fake ended with 1")
        self.images[order.name] = f"sha256:build-{len(self.orders)}"

    def save(self, image: str, archive: Path) -> None:
        files = {"usr/share/segue/sbom.cdx.json": json.dumps(SBOM).encode(), "built": self.images[image].encode()}
        write_archive(archive, [files], name=image)
