"""Lists of what there is, beside the watch: once before anything is decided, and again after every gap.

Separate from the watch because a watch tells what happens and never what happened while it was cut: an object that was
deleted in that time is simply not mentioned again. So each time the watch began anew, and now and then without a
reason, names and versions are listed and held against what is known. What a list lacks is not gone; it is looked at.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from segue.errors import SegueError
from segue_operator.fleet.records import Holding
from segue_operator.kubernetes.api import Api, Body, ObjectNotFound, voice_path
from segue_operator.kubernetes.pods import PodBook
from segue_operator.kubernetes.scope import Watch
from segue_operator.kubernetes.voices import KubernetesCluster

EVERY_S = 300.0
SETTLE_S = 1.0
"""A watch that begins anew mentions everything first; one list after that is enough."""

ORPHANS_PAUSE_S = 10.0
"""Between two looks at what pods hold: with thousands of pods that is a lot to look at."""

FIRST_RETRY_S, LONGEST_RETRY_S = 0.5, 10.0

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Lister:
    """Keeps the stores honest.

    Attributes
    ----------
    held
        What pods hold by their own account; nothing while we do not lead and do not ask them.
    """

    api: Api
    cluster: KubernetesCluster
    pods: PodBook
    watches: Sequence[Watch]
    held: Callable[[], Iterable[Holding]]
    _asked: asyncio.Event = field(default_factory=asyncio.Event)
    _pods_changed: asyncio.Event = field(default_factory=asyncio.Event)
    _complaint: str = ""

    def request(self) -> None:
        """There was a gap: list again soon."""
        self._asked.set()

    def pods_changed(self, voices: frozenset[str] | None) -> None:
        """Pods hold something else than before (None: whatever): is it anybody's?"""
        if voices is None or voices - self.cluster.keys():
            self._pods_changed.set()

    async def first(self) -> None:
        """List everything in full, however long the API server takes to answer."""
        failures = 0
        while True:
            try:
                await self._fill()
            except SegueError as error:
                pause_s = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(failures, 10))
                failures += 1
                logger.warning("cannot list what there is, again in %.1f s: %s", pause_s, error)
                await asyncio.sleep(pause_s)
                continue
            self.cluster.complete.set()
            return

    async def run(self) -> None:
        """List after gaps, and every few minutes, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_for_gaps(), name="gaps")
            group.create_task(self._look_for_orphans(), name="orphans")

    async def _look_for_gaps(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._asked.wait()
            await asyncio.sleep(SETTLE_S)
            self._asked.clear()
            try:
                await self.reconcile()
            except SegueError as error:
                self._complain(f"cannot hold what is known against the API server: {error}")
                await asyncio.sleep(LONGEST_RETRY_S)
                self._asked.set()
            else:
                self._complaint = ""

    async def _look_for_orphans(self) -> None:
        while True:
            await self._pods_changed.wait()
            await asyncio.sleep(SETTLE_S)
            self._pods_changed.clear()
            try:
                await self.cluster.adopt_orphans(self.held())
            except SegueError as error:
                logger.warning("cannot tell whether what pods hold still exists: %s", error)
                self._pods_changed.set()
            await asyncio.sleep(ORPHANS_PAUSE_S)

    def _complain(self, complaint: str) -> None:
        """Say what is wrong once, not every ten seconds."""
        if complaint != self._complaint:
            logger.warning("%s", complaint)
        self._complaint = complaint

    async def reconcile(self) -> None:
        """One look at everything's metadata."""
        await self._reconcile_voices()
        for watch in self.watches:
            if not watch.is_voices:
                await self._reconcile_pods(watch)
        self._pods_changed.set()

    def take(self, watch: Watch, kind: str | None, body: Body) -> None:
        """An event of a watch, or an item of a list (`kind` None), into its store."""
        if watch.is_voices:
            self.cluster.seen.take(kind, body)
        else:
            self.pods.take(watch.name, kind, body)

    async def _fill(self) -> None:
        for watch in self.watches:
            for path in watch.paths:
                for body in (await self.api.list_all(path, selector=watch.selector)).items:
                    self.take(watch, None, body)

    async def _reconcile_voices(self) -> None:
        metadata = [
            each
            for watch in self.watches
            if watch.is_voices
            for path in watch.paths
            for each in (await self.api.list_all(path, metadata_only=True)).items
        ]
        for key in self.cluster.seen.compare(metadata):
            with suppress(ObjectNotFound):
                self.cluster.seen.take(None, await self.api.call("GET", voice_path(key)))

    async def _reconcile_pods(self, watch: Watch) -> None:
        """The version of the first of several lists is the earliest: nothing newer than it is taken for gone."""
        found = [await self.api.list_all(path, selector=watch.selector, metadata_only=True) for path in watch.paths]
        uids = [each["metadata"]["uid"] for listing in found for each in listing.items]
        self.pods.keep_only(watch.name, uids, resource_version=found[0].resource_version)
