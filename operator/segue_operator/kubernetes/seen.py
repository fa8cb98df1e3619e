"""The voices as the watch shows them, and which of them changed in a way that matters.

Separate from the adapter because nothing here asks the API server: events, lists and our own reads come in in any
order, and what comes out is a set of keys to look at. Deletion is never concluded here. A watch can miss things and a
list can be older than an event, so both only *wake* a voice, whose loop then asks for the object itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from segue_operator.kubernetes.api import Body


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What a change must touch to matter: our own status writes move only the resourceVersion."""

    uid: str
    generation: int
    annotations: Mapping[str, str]
    labels: Mapping[str, str]
    deleting: bool


def key_of(body: Mapping[str, Any]) -> str:
    """`namespace/name`."""
    metadata = body["metadata"]
    return f"{metadata['namespace']}/{metadata['name']}"


def mark_of(body: Mapping[str, Any]) -> Mark:
    """The mark of an object, or of its metadata alone."""
    metadata = body["metadata"]
    return Mark(
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        annotations=metadata.get("annotations") or {},
        labels=metadata.get("labels") or {},
        deleting=metadata.get("deletionTimestamp") is not None,
    )


def is_older(body: Mapping[str, Any], than: Mapping[str, Any]) -> bool:
    """Whether the API server wrote one object before another; of versions that are no numbers nothing is known."""
    one, other = (str(each["metadata"].get("resourceVersion", "")) for each in (body, than))
    return one.isdigit() and other.isdigit() and int(one) < int(other)


@dataclass(slots=True)
class SeenVoices:
    """Bodies by key, without the bookkeeping of field owners. Used from one event loop."""

    _bodies: dict[str, Body] = field(default_factory=dict)
    _changed: set[str] = field(default_factory=set)
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def bodies(self) -> Mapping[str, Body]:
        """The latest of each."""
        return self._bodies

    def take(self, kind: str | None, body: Body) -> None:
        """An event of the watch; `kind` as there, None: from a list."""
        key = key_of(body)
        if kind == "DELETED":
            self._wake_deleted(key, body)
        elif self.remember(body):
            self.wake({key})

    def remember(self, body: Body) -> bool:
        """Keep what we read ourselves; whether it differs in what matters."""
        key = key_of(body)
        known = self._bodies.get(key)
        if known is not None and is_older(body, known):
            return False
        metadata = {name: value for name, value in body["metadata"].items() if name != "managedFields"}
        self._bodies[key] = {**body, "metadata": metadata}
        return known is None or mark_of(known) != mark_of(body)

    def compare(self, metadata_of_all: Iterable[Body]) -> frozenset[str]:
        """Hold a list of everything against what is known; wakes what differs, returns keys that are new."""
        listed = {key_of(each): each for each in metadata_of_all}
        missing = self._bodies.keys() - listed.keys()
        known = {key: self._bodies[key] for key in listed.keys() & self._bodies.keys()}
        differing = {
            key
            for key, body in known.items()
            if not is_older(listed[key], body) and mark_of(listed[key]) != mark_of(body)
        }
        self.wake(missing | differing)
        return frozenset(listed.keys() - self._bodies.keys())

    def drop(self, key: str) -> Body | None:
        """The API server said that it does not exist; the last that was known."""
        return self._bodies.pop(key, None)

    def wake(self, keys: Iterable[str]) -> None:
        """Let these be looked at."""
        self._changed.update(keys)
        if self._changed:
            self._woken.set()

    async def changed(self) -> frozenset[str]:
        """Wait for keys to look at, and take them."""
        await self._woken.wait()
        self._woken.clear()
        keys = frozenset(self._changed)
        self._changed.clear()
        return keys

    def _wake_deleted(self, key: str, body: Body) -> None:
        known = self._bodies.get(key)
        if known is not None and known["metadata"]["uid"] == body["metadata"]["uid"]:
            self.wake({key})
