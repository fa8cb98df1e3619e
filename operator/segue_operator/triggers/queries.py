"""The latest verdict on each voice's queries, without anybody waiting for Prometheus.

Separate from the client because it is about when to ask: a voice that is judged asks at each turn and gets what is
known; at most every `interval_s` that also puts it into the queue of a few workers, once at a time, so that a thousand
voices under watch are `concurrency` requests, and a dead Prometheus is no more. A voice is woken when a verdict is
another one than before. Nobody asks for a voice that is not judged, so nothing is evaluated for it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from segue.errors import SegueError
from segue.model import Phase, VoiceModel
from segue.rollout import QueryResult, Verdict
from segue_operator.triggers.prometheus import Answer, PrometheusAway
from segue_operator.triggers.promql import judged_revision, render

CALM_FACTOR = 4
"""After its watch a voice is asked about this many times less often."""

STALE_AFTER = 4
"""A verdict that could not be renewed for this many of its intervals is none any more."""

JITTER = 0.15
NOT_ASKED_YET = "was not evaluated yet"

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Sheet:
    """One voice's queries as they read now, and what came of them last.

    Attributes
    ----------
    asked
        (name, PromQL). Another text, or another revision to judge, is another sheet: a verdict on what was heard before
        a flip says nothing about what is heard after it.
    queued
        In the queue, or under way.
    """

    key: str
    revision: str | None
    asked: tuple[tuple[str, str], ...]
    results: tuple[QueryResult, ...]
    interval_s: float
    answered_at_s: float
    due_at_s: float
    wanted_at_s: float
    queued: bool = False


@dataclass(slots=True, kw_only=True)
class QuerySheets:
    """Sheets by voice. `run` evaluates them; `queries` reads them and says which are wanted.

    Attributes
    ----------
    ask
        Evaluates one query.
    wake
        Called with a voice whose verdicts changed.
    """

    ask: Callable[[str], Awaitable[Answer]]
    wake: Callable[[frozenset[str]], None]
    interval_s: float = 15.0
    concurrency: int = 8
    monotonic: Callable[[], float] = time.monotonic
    random: random.Random = field(default_factory=random.Random)
    _sheets: dict[str, Sheet] = field(default_factory=dict)
    _queue: asyncio.Queue[Sheet] = field(default_factory=asyncio.Queue)
    _swept_at_s: float = 0.0

    def queries(self, voice: VoiceModel) -> tuple[QueryResult, ...]:
        """What is known now. Verdicts that are too old are inconclusive."""
        if not voice.spec.watch.queries:
            return ()
        now_s = self.monotonic()
        try:
            asked = tuple((query.name, render(query.promql, voice)) for query in voice.spec.watch.queries)
        except SegueError as error:
            return _all_inconclusive([query.name for query in voice.spec.watch.queries], str(error))
        sheet = self._sheet(voice, asked, now_s)
        if not sheet.queued and now_s >= sheet.due_at_s:
            sheet.queued = True
            self._queue.put_nowait(sheet)
        age_s = now_s - sheet.answered_at_s
        if age_s > STALE_AFTER * sheet.interval_s:
            return _all_inconclusive([name for name, _ in asked], f"Prometheus was not asked for {age_s:.0f} s")
        return sheet.results

    async def run(self) -> None:
        """Evaluate what is wanted, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(self.concurrency):
                group.create_task(self._work(), name=f"queries {number}")

    def _sheet(self, voice: VoiceModel, asked: tuple[tuple[str, str], ...], now_s: float) -> Sheet:
        judged = voice.status.phase in (Phase.FLIPPING, Phase.WATCHING)
        interval_s = self.interval_s if judged else self.interval_s * CALM_FACTOR
        sheet, revision = self._sheets.get(voice.key), judged_revision(voice)
        if sheet is None or (sheet.revision, sheet.asked) != (revision, asked):
            self._sweep(now_s)
            sheet = Sheet(
                key=voice.key,
                revision=revision,
                asked=asked,
                results=_all_inconclusive([name for name, _ in asked], NOT_ASKED_YET),
                interval_s=interval_s,
                answered_at_s=now_s,
                due_at_s=now_s,
                wanted_at_s=now_s,
            )
            self._sheets[voice.key] = sheet
        sheet.interval_s, sheet.wanted_at_s = interval_s, now_s
        return sheet

    async def _work(self) -> None:
        while True:
            sheet = await self._queue.get()
            results = await self._ask_all(sheet) if self._is_wanted(sheet) else ()
            if self._is_wanted(sheet):
                self._write_down(sheet, results)

    def _is_wanted(self, sheet: Sheet) -> bool:
        """Whether it is still the voice's sheet: another one may have taken its place meanwhile."""
        return self._sheets.get(sheet.key) is sheet

    def _write_down(self, sheet: Sheet, results: tuple[QueryResult, ...]) -> None:
        before, sheet.results = sheet.results, results
        sheet.answered_at_s = self.monotonic()
        sheet.due_at_s = sheet.answered_at_s + sheet.interval_s * self.random.uniform(1 - JITTER, 1 + JITTER)
        sheet.queued = False
        if _verdicts(before) != _verdicts(results):
            said = ", ".join(f"{each.name} {each.verdict.value} {each.message}".rstrip() for each in results)
            logger.info("%s: queries: %s", sheet.key, said, extra={"voice": sheet.key})
            self.wake(frozenset({sheet.key}))

    async def _ask_all(self, sheet: Sheet) -> tuple[QueryResult, ...]:
        """One after the other; where one found nobody to ask, the rest are not tried."""
        results: list[QueryResult] = []
        for name, promql in sheet.asked:
            try:
                answer = await self.ask(promql)
            except PrometheusAway as error:
                left = [name for name, _ in sheet.asked[len(results) :]]
                return (*results, *_all_inconclusive(left, str(error)))
            except Exception:  # the boundary of one query: the workers go on for the other voices
                logger.exception("%s: query %s could not be evaluated", sheet.key, name, extra={"voice": sheet.key})
                answer = Answer(Verdict.INCONCLUSIVE, "could not be evaluated; the operator's log says why")
            results.append(QueryResult(name=name, verdict=answer.verdict, message=answer.message))
        return tuple(results)

    def _sweep(self, now_s: float) -> None:
        """Let go of voices that nobody asked about for long; now and then is enough."""
        keep_s = STALE_AFTER * CALM_FACTOR * self.interval_s
        if now_s - self._swept_at_s < keep_s:
            return
        self._swept_at_s = now_s
        self._sheets = {key: each for key, each in self._sheets.items() if now_s - each.wanted_at_s < keep_s}


def _all_inconclusive(names: list[str], why: str) -> tuple[QueryResult, ...]:
    return tuple(QueryResult(name=name, verdict=Verdict.INCONCLUSIVE, message=why) for name in names)


def _verdicts(results: tuple[QueryResult, ...]) -> list[Verdict]:
    return [each.verdict for each in results]
