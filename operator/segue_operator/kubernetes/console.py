"""What the console shows and writes where voices are objects of an API server.

Separate from the adapter: nothing that decides looks here. Wishes are merge patches that name uid and resourceVersion,
as the command line's are; a merge patch, because a JSON patch whose `test` fails is answered as invalid.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from segue.errors import InvalidVoiceModel
from segue.model import VoiceModel
from segue.model.edit import FieldPath
from segue.rollout import Event
from segue_operator.console.source import Document, Whereabouts
from segue_operator.events import Entry
from segue_operator.fleet.pod import Pod
from segue_operator.fleet.records import FleetKey
from segue_operator.fleet.sidecars import SidecarFleet
from segue_operator.kubernetes.api import FIELD_MANAGER, Api, ObjectConflict, voice_path
from segue_operator.kubernetes.voices import KubernetesCluster
from segue_operator.ports import Problem, WriteConflict

MERGE_PATCH = "application/merge-patch+json"
ATTEMPTS = 3
EVENTS_KEPT = 2000


@dataclass(slots=True)
class EventRing:
    """The latest lines, for the page: what goes to the API server is not read back."""

    now: Callable[[], datetime]
    _entries: deque[Entry] = field(default_factory=lambda: deque(maxlen=EVENTS_KEPT))
    _last_id: int = 0

    def note(self, voice: str | None, event: Event) -> None:
        """Keep a line; one that was just said of the voice is said once."""
        kind = "Warning" if event.warning else "Normal"
        previous = next((entry for entry in reversed(self._entries) if entry.voice == voice), None)
        if previous and (previous.kind, previous.reason, previous.message) == (kind, event.reason, event.message):
            return
        self._last_id += 1
        at = self.now().isoformat(timespec="milliseconds")
        entry = Entry(id=self._last_id, at=at, voice=voice, kind=kind, reason=event.reason, message=event.message)
        self._entries.append(entry)

    def of(self, voice: str) -> list[Entry]:
        """About a voice, oldest first."""
        return [entry for entry in self._entries if entry.voice == voice]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConsole:
    """See `console.source`.

    Attributes
    ----------
    fleet
        The leader's; None while another operator leads.
    leader
        Who leads, as far as it is known.
    publish
        Tells people, where this operator leads.
    """

    api: Api
    cluster: KubernetesCluster
    fleet: Callable[[], SidecarFleet | None]
    leader: Callable[[], str]
    select: Callable[[VoiceModel], FleetKey | None]
    ring: EventRing
    publish: Callable[[str, Event], None]

    def identities(self) -> Mapping[str, object]:
        """See `Source`."""
        return self.cluster.seen.bodies

    def brief(self, key: str) -> Document | None:
        """See `Source`."""
        return self.cluster.seen.bodies.get(key)

    def document(self, key: str) -> Document | None:
        """See `Source`."""
        return self.cluster.seen.bodies.get(key)

    def fleet_of(self, key: str) -> FleetKey | None:
        """See `Source`. Of a spec that cannot be read, the namespace's own."""
        body = self.cluster.seen.bodies.get(key)
        if body is None:
            return None
        try:
            return self.select(VoiceModel.parse({**body, "status": {}}))
        except InvalidVoiceModel:
            return None

    def pods(self) -> Iterable[Pod]:
        """See `Source`."""
        fleet = self.fleet()
        return fleet.pods.values() if fleet is not None else ()

    def problems(self) -> Sequence[Problem]:
        """See `Source`."""
        return self.cluster.problems()

    def events(self, key: str) -> Sequence[Entry]:
        """See `Source`."""
        return self.ring.of(key)

    def reports(self, key: str) -> Mapping[str, Any]:
        """See `Source`. Pods have them; nothing is kept here."""
        return {}

    def whereabouts(self) -> Whereabouts:
        """See `Source`."""
        leading = self.fleet() is not None
        leader = "" if leading else self.leader()
        return Whereabouts(adapter="kubernetes", leading=leading, leader=leader, command="kubectl segue")

    async def edit(self, key: str, changes: Mapping[FieldPath, Any], *, seen: Document) -> str:
        """See `Editor`. Done again where only the status was written meanwhile."""
        for left in reversed(range(ATTEMPTS)):
            now = await self.api.call("GET", voice_path(key))
            if _spec_of(now) != _spec_of(seen):
                raise WriteConflict(f"{key} was changed by somebody else meanwhile; look at it again")
            try:
                written = await self.api.call(
                    "PATCH",
                    voice_path(key),
                    body=merge_patch(changes, now["metadata"]),
                    content_type=MERGE_PATCH,
                    query={"fieldManager": FIELD_MANAGER},
                )
            except ObjectConflict as error:
                if not left:
                    raise WriteConflict(f"{key} changes too often to be written; try again") from error
            else:
                if self.cluster.seen.remember(written):
                    self.cluster.seen.wake({key})
                return f"VoiceModel {key}"
        raise AssertionError("unreachable: the last attempt returns or raises")

    def tell(self, key: str, text: str) -> None:
        """See `Editor`."""
        self.publish(key, Event(reason="Asked", message=text))


def merge_patch(changes: Mapping[FieldPath, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A patch of exactly the object that was read."""
    patch: dict[str, Any] = {"metadata": {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}}
    for path, value in changes.items():
        *parents, last = path.split(".") if isinstance(path, str) else path
        node = patch
        for part in parents:
            node = node.setdefault(part, {})
        node[last] = value
    return patch


def _spec_of(body: Document) -> tuple[Any, Any]:
    """Which object, with which spec."""
    return body["metadata"]["uid"], body["metadata"].get("generation")
