"""The desired set in ConfigMaps: what pods that start while no operator leads find in a mounted directory.

Separate from the loops because they say over and over what is so, and here it is written only where it changed: at
most one write per ConfigMap in 5 s, a way back at once, and nothing at all while nothing changes. What lies in the
ConfigMaps is looked at when an operator begins to lead, so that nothing has to be remembered: voices say again what
they are on, and entries of voices that are gone go.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from segue.desired import (
    LABEL_FLEET,
    SHARDS,
    DesiredEntry,
    InvalidEntry,
    config_map_name,
    data_key,
    shard_of,
)
from segue.errors import InvalidVoiceModel, SegueError
from segue.model import VoiceModel
from segue.rollout import Event
from segue_operator.desired import entry_of, is_way_back, same_but_for_fence
from segue_operator.fleet.records import FleetKey
from segue_operator.kubernetes.api import ObjectConflict, ObjectNotFound, object_path
from segue_operator.leader import Fences, NotLeading

SPACING_S = 5.0
"""Between two writes of one ConfigMap, but for ways back: a pod that starts meanwhile lacks what is not written yet."""

SETTLE_S = 1.0
"""Changes that come together are written together."""

FIRST_LOOK_S = 10.0
"""After the beginning of a tenure: until then the voices have said what they are on."""

LOOK_AGAIN_S = 1800.0
"""Between two looks at what lies there: people delete things."""

LIMIT_BYTES = 1_000_000
"""Keys and values of one ConfigMap; the API server takes 1 MiB."""

ATTEMPTS = 5
FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 60.0
LABELS = {"app.kubernetes.io/name": "segue", "app.kubernetes.io/managed-by": "segue-operator"}

logger = logging.getLogger(__name__)


class Calls(Protocol):
    """The API server, as `api.Api` has it."""

    async def call(self, verb: str, path: str, *, body: Any = None) -> dict[str, Any]:
        """One request; the object it answers with."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Shard:
    """One ConfigMap."""

    fleet: FleetKey
    index: int

    @property
    def name(self) -> str:
        """Of the object."""
        return config_map_name(self.fleet.name, self.index)

    @property
    def path(self) -> str:
        """Of the object, for the API server."""
        return f"{self.collection}/{self.name}"

    @property
    def collection(self) -> str:
        """Where it is created."""
        return object_path("", "v1", self.fleet.namespace, "configmaps")


@dataclass(slots=True)
class Page:
    """What is known of one shard, and what is to be in it.

    Attributes
    ----------
    wanted
        By voice; None: no entry.
    known
        The object as we read or wrote it last; None: to be read.
    due_s
        When to hold one against the other; infinite: there is no reason to.
    """

    wanted: dict[str, DesiredEntry | None] = field(default_factory=dict)
    known: dict[str, Any] | None = None
    left_out: set[str] = field(default_factory=set)
    written_s: float = -math.inf
    due_s: float = math.inf
    failures: int = 0


@dataclass(slots=True, kw_only=True)
class DesiredSets:
    """All shards of all fleets, for one tenure; see `ports.DesiredSet`.

    Attributes
    ----------
    read_voice
        The voice past every cache; None only when it certainly does not exist.
    fleets
        Fleets that there are besides those of the voices: something may lie there that nobody wants any more.
    config_map_of
        Name of the ConfigMap with the configuration of a fleet's sidecars; it owns what we make for the fleet, so that
        nothing is left of a fleet that is uninstalled. Empty: nobody owns it.
    """

    api: Calls
    fences: Fences
    select: Callable[[VoiceModel], FleetKey | None]
    read_voice: Callable[[str], Awaitable[VoiceModel | None]]
    tell: Callable[[str, Event], None]
    fleets: Callable[[], Iterable[FleetKey]] = tuple
    config_map_of: Callable[[FleetKey], str] = lambda _fleet: ""
    clock: Callable[[], float] = time.monotonic
    random: random.Random = field(default_factory=random.Random)
    _pages: dict[Shard, Page] = field(default_factory=dict)
    _urgent: dict[Shard, None] = field(default_factory=dict)
    _looked: bool = False
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def keep(self, voice: VoiceModel) -> None:
        """See `ports.DesiredSet`."""
        fleet = self.select(voice)
        if fleet is None:
            return
        try:
            wanted = entry_of(voice)
        except InvalidVoiceModel as error:
            logger.warning("%s cannot be in the desired set: %s", voice.key, error, extra={"voice": voice.key})
            return
        self._want(Shard(fleet=fleet, index=shard_of(voice.key)), voice.key, wanted, at_once=is_way_back(voice.status))

    def withdraw(self, voice: VoiceModel) -> None:
        """See `ports.DesiredSet`."""
        fleet = self.select(voice)
        if fleet is not None:
            self._want(Shard(fleet=fleet, index=shard_of(voice.key)), voice.key, None, at_once=False)

    def _want(self, shard: Shard, voice: str, wanted: DesiredEntry | None, *, at_once: bool) -> None:
        page = self._pages.setdefault(shard, Page())
        if voice in page.wanted and page.wanted[voice] == wanted:
            return
        had_one = page.wanted.get(voice) is not None
        page.wanted[voice] = wanted
        now_s = self.clock()
        page.due_s = min(page.due_s, max(now_s + SETTLE_S, page.written_s + SPACING_S))
        if at_once and had_one:
            self._urgent[shard] = None
        self._changed.set()

    async def run(self) -> None:
        """Write what is due, until cancelled.

        Raises
        ------
        NotLeading
            Another operator may lead by now.
        """
        look_s = self.clock() + FIRST_LOOK_S
        while True:
            self._changed.clear()
            if self.clock() >= look_s:
                self._look_at_all()
                look_s = self.clock() + LOOK_AGAIN_S
            await self._bring_urgent_up_to_date()
            for shard in sorted(shard for shard, page in self._pages.items() if page.due_s <= self.clock()):
                await self._bring_up_to_date(shard)
                await self._bring_urgent_up_to_date()
            next_s = min([look_s, *(page.due_s for page in self._pages.values())])
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, next_s - self.clock())):
                    await self._changed.wait()

    async def _bring_urgent_up_to_date(self) -> None:
        while self._urgent:
            await self._bring_up_to_date(self._urgent.popitem()[0], at_once=True)

    def _look_at_all(self) -> None:
        """Read everything that lies there, and ask whether somebody wants it."""
        self._looked = True
        everything = {Shard(fleet=fleet, index=index) for fleet in self.fleets() for index in range(SHARDS)}
        for shard in everything | self._pages.keys():
            page = self._pages.setdefault(shard, Page())
            page.known, page.due_s = None, min(page.due_s, self.clock())

    async def _bring_up_to_date(self, shard: Shard, *, at_once: bool = False) -> None:
        page = self._pages[shard]
        page.due_s = math.inf
        try:
            await self._write(shard, page, not_before_s=-math.inf if at_once else page.written_s + SPACING_S)
        except NotLeading:
            raise
        except SegueError as error:
            retry_s = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(page.failures, 10))
            page.failures += 1
            page.known = None
            page.due_s = min(page.due_s, self.clock() + retry_s * self.random.uniform(0.5, 1.0))
            level = logging.WARNING if page.failures == 1 else logging.DEBUG
            logger.log(level, "the desired set %s could not be written: %s", shard.path, error)
        else:
            page.failures = 0

    async def _write(self, shard: Shard, page: Page, *, not_before_s: float) -> None:
        """Hold what is wanted against what lies there, and write it where they differ."""
        for _ in range(ATTEMPTS):
            if page.known is None:
                page.known = await self._read(shard)
                strays = await self._strays(shard, page) if self._looked else frozenset()
            else:
                strays = frozenset()
            wanted = dict(page.wanted)
            old = _data_of(page.known)
            data = self._next_data({name: text for name, text in old.items() if name not in strays}, wanted, page)
            if data != old and self.clock() < not_before_s:
                page.due_s = min(page.due_s, not_before_s)
                return
            if data == old or await self._stored(shard, page, data):
                _forget_withdrawn(page, wanted)
                return
        raise ObjectConflict(f"it changed {ATTEMPTS} times while it was written")

    def _next_data(self, data: dict[str, str], wanted: Mapping[str, DesiredEntry | None], page: Page) -> dict[str, str]:
        """What is to lie there. An entry that says the same keeps its fence; what is new and too much is left out."""
        fresh: dict[str, tuple[str, DesiredEntry]] = {}
        for voice, entry in wanted.items():
            name = data_key(voice)
            text = data.pop(name, "")
            known = _parsed(text)
            if entry is not None and known is not None and same_but_for_fence(known, entry):
                data[name] = text
            elif entry is not None:
                fresh[name] = voice, entry
        for name, (voice, entry) in fresh.items():
            text = entry.model_copy(update={"fence": str(self.fences.next())}).to_json()
            self._add_if_it_fits(data, name, text, voice=voice, page=page)
        return data

    def _add_if_it_fits(self, data: dict[str, str], name: str, text: str, *, voice: str, page: Page) -> None:
        size_bytes = sum(len(key.encode()) + len(value.encode()) for key, value in (*data.items(), (name, text)))
        if size_bytes <= LIMIT_BYTES:
            data[name] = text
            page.left_out.discard(voice)
        elif voice not in page.left_out:
            page.left_out.add(voice)
            message = (
                f"its entry is left out of the desired set: {size_bytes} bytes are more than the {LIMIT_BYTES} that "
                "one ConfigMap takes; pods that start while no operator leads will not have this voice"
            )
            self.tell(voice, Event(reason="DesiredSetFull", message=message, warning=True))

    async def _stored(self, shard: Shard, page: Page, data: dict[str, str]) -> bool:
        """Write; False where somebody else did so meanwhile, and it must be read again."""
        assert page.known is not None, "written before it was read"
        body = {**page.known, "data": data}
        verb, path = ("PUT", shard.path) if "resourceVersion" in body["metadata"] else ("POST", shard.collection)
        with self.fences.under_way():
            try:
                page.known = await self.api.call(verb, path, body=body)
            except ObjectConflict:
                page.known = None
                return False
            except ObjectNotFound:
                page.known = None
                if verb == "POST":
                    raise
                return False
        page.written_s = self.clock()
        return True

    async def _read(self, shard: Shard) -> dict[str, Any]:
        """The object, or a new one where there is none."""
        try:
            body = await self.api.call("GET", shard.path)
        except ObjectNotFound:
            body = {"metadata": {"ownerReferences": await self._owners(shard.fleet)}}
        metadata = {name: value for name, value in body["metadata"].items() if name != "managedFields"}
        labels = {**(metadata.get("labels") or {}), **LABELS, LABEL_FLEET: shard.fleet.name}
        return {
            **body,
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {**metadata, "name": shard.name, "namespace": shard.fleet.namespace, "labels": labels},
        }

    async def _owners(self, fleet: FleetKey) -> list[dict[str, str]]:
        """Said at creation only: to add an owner later takes the right to delete, where the cluster is strict."""
        name = self.config_map_of(fleet)
        if not name:
            return []
        try:
            owner = await self.api.call("GET", object_path("", "v1", fleet.namespace, "configmaps", name))
        except ObjectNotFound:
            return []
        return [{"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": owner["metadata"]["uid"]}]

    async def _strays(self, shard: Shard, page: Page) -> frozenset[str]:
        """Keys of entries that nobody wants: of voices that certainly are not there, or that live elsewhere."""
        found = _data_of(page.known)
        known = {data_key(voice) for voice in page.wanted}
        return frozenset([name for name in found.keys() - known if await self._is_stray(shard, name, found[name])])

    async def _is_stray(self, shard: Shard, name: str, text: str) -> bool:
        entry = _parsed(text)
        if entry is None or data_key(entry.voice) != name:
            return True
        try:
            voice = await self.read_voice(entry.voice)
        except SegueError as error:
            logger.info("the entry of %s stays: nothing is known of the voice: %s", entry.voice, error)
            return False
        if voice is None or voice.metadata.uid != entry.uid:
            return True
        fleet = self.select(voice)
        return fleet is not None and Shard(fleet=fleet, index=shard_of(voice.key)) != shard


def _data_of(body: Mapping[str, Any] | None) -> dict[str, str]:
    return dict((body or {}).get("data") or {})


def _parsed(text: str) -> DesiredEntry | None:
    """An entry; None where there is none that can be read."""
    with suppress(InvalidEntry):
        return DesiredEntry.from_json(text)
    return None


def _forget_withdrawn(page: Page, written: Mapping[str, DesiredEntry | None]) -> None:
    """What was taken out is no business of ours any more, unless it was wanted again meanwhile."""
    for voice, entry in written.items():
        if entry is None and page.wanted.get(voice, entry) is None:
            page.wanted.pop(voice, None)
