"""Pod objects to the pods of fleets.

Separate from the fleet because only this knows what a Pod looks like; the fleet is told the whole set each time it
changed, and compares for itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from segue.rollout import PodFacts
from segue_operator.fleet.records import FleetKey, PodRecord
from segue_operator.kubernetes.api import Body
from segue_operator.kubernetes.seen import is_older

PORT_NAME = "segue-control"
CONFIG_VOLUME = "segue-sidecar-config"
SETTLE_S = 0.05
"""Changes that come together are told together: a list of 5,000 pods is 5,000 events."""

_OVER = ("Succeeded", "Failed")
"""A pod that was evicted stays as an object; it never runs again."""

logger = logging.getLogger(__name__)


def record_of(body: Mapping[str, Any], *, fleet: FleetKey, control_port: int, scheme: str = "https") -> PodRecord:
    """What the fleet needs of a pod.

    Parameters
    ----------
    control_port
        Where no container has a port named `segue-control`.
    """
    metadata, status = body["metadata"], body.get("status") or {}
    running = status.get("phase") == "Running"
    address = status.get("podIP") if running else None
    ready = (each for each in status.get("conditions") or () if each.get("type") == "Ready")
    condition: Mapping[str, Any] = next(ready, {})
    facts = PodFacts(
        uid=metadata["uid"],
        name=metadata["name"],
        created_at=datetime.fromisoformat(metadata["creationTimestamp"]),
        ready=bool(address) and condition.get("status") == "True",
        ready_since=_time(condition.get("lastTransitionTime")),
        terminating=metadata.get("deletionTimestamp") is not None,
    )
    url = _url(scheme, address, _port(body) or control_port)
    return PodRecord(facts=facts, fleet=fleet, url=url, config_map=_config_map(body))


def is_over(body: Mapping[str, Any]) -> bool:
    """Whether the pod ended and will not run again."""
    return (body.get("status") or {}).get("phase") in _OVER


def _url(scheme: str, address: str | None, port: int) -> str:
    if not address:
        return ""
    return f"{scheme}://[{address}]:{port}" if ":" in address else f"{scheme}://{address}:{port}"


def _port(body: Mapping[str, Any]) -> int | None:
    """The named port; a native sidecar is an init container."""
    spec = body.get("spec") or {}
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    ports = (port for container in containers for port in container.get("ports") or ())
    return next((int(port["containerPort"]) for port in ports if port.get("name") == PORT_NAME), None)


def _config_map(body: Mapping[str, Any]) -> str:
    """As the chart and `segue inject` mount it."""
    volumes = (body.get("spec") or {}).get("volumes") or ()
    mounted = (volume.get("configMap") or {} for volume in volumes if volume.get("name") == CONFIG_VOLUME)
    return next((str(each.get("name") or "") for each in mounted), "")


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


@dataclass(frozen=True, slots=True)
class _Entry:
    watch: str
    metadata: Mapping[str, Any]
    record: PodRecord


@dataclass(slots=True, kw_only=True)
class PodBook:
    """Every pod of every fleet, by uid.

    Attributes
    ----------
    fleet_of
        From namespace and labels to the fleet, None for pods that are nobody's.
    """

    fleet_of: Callable[[str, Mapping[str, str]], FleetKey | None]
    control_port: int
    scheme: str = "https"
    settle_s: float = SETTLE_S
    _entries: dict[str, _Entry] = field(default_factory=dict)
    _listener: Callable[[Sequence[PodRecord]], None] | None = None
    _due: asyncio.TimerHandle | None = None

    def records(self) -> tuple[PodRecord, ...]:
        """All of them."""
        return tuple(entry.record for entry in self._entries.values())

    def fleets(self) -> frozenset[FleetKey]:
        """Every fleet that has a pod."""
        return frozenset(entry.record.fleet for entry in self._entries.values())

    def config_map(self, fleet: FleetKey) -> str:
        """Name of the ConfigMap with the configuration of a fleet's sidecars; empty where no pod tells one."""
        named = {each.record.config_map for each in self._entries.values() if each.record.fleet == fleet}
        return min(named - {""}, default="")

    def tell(self, listener: Callable[[Sequence[PodRecord]], None] | None) -> None:
        """Tell the whole set, now and after changes; None: nobody."""
        self._listener = listener
        if listener is not None:
            listener(self.records())

    def take(self, watch: str, kind: str | None, body: Body) -> None:
        """An event of a watch; `kind` as there, None: from a list."""
        uid = body["metadata"]["uid"]
        known = self._entries.get(uid)
        if known is not None and is_older(body, {"metadata": known.metadata}):
            return
        record = None if kind == "DELETED" else self._record(body)
        if record is None:
            self._remove([uid])
            return
        metadata = {"resourceVersion": body["metadata"].get("resourceVersion", "")}
        self._entries[uid] = _Entry(watch, metadata, record)
        if known is None or known.record != record:
            self._changed()

    def keep_only(self, watch: str, uids: Iterable[str], *, resource_version: str) -> None:
        """A list of what one watch is about, as of a version: whatever else is older than that is gone."""
        listed, as_of = frozenset(uids), {"metadata": {"resourceVersion": resource_version}}
        self._remove(
            uid
            for uid, entry in list(self._entries.items())
            if entry.watch == watch and uid not in listed and is_older({"metadata": entry.metadata}, as_of)
        )

    def _record(self, body: Body) -> PodRecord | None:
        metadata = body["metadata"]
        fleet = self.fleet_of(metadata["namespace"], metadata.get("labels") or {})
        if fleet is None or is_over(body):
            return None
        try:
            return record_of(body, fleet=fleet, control_port=self.control_port, scheme=self.scheme)
        except (KeyError, ValueError, TypeError) as error:
            logger.warning("pod %s/%s is left out: %s", metadata["namespace"], metadata["name"], error)
            return None

    def _remove(self, uids: Iterable[str]) -> None:
        gone = [self._entries.pop(uid) for uid in uids if uid in self._entries]
        if gone:
            self._changed()

    def _changed(self) -> None:
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(self.settle_s, self._tell_now)

    def _tell_now(self) -> None:
        self._due = None
        if self._listener is not None:
            self._listener(self.records())
