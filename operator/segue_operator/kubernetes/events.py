"""Kubernetes Events for what happens to a voice, so that `kubectl describe` tells its story.

Separate from the log and never in its way: the loop only puts a line into a bounded queue, one task posts them at a
bounded rate. The same line again becomes a count on the first one (events.k8s.io's series). While the API server is
down the queue holds what fits and lets the oldest go; an Event is never worth a delay of a rollout.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from segue.errors import SegueError
from segue.rollout import Event
from segue_operator.kubernetes.api import (
    FIELD_MANAGER,
    MERGE_PATCH,
    Api,
    ApiUnavailable,
    Body,
    ObjectConflict,
    ObjectNotFound,
    object_path,
)

REPORTER = "segue.dev/operator"
KEPT = 2000
QUEUE_LIMIT = 1000
PER_SECOND = 20.0
FIRST_RETRY_S, LONGEST_RETRY_S = 0.5, 10.0
REPEAT_S = 30.0
"""A series is counted up at most this often: a voice that stalls would write one every second."""

NOTE_LIMIT, REASON_LIMIT = 1024, 128
"""What events.k8s.io/v1 takes."""

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class _Series:
    """One line about one object, however often it was said."""

    regarding: Body
    event: Event
    name: str
    count: int = 1
    posted: bool = False
    last_at: datetime
    due_s: float = 0.0


@dataclass(slots=True, kw_only=True)
class ClusterEvents:
    """See `ports.Events`.

    Attributes
    ----------
    regarding
        From a voice's key to the reference that an Event carries; None where the object is not known.
    identity
        Which operator says it.
    revision_of
        The revision that a voice is about at the moment, for the log.
    may_post
        Asked before each line goes out: a leader that was frozen and deposed says nothing more.
    note
        Hears every line as well, for whoever looks at this operator.
    dropped
        Lines that found no room, for the metrics.
    """

    api: Api
    regarding: Callable[[str], Body | None]
    identity: str
    now: Callable[[], datetime]
    revision_of: Callable[[str], str | None] = lambda _: None
    monotonic: Callable[[], float] = time.monotonic
    may_post: Callable[[], bool] = lambda: True
    note: Callable[[str | None, Event], None] = lambda _voice, _event: None
    dropped: int = 0
    posted: int = 0
    _series: OrderedDict[tuple[str, str, str, str], _Series] = field(default_factory=OrderedDict)
    _queue: OrderedDict[str, _Series] = field(default_factory=OrderedDict)
    _filled: asyncio.Event = field(default_factory=asyncio.Event)

    def publish(self, voice: str | None, event: Event) -> None:
        """Log it, and queue it for the API server where it is about a voice that is there."""
        level = logging.WARNING if event.warning else logging.INFO
        revision = self.revision_of(voice) if voice is not None else None
        extra = {"voice": voice, "reason": event.reason, "revision": revision}
        logger.log(level, "%s: %s: %s", voice or "-", event.reason, event.message, extra=extra)
        self.note(voice, event)
        about = self.regarding(voice) if voice is not None else None
        if about is not None:
            self._enqueue(self._noted(about, event))

    async def run(self) -> None:
        """Post what is queued until cancelled."""
        failures = 0
        while True:
            series = await self._next()
            if not self.may_post():
                self.dropped += 1
                continue
            try:
                await self._post(series)
            except ApiUnavailable as error:
                failures += 1
                self._enqueue(series)
                logger.debug("an Event waits: %s", error)
                await asyncio.sleep(min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(failures - 1, 10)))
                continue
            except SegueError as error:
                logger.warning("an Event could not be written: %s", error)
            failures = 0
            await asyncio.sleep(1 / PER_SECOND)

    def _noted(self, about: Body, event: Event) -> _Series:
        """The series of this line; a new one where it was not said of late."""
        identity = (str(about.get("uid")), str(event.warning), event.reason, event.message)
        series = self._series.get(identity)
        at = self.now()
        if series is not None:
            series.count += 1
            series.last_at = at
            self._series.move_to_end(identity)
            return series
        unique = hashlib.sha256(repr((identity, at.isoformat(), self.identity)).encode()).hexdigest()[:16]
        series = _Series(regarding=about, event=event, name=f"{about['name'][:200]}.{unique}", last_at=at)
        self._series[identity] = series
        if len(self._series) > KEPT:
            self._series.popitem(last=False)
        return series

    def _enqueue(self, series: _Series) -> None:
        if series.name in self._queue:
            return
        if len(self._queue) >= QUEUE_LIMIT:
            self._queue.popitem(last=False)
            self.dropped += 1
        self._queue[series.name] = series
        self._filled.set()

    async def _next(self) -> _Series:
        """The oldest line whose time has come, once there is one."""
        while True:
            now_s = self.monotonic()
            name = next((name for name, series in self._queue.items() if series.due_s <= now_s), None)
            if name is not None:
                return self._queue.pop(name)
            self._filled.clear()
            pause_s = min((series.due_s - now_s for series in self._queue.values()), default=None)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._filled.wait()

    async def _post(self, series: _Series) -> None:
        namespace = series.regarding["namespace"]
        if series.posted:
            path = object_path("events.k8s.io", "v1", namespace, "events", series.name)
            content = {"series": {"count": series.count, "lastObservedTime": _micro(series.last_at)}}
            try:
                await self.api.call("PATCH", path, body=content, content_type=MERGE_PATCH)
            except ObjectNotFound:  # Events live for an hour
                series.posted, series.count = False, 1
        if not series.posted:
            path = object_path("events.k8s.io", "v1", namespace, "events")
            with suppress(ObjectConflict):  # an answer that got lost: it was written
                await self.api.call("POST", path, body=self._body(series), query={"fieldManager": FIELD_MANAGER})
            series.posted = True
        series.due_s = self.monotonic() + REPEAT_S
        self.posted += 1

    def _body(self, series: _Series) -> Body:
        event = series.event
        body: Body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": series.name, "namespace": series.regarding["namespace"]},
            "eventTime": _micro(series.last_at),
            "reportingController": REPORTER,
            "reportingInstance": self.identity[:REASON_LIMIT],
            "action": event.reason[:REASON_LIMIT],
            "reason": event.reason[:REASON_LIMIT],
            "note": _shortened(event.message),
            "type": "Warning" if event.warning else "Normal",
            "regarding": series.regarding,
        }
        if series.count > 1:
            body["series"] = {"count": series.count, "lastObservedTime": _micro(series.last_at)}
        return body


def _shortened(text: str) -> str:
    """At most `NOTE_LIMIT` bytes of UTF-8."""
    encoded = text.encode()
    if len(encoded) <= NOTE_LIMIT:
        return text
    return encoded[: NOTE_LIMIT - 3].decode(errors="ignore") + "…"


def _micro(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
