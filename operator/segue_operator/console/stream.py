"""Server-sent events: what a page shows, kept fresh by differences.

Separate because it is the only thing that runs by itself, and it runs only while a page is open: a look every
`TICK_S`, which compares identities of objects and draws what changed. The control loop is never waited for and never
called.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from segue_operator.console.detail import detail_of, fingerprint
from segue_operator.console.news import News
from segue_operator.console.rows import Rows
from segue_operator.console.source import Source

TICK_S = 0.5
COMFORT_S = 15.0
MOST_STREAMS = 32
PODS_SHOWN = 200
NOTHING = object()


@dataclass(slots=True)
class Streams:
    """All open pages.

    Attributes
    ----------
    acting
        Whether there is a token with which one could act, and whether one can listen: told to the page.
    """

    source: Source
    rows: Rows
    news: News
    about: Callable[[], dict[str, Any]]
    tick_s: float = TICK_S
    open: int = 0
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    _shared: Mapping[str, str] = field(default_factory=dict)
    _shared_at_s: float = float("-inf")

    def shared(self) -> Mapping[str, str]:
        """JSON of what is the same for all pages, made once a tick however many there are."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._shared_at_s >= self.tick_s / 2:
            problems = [{"text": str(each), "voices": each.voices} for each in self.source.problems()]
            self._shared_at_s = now_s
            self._shared = {
                "about": json.dumps({**asdict(self.source.whereabouts()), **self.about()}),
                "problems": json.dumps(problems, ensure_ascii=False),
                "pods": json.dumps(pods_json(self.source, self.news)),
            }
        return self._shared

    async def follow(self, *, voice: str | None, since: int | None, epoch: str) -> AsyncIterator[str]:
        """Frames for one page until it goes away.

        Parameters
        ----------
        voice
            The one that is shown in full.
        since, epoch
            What the page has of the list already.
        """
        page = _Page(self, voice, since, epoch)
        self.open += 1
        if voice is not None:
            self.news.look_at(voice)
        try:
            silent_s = 0.0
            yield "retry: 1000\n\n"
            while not self.closing.is_set():
                await self.rows.refresh()
                news = page.news()
                silent_s = 0.0 if news else silent_s + self.tick_s
                if news:
                    yield f"data: {{{news}}}\n\n"
                elif silent_s >= COMFORT_S:
                    silent_s = 0.0
                    yield ": still here\n\n"
                await self._rest()
        finally:
            self.open -= 1
            if voice is not None:
                self.news.look_away(voice)

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(self.tick_s):
                await self.closing.wait()
        except TimeoutError:
            return


@dataclass(slots=True)
class _Page:
    """What one page was told."""

    streams: Streams
    voice: str | None
    since: int | None
    epoch: str
    _shared: dict[str, str] = field(default_factory=dict)
    _detail: tuple[object, ...] | None = None
    _detail_text: str = ""

    def news(self) -> str:
        """Members of the next frame, without braces; empty: nothing happened."""
        return ",".join(part for part in (self._of_rows(), *self._of_others(), self._of_voice()) if part)

    def _of_rows(self) -> str:
        rows = self.streams.rows
        if self.since == rows.version and self.epoch == rows.epoch:
            return ""
        difference = rows.since(self.since, epoch=self.epoch)
        self.since, self.epoch = rows.version, rows.epoch
        return f'"list":{{{difference.json(epoch=rows.epoch)}}}'

    def _of_others(self) -> list[str]:
        news = {name: text for name, text in self.streams.shared().items() if self._shared.get(name) != text}
        self._shared |= news
        return [f'"{name}":{text}' for name, text in news.items()]

    def _of_voice(self) -> str:
        if self.voice is None:
            return ""
        source, news = self.streams.source, self.streams.news
        identity = source.identities().get(self.voice)
        document = source.brief(self.voice) if identity is not None else None
        if document is None:
            seen: tuple[object, ...] = (NOTHING,)
        else:
            events = source.events(self.voice)
            last = events[-1].id if events else 0
            counts = tuple(sorted((name, *sorted(each.items())) for name, each in news.counts(self.voice).items()))
            seen = (id(identity), fingerprint(self.voice, document, source), last, counts, len(source.problems()))
        if seen == self._detail:
            return ""
        self._detail = seen
        text = json.dumps(detail_of(self.voice, source, news), ensure_ascii=False)
        if text == self._detail_text:
            return ""
        self._detail_text = text
        return f'"voice":{text}'


def pods_json(source: Source, news: News) -> dict[str, Any]:
    """Pods with their pools, the fullest first, and how many are left out."""
    pods = list(source.pods())
    shown = []
    for pod in pods:
        said = news.pods.get(pod.uid)
        pool = said.pool if said is not None and pod.identity is not None else None
        used = pool.used_bytes / pool.budget_bytes if pool is not None and pool.budget_bytes else 0.0
        entry: dict[str, Any] = {
            "name": pod.name,
            "namespace": pod.record.fleet.namespace,
            "fleet": pod.record.fleet.name,
            "inReach": pod.identity is not None,
            "ready": pod.record.facts.ready,
            "voices": len(pod.voices),
        }
        if said is not None and pool is not None:
            entry |= {
                "budget": pool.budget_bytes,
                "used": pool.used_bytes,
                "peak": pool.peak_bytes,
                "workers": said.workers,
                "serving": said.serving,
            }
        shown.append((pod.identity is not None, -used, pod.name, entry))
    shown.sort(key=lambda each: each[:3])
    return {"pods": [entry for *_, entry in shown[:PODS_SHOWN]], "omitted": max(0, len(pods) - PODS_SHOWN)}
