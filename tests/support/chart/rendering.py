"""What came out of helm, by kind and name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rendering:
    """All objects of one installation."""

    objects: tuple[Body, ...]

    def of(self, *kinds: str) -> list[Body]:
        """Those of some kinds."""
        return [each for each in self.objects if each["kind"] in kinds]

    def one(self, kind: str, name: str) -> Body:
        """One of them."""
        (found,) = (each for each in self.of(kind) if each["metadata"]["name"] == name)
        return found

    def fleets(self) -> Iterator[tuple[str, Body]]:
        """Name and Deployment of each fleet."""
        for each in self.of("Deployment"):
            fleet = each["spec"]["template"]["metadata"]["labels"].get("segue.dev/fleet")
            if fleet is not None:
                yield fleet, each

    def operator(self) -> Body:
        """Its Deployment."""
        (found,) = (each for each in self.of("Deployment") if _component(each) == "operator")
        return found

    def files_of(self, deployment: Body) -> dict[str, str]:
        """The configuration files that its pods mount, by name."""
        volumes = deployment["spec"]["template"]["spec"]["volumes"]
        names = {each["configMap"]["name"] for each in volumes if "configMap" in each}
        return {name: text for each in names for name, text in self.one("ConfigMap", each)["data"].items()}


def _component(body: Body) -> str:
    return str(body["metadata"]["labels"].get("app.kubernetes.io/component", ""))


def containers(deployment: Body) -> dict[str, Body]:
    """The containers of its pods by name, native sidecars too."""
    spec = deployment["spec"]["template"]["spec"]
    return {each["name"]: each for each in (*spec.get("initContainers", ()), *spec["containers"])}
