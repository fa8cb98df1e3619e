"""Which pods there are, as whoever watches them tells the fleet.

Separate from `pod.py` because these are plain values: the adapters make them (from Pod objects, or from a line of
configuration), and the fleet compares them to know which sidecars to begin and to stop polling.
"""

from __future__ import annotations

from dataclasses import dataclass

from typing_extensions import override

from segue.rollout import PodFacts


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class FleetKey:
    """A fleet: its pods are in one namespace, and so are their certificates' names."""

    namespace: str
    name: str

    @override
    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """A voice that pods of a fleet hold, by their own account; `uid` tells which incarnation of it."""

    voice: str
    uid: str
    fleet: FleetKey


@dataclass(frozen=True, slots=True, kw_only=True)
class PodRecord:
    """A pod as it is now.

    Attributes
    ----------
    url
        `https://ADDRESS:PORT` of its control API; empty while it has no address or is not running, and then it is
        never asked anything.
    config_map
        Name of the ConfigMap, in the pod's namespace, with its sidecar's configuration; empty where there is none.
    """

    facts: PodFacts
    fleet: FleetKey
    url: str
    config_map: str = ""
