"""When Prometheus is asked, and what a voice hears of it meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.support.prometheus import Prometheus, vector
from tests.support.voices import KEY, revision, voice, voice_document

from segue.model import Phase, VoiceModel
from segue.rollout import Verdict
from segue_operator.triggers.config import PrometheusConfig
from segue_operator.triggers.prometheus import Answer, PrometheusAway, PrometheusClient
from segue_operator.triggers.promql import UnsafeValue, render
from segue_operator.triggers.queries import QuerySheets

V1, V2 = revision("v1"), revision("v2")


def queried(*promqls: str, phase: Phase = Phase.WATCHING, stable: str = V1, name: str = "narrator") -> VoiceModel:
    """A voice with queries `q0`, `q1`, … in some phase."""
    queries = [{"name": f"q{number}", "promql": promql} for number, promql in enumerate(promqls)]
    document = voice_document("v2", watch={"queries": queries})
    document["metadata"]["name"] = name
    document["status"] = {"phase": phase.value, "stableRevision": stable}
    if phase in (Phase.FLIPPING, Phase.WATCHING):
        source = {"revision": V2, "weights": document["spec"]["weights"]}
        document["status"]["rollout"] = {"source": source, "key": "k", "startedAt": "2026-11-22T10:00:00Z"}
    return VoiceModel.parse(document)


class Desk:
    """Sheets over answers that a test chooses, on a clock of its own."""

    def __init__(self, **more: Any) -> None:
        self.now_s = 1000.0
        self.answers: dict[str, Answer | Exception] = {}
        self.asked: list[str] = []
        self.woken: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.sheets = QuerySheets(
            ask=self.ask,
            wake=self.woken.extend,
            monotonic=lambda: self.now_s,
            random=random.Random(1),
            **more,
        )

    async def ask(self, promql: str) -> Answer:
        self.asked.append(promql)
        await self.gate.wait()
        answer = self.answers.get(promql, Answer(Verdict.PASSING))
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def settled(self, voice: VoiceModel) -> list[tuple[Verdict, str]]:
        """Ask as a voice does, let the workers finish, and say what a voice would hear then."""
        self.sheets.queries(voice)
        for _ in range(50):
            await asyncio.sleep(0)
        return [(each.verdict, each.message) for each in self.sheets.queries(voice)]


def told(story: Callable[[Desk], Awaitable[None]], **more: Any) -> Desk:
    """Run a story beside the workers."""

    async def run() -> Desk:
        desk = Desk(**more)
        working = asyncio.create_task(desk.sheets.run())
        try:
            await story(desk)
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
        return desk

    return asyncio.run(run())


def test_the_first_look_waits_for_nobody_and_the_answer_wakes() -> None:
    async def story(desk: Desk) -> None:
        seen = queried("a")
        (first,) = desk.sheets.queries(seen)
        assert (first.name, first.verdict) == ("q0", Verdict.INCONCLUSIVE)
        assert await desk.settled(seen) == [(Verdict.PASSING, "")]
        assert desk.woken == [KEY]

    told(story)


def test_a_voice_without_queries_asks_nothing() -> None:
    async def story(desk: Desk) -> None:
        assert await desk.settled(voice()) == []

    assert told(story).asked == []


def test_it_is_asked_again_only_after_the_interval_and_wakes_only_for_news() -> None:
    async def story(desk: Desk) -> None:
        seen = queried("a")
        for _ in range(10):
            await desk.settled(seen)
        assert len(desk.asked) == 1
        desk.now_s += 18
        await desk.settled(seen)
        assert (len(desk.asked), len(desk.woken)) == (2, 1)
        desk.answers["a"] = Answer(Verdict.FAILING, "7")
        desk.now_s += 18
        assert await desk.settled(seen) == [(Verdict.FAILING, "7")]
        assert (len(desk.asked), len(desk.woken)) == (3, 2)

    told(story)


def test_after_its_watch_a_voice_is_asked_about_less_often() -> None:
    async def story(desk: Desk) -> None:
        seen = queried("a", phase=Phase.IDLE)
        await desk.settled(seen)
        desk.now_s += 45
        await desk.settled(seen)
        assert len(desk.asked) == 1
        desk.now_s += 30
        await desk.settled(seen)
        assert len(desk.asked) == 2

    told(story)


def test_one_voice_is_asked_about_once_at_a_time() -> None:
    async def story(desk: Desk) -> None:
        desk.gate.clear()
        for _ in range(10):
            await desk.settled(queried("a"))
            desk.now_s += 30
        assert len(desk.asked) == 1
        desk.gate.set()
        await desk.settled(queried("a"))

    told(story)


def test_a_verdict_that_cannot_be_renewed_is_none() -> None:
    async def story(desk: Desk) -> None:
        seen = queried("a")
        desk.answers["a"] = Answer(Verdict.FAILING, "7")
        await desk.settled(seen)
        desk.gate.clear()
        desk.now_s += 59
        assert [verdict for verdict, _ in await desk.settled(seen)] == [Verdict.FAILING]
        desk.now_s += 2
        assert await desk.settled(seen) == [(Verdict.INCONCLUSIVE, "Prometheus was not asked for 61 s")]

    told(story)


def test_a_flip_makes_earlier_verdicts_worthless() -> None:
    async def story(desk: Desk) -> None:
        before, after = queried("a", phase=Phase.IDLE, stable=V1), queried("a{r='$segue_revision'}")
        desk.answers["a"] = Answer(Verdict.FAILING, "7")
        assert await desk.settled(before) == [(Verdict.FAILING, "7")]
        (first,) = desk.sheets.queries(after)
        assert first.verdict is Verdict.INCONCLUSIVE

    told(story)


def test_a_flip_makes_earlier_verdicts_worthless_even_where_the_query_names_no_revision() -> None:
    async def story(desk: Desk) -> None:
        desk.answers["a"] = Answer(Verdict.FAILING, "7")
        assert await desk.settled(queried("a", phase=Phase.IDLE)) == [(Verdict.FAILING, "7")]
        (first,) = desk.sheets.queries(queried("a"))
        assert first.verdict is Verdict.INCONCLUSIVE

    told(story)


def test_an_answer_that_comes_after_the_flip_is_thrown_away() -> None:
    async def story(desk: Desk) -> None:
        desk.gate.clear()
        desk.answers["a"] = Answer(Verdict.FAILING, "7")
        await desk.settled(queried("a", phase=Phase.IDLE))
        await desk.settled(queried("b"))
        desk.gate.set()
        assert await desk.settled(queried("b")) == [(Verdict.PASSING, "")]
        assert desk.asked == ["a", "b"]
        assert desk.woken == [KEY], "only the answer about what is judged now is news"

    told(story)


@pytest.mark.parametrize("error", [PrometheusAway("Prometheus cannot be asked: refused"), RuntimeError("a bug")])
def test_errors_are_inconclusive_and_the_workers_live_on(error: Exception) -> None:
    async def story(desk: Desk) -> None:
        desk.answers["a"] = error
        ((verdict, message),) = await desk.settled(queried("a"))
        assert verdict is Verdict.INCONCLUSIVE
        assert message
        desk.answers["a"] = Answer(Verdict.FAILING, "7")
        desk.now_s += 30
        assert await desk.settled(queried("a")) == [(Verdict.FAILING, "7")]

    told(story, concurrency=1)


def test_where_nobody_answers_the_other_queries_are_not_tried() -> None:
    async def story(desk: Desk) -> None:
        desk.answers["b"] = PrometheusAway("away")
        heard = await desk.settled(queried("a", "b", "c"))
        assert heard == [(Verdict.PASSING, ""), (Verdict.INCONCLUSIVE, "away"), (Verdict.INCONCLUSIVE, "away")]

    assert told(story).asked == ["a", "b"]


def test_voices_that_are_not_asked_for_are_let_go() -> None:
    async def story(desk: Desk) -> None:
        for number in range(20):
            await desk.settled(queried("a", name=f"v{number}"))
        desk.now_s += 3600
        await desk.settled(queried("a"))
        assert set(desk.sheets._sheets) == {KEY}

    told(story)


def test_a_thousand_voices_are_a_few_requests_at_a_time() -> None:
    prometheus = Prometheus(answer=vector("7"), delay_s=0.001)
    voices = [queried("up{voice='$segue_voice'} == 0", name=f"v{number}") for number in range(1000)]

    async def story() -> list[list[Verdict]]:
        woken: set[str] = set()
        complete = asyncio.Event()

        def wake(keys: frozenset[str]) -> None:
            woken.update(keys)
            if len(woken) == len(voices):
                complete.set()

        async with prometheus.serving() as url:
            config = PrometheusConfig(url=url, concurrency=4, timeout_s=30)
            async with PrometheusClient(config) as client:
                sheets = QuerySheets(ask=client.ask, wake=wake, concurrency=config.concurrency)
                for each in voices:
                    sheets.queries(each)
                working = asyncio.create_task(sheets.run())
                await asyncio.wait_for(complete.wait(), 60)
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)
                return [[result.verdict for result in sheets.queries(each)] for each in voices]

    verdicts = asyncio.run(story())
    assert verdicts == [[Verdict.FAILING]] * 1000
    assert len(prometheus.asked) == 1000
    assert prometheus.most_at_once <= 4


# --- variables ------------------------------------------------------------------------------------------------------


def test_variables_are_replaced_and_everything_else_is_left() -> None:
    promql = 'x{ns="$segue_namespace", v=~"${segue_voice}.*$", r="$segue_revision"} > $segue_unknown + $other'
    expected = f'x{{ns="default", v=~"narrator.*$", r="{V2[:10]}"}} > $segue_unknown + $other'
    assert render(promql, queried(promql)) == expected


def test_the_revision_is_the_one_that_is_judged() -> None:
    assert render("$segue_revision", queried("a")) == V2[:10]
    assert render("$segue_revision", queried("a", phase=Phase.IDLE)) == V1[:10]


def test_a_value_that_could_end_a_string_is_not_put_into_a_query() -> None:
    status = queried("a", phase=Phase.IDLE, stable='"} or vector(1) #')
    with pytest.raises(UnsafeValue, match="segue_revision"):
        render('x{r="$segue_revision"}', status)

    async def story(desk: Desk) -> None:
        unsafe = queried("$segue_revision", phase=Phase.IDLE, stable='"} or vector(1) #')
        ((verdict, message),) = await desk.settled(unsafe)
        assert verdict is Verdict.INCONCLUSIVE
        assert "cannot be put into a query" in message

    assert told(story).asked == []
