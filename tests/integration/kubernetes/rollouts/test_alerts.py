"""Alerts and queries in a cluster: real calls, a Prometheus on loopback, real pods that go back, a reverted CR."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from bench.harness import free_ports
from tests.support.alerts import CALLS, expected_answers, storm, storm_kinds
from tests.support.pods.case import Case
from tests.support.pods.stage import Stage
from tests.support.prometheus import Prometheus, vector

from segue.model import Phase

pytestmark = [pytest.mark.cluster, pytest.mark.process, pytest.mark.timeout(600)]

TOKEN = "a token of thirty-two characters"
OPEN_WATCH: Mapping[str, Any] = {"watch": {"duration": "120s", "sustainedFor": "60s"}}
QUERY = {"name": "errors", "promql": 'errors{voice="$segue_voice", revision="$segue_revision"} > 3'}
ASKING: Mapping[str, Any] = {"watch": {**OPEN_WATCH["watch"], "queries": [QUERY]}}


@pytest.fixture(scope="module")
def prometheus(stage: Stage) -> Iterator[Prometheus]:
    """A Prometheus; the operator is started again with its address and with a token for alerts."""
    token = stage.directory / "hooks-token"
    token.write_text(TOKEN, encoding="utf-8")
    served = Prometheus(port=free_ports(1)[0])

    async def serve() -> None:
        async with served.serving():
            await asyncio.Event().wait()

    serving = stage.backstage.start(serve())
    stage.operator.stop()
    stage.operator.settings = {
        "hooks": {"tokenFile": str(token)},
        "prometheus": {"url": f"http://127.0.0.1:{served.port}", "intervalS": 1},
    }
    stage.operator.start_leading(stage.kube)
    yield served
    stage.operator.stop()
    stage.operator.settings = {}
    stage.operator.start_leading(stage.kube)
    stage.backstage.stop(serving)


def test_a_storm_of_alerts_is_one_rollback(case: Case, prometheus: Prometheus) -> None:
    voice, first = case.speaking()
    bad = voice.apply(case.fresh(), OPEN_WATCH)
    voice.wait_phase(Phase.WATCHING, target=bad)
    case.heard(voice, bad)
    generation = voice.read().metadata.generation
    began_s = time.monotonic()
    kinds = storm_kinds(voice.key, token=TOKEN, with_true=True)
    answers = asyncio.run(storm(case.stage.operator.port, kinds))
    case.note(f"{CALLS} calls answered in {time.monotonic() - began_s:.1f} s")
    assert answers == expected_answers(kinds)
    done = voice.wait_rolled_back(bad)
    assert [(each.revision, each.reason) for each in done.status.failed_revisions] == [(bad, "AlertFiring")]
    case.stage.wait_serving(voice.key, first)
    case.heard(voice, first)
    after = voice.read()
    assert after.metadata.generation == generation + 1, "the spec was written back, once"
    assert after.status.stable_revision == first


def test_a_query_with_a_result_takes_the_version_back(case: Case, prometheus: Prometheus) -> None:
    prometheus.answer = vector()
    voice, first = case.speaking()
    bad = voice.apply(case.fresh(), ASKING)
    voice.wait_phase(Phase.WATCHING, target=bad)
    case.heard(voice, bad)
    prometheus.answer = vector("7", pod="pod-0")
    done = voice.wait_rolled_back(bad)
    last = done.status.last_rollback
    assert last is not None
    assert (last.reason, last.reverted) == ("QueryFailed", True)
    assert last.message == 'query errors: 7 for {pod="pod-0"} (1 series)'
    case.stage.wait_serving(voice.key, first)
    asked = f'errors{{voice="{voice.name}", revision="{bad[:10]}"}} > 3'
    assert asked in [query for query, _ in prometheus.asked]


def test_a_prometheus_that_is_away_takes_nothing_back(case: Case, prometheus: Prometheus) -> None:
    prometheus.answer, prometheus.status = {"status": "error", "error": "out of memory"}, 503
    voice, _ = case.speaking()
    second = voice.apply(case.fresh(), {"watch": {"queries": [QUERY]}})
    done = voice.wait_promoted(second)
    watched = done.status.condition("Watched")
    assert watched is not None
    assert watched.status == "Unknown"
    assert "query errors is inconclusive: Prometheus says: out of memory" in watched.message
    assert done.status.last_rollback is None
