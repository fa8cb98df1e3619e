"""From a webhook call, or an answer of Prometheus, to the pods and the YAML: the real loop over a real folder."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from tests.support.alerts import webhook_alert, webhook_call
from tests.support.folder_world import KEY, FolderWorld
from tests.support.prometheus import Prometheus, vector

from segue.model import ConditionStatus, Phase
from segue_operator.triggers.config import HooksConfig, PrometheusConfig
from segue_operator.triggers.hooks import PATH
from segue_operator.triggers.wiring import build_triggers
from segue_operator.voice_loop import VoiceLoop

TOKEN = "a token"
QUERY = 'segue_requests_total{voice="$segue_namespace/$segue_voice", revision="$segue_revision"} > 0'
WATCH: dict[str, Any] = {
    "duration": "20s",
    "sustainedFor": "10s",
    "minRequests": 5,
    "minErrors": 2,
    "insufficientTraffic": "Proceed",
}
SKIP: dict[str, Any] = {"rollout": {"canary": {"mode": "Skip"}}, "watch": WATCH}
ASKING: dict[str, Any] = {**SKIP, "watch": {**WATCH, "queries": [{"name": "errors", "promql": QUERY}]}}


class Judged:
    """A folder with a voice, an Alertmanager that calls and a Prometheus that is asked."""

    def __init__(self, root: Path) -> None:
        self.world = FolderWorld(root)
        self.prometheus = Prometheus()
        self.token = root / "token"
        self.token.write_text(TOKEN, encoding="utf-8")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The loop with its triggers, as the operator wires them."""
        async with self.prometheus.serving() as url:
            triggers = build_triggers(
                hooks=HooksConfig(token_file=self.token),
                prometheus=PrometheusConfig(url=url, interval_s=1, timeout_s=0.2),
                voice_exists=lambda key: key in self.world.cluster.store.records,
                wake=lambda _: None,
                now=self.world.clock.now,
            )
            assert triggers.sheets is not None
            triggers.sheets.monotonic = self.world.clock.unix_s
            self.app = Starlette(routes=triggers.routes)
            self.world.loop = VoiceLoop(KEY, replace(self.world.loop.around, triggers=triggers))
            working = asyncio.create_task(triggers.run())
            try:
                yield
            finally:
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)

    async def call(self, *alerts: dict[str, Any]) -> dict[str, Any]:
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://operator") as client:
            headers = {"Authorization": f"Bearer {TOKEN}"}
            answer = await client.post(PATH, content=json.dumps(webhook_call(*alerts)), headers=headers)
            assert answer.status_code == 200, answer.text
            return dict(answer.json())

    def alert(self, *, began_s: float = 0, **more: Any) -> dict[str, Any]:
        return webhook_alert(starts_at=self.now + timedelta(seconds=began_s), **more)

    @property
    def now(self) -> datetime:
        return self.world.clock.now()

    async def roll(self, version: str, *, to: Phase = Phase.WATCHING, **sections: Any) -> None:
        """Ask for a version, and let the world run until the voice is in that phase."""
        self.world.write_voice(version, **sections)
        await self.world.run(seconds=1, every=1)
        await self.until(lambda: self.world.status.phase is to)
        self.world.clock.advance(1)  # what begins from here on begins after the flip

    async def serve(self, version: str, **sections: Any) -> str:
        """Have a version confirmed; its revision."""
        await self.roll(version, to=Phase.IDLE, **sections)
        await self.until(lambda: self.world.status.stable_revision == self.world.revision_of_file())
        return self.world.revision_of_file()

    async def until(self, condition: Callable[[], bool], *, seconds: int = 200) -> None:
        for _ in range(seconds):
            if condition():
                return
            await self.world.run(seconds=1, every=1)
            await asyncio.sleep(0.01)  # real time for Prometheus' real answer
        raise AssertionError(f"still {self.world.status}")

    @property
    def active(self) -> str | None:
        return self.world.sidecar.pointer(KEY).active

    @property
    def yaml(self) -> str:
        return (self.world.folder / "narrator.yaml").read_text(encoding="utf-8")

    def reasons(self) -> list[str]:
        return [entry.reason for entry in self.world.events.since(0)]


@pytest.fixture
def judged(tmp_path: Path) -> Iterator[Judged]:
    made = Judged(tmp_path)
    yield made
    made.world.close()


def told(judged: Judged, story: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        async with judged.running():
            await story()

    asyncio.run(run())


# --- alerts ---------------------------------------------------------------------------------------------------------


def test_an_alert_in_the_watch_takes_the_revision_back_and_reverts_the_yaml(judged: Judged) -> None:
    async def story() -> None:
        good, text = await judged.serve("v1", **SKIP), judged.yaml
        await judged.roll("v2", **SKIP)
        bad = judged.active
        await judged.call(judged.alert())
        await judged.until(lambda: judged.world.status.phase is Phase.IDLE)
        last = judged.world.status.last_rollback
        assert last is not None
        assert (last.from_revision, last.to_revision, last.reason, last.reverted) == (bad, good, "AlertFiring", True)
        assert "alert VoiceSilent fires" in last.message
        assert (judged.active, judged.yaml) == (good, text)

    told(judged, story)


def test_a_storm_of_alerts_is_one_rollback(judged: Judged) -> None:
    async def story() -> None:
        await judged.serve("v1", **SKIP)
        await judged.serve("v2", **SKIP)
        good = judged.active
        await judged.roll("v3", **SKIP)
        for number in range(200):
            await judged.call(judged.alert(began_s=number % 50, pod=f"p{number}"), judged.alert(voice="nobody"))
        await judged.until(lambda: judged.world.status.phase is Phase.IDLE)
        for number in range(20):
            await judged.call(judged.alert(pod=f"p{number}"))
            await judged.world.run(seconds=10, every=5)
        assert judged.reasons().count("RollingBack") == 1
        assert judged.active == good

    told(judged, story)


@pytest.mark.parametrize(
    "about",
    [
        {"began_s": -30},
        {"voice": "other"},
        {"namespace": "other"},
        {"status": "resolved"},
        {"segue_voice": ""},
        {"segue_namespace": ""},
    ],
    ids=lambda about: "-".join(f"{name}={value}" for name, value in about.items()),
)
def test_an_alert_about_something_else_does_nothing(judged: Judged, about: dict[str, Any]) -> None:
    async def story() -> None:
        await judged.serve("v1", **SKIP)
        await judged.roll("v2", **SKIP)
        await judged.call(judged.alert(**about))
        await judged.until(lambda: judged.world.status.phase is Phase.IDLE)
        assert judged.active == judged.world.revision_of_file()
        assert "RollingBack" not in judged.reasons()

    told(judged, story)


def test_an_alert_that_was_resolved_before_anybody_looked_does_nothing(judged: Judged) -> None:
    async def story() -> None:
        await judged.serve("v1", **SKIP)
        await judged.roll("v2", **SKIP)
        firing = judged.alert()
        await judged.call(firing)
        await judged.call(firing | {"status": "resolved", "endsAt": judged.now.isoformat()})
        await judged.until(lambda: judged.world.status.phase is Phase.IDLE)
        assert "RollingBack" not in judged.reasons()

    told(judged, story)


def test_an_alert_after_the_watch_is_guarded_against(judged: Judged) -> None:
    async def story() -> None:
        good = await judged.serve("v1", **SKIP)
        await judged.serve("v2", **SKIP)
        await judged.world.run(seconds=600, every=30)
        await judged.call(judged.alert())
        await judged.until(lambda: judged.active == good)

    told(judged, story)


def test_an_alert_about_a_first_revision_is_said_and_changes_nothing(judged: Judged) -> None:
    async def story() -> None:
        await judged.roll("v1", **SKIP)
        first = judged.active
        await judged.call(judged.alert())
        await judged.until(lambda: judged.world.status.reason == "AlertFiring")
        assert "AlertFiring" in judged.reasons()
        await judged.call(judged.alert() | {"status": "resolved"})
        await judged.until(lambda: judged.world.status.phase is Phase.IDLE, seconds=5000)
        assert judged.active == first
        assert "RollingBack" not in judged.reasons()

    told(judged, story)


# --- queries --------------------------------------------------------------------------------------------------------


def test_a_query_with_a_result_takes_the_revision_back(judged: Judged) -> None:
    async def story() -> None:
        good = await judged.serve("v1", **ASKING)
        await judged.roll("v2", **ASKING)
        bad = judged.active
        assert bad is not None
        judged.prometheus.answer = vector("0.25", pod="a")
        await judged.until(lambda: judged.active == good)
        await judged.until(lambda: judged.world.status.phase is Phase.IDLE)
        last = judged.world.status.last_rollback
        assert last is not None
        assert (last.reason, last.reverted) == ("QueryFailed", True)
        assert last.message == 'query errors: 0.25 for {pod="a"} (1 series)'
        asked = f'segue_requests_total{{voice="default/narrator", revision="{bad[:10]}"}} > 0'
        assert asked in [query for query, _ in judged.prometheus.asked]

    told(judged, story)


NO_ANSWER: dict[str, dict[str, Any]] = {
    "error": {"answer": {"status": "error", "errorType": "bad_data", "error": "parse error"}, "status": 400},
    "NaN": {"answer": vector("NaN")},
    "warnings": {"answer": vector("7") | {"warnings": ["half of it is missing"]}},
    "no answer": {"hang": True},
    "no JSON": {"answer": b"<html>", "status": 502},
}


@pytest.mark.parametrize("trouble", NO_ANSWER.values(), ids=NO_ANSWER.keys())
def test_a_query_without_an_answer_never_trips_and_is_said(judged: Judged, trouble: dict[str, Any]) -> None:
    async def story() -> None:
        await judged.serve("v1", **ASKING)
        for name, value in trouble.items():
            setattr(judged.prometheus, name, value)
        second = await judged.serve("v2", **ASKING)
        assert judged.active == second
        assert "RollingBack" not in judged.reasons()
        watched = judged.world.status.condition("Watched")
        assert watched is not None
        assert watched.status is ConditionStatus.UNKNOWN
        assert "query errors is inconclusive: " in watched.message

    told(judged, story)


def test_without_a_watch_or_guard_nothing_is_asked(judged: Judged) -> None:
    async def story() -> None:
        await judged.roll("v1", to=Phase.IDLE, **ASKING)
        await judged.until(lambda: judged.world.status.stable_revision is not None)
        asked = len(judged.prometheus.asked)
        assert asked > 0, "its watch was"
        await judged.world.run(seconds=600, every=30)
        assert len(judged.prometheus.asked) == asked

    told(judged, story)
