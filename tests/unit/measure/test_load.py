"""The load generator counts what happened, and nothing else."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest
from tests.fakes.speech import FakeSpeech, tone

from segue_cli.measure.load import LoadGenerator
from segue_cli.measure.load_process import LoadProcess
from segue_cli.measure.shots import ClosedLoop, LoadPlan, Mode, OpenLoop, Record, Shot, failures


def shot(text: str = "Go on.", *, mode: Mode = Mode.WHOLE) -> Shot:
    return Shot(voice="narrator", text=text, mode=mode)


def plan_of(
    port: int, *shots: Shot, pace: ClosedLoop | OpenLoop | None = None, count: int = 20, timeout_s: float = 5.0
) -> LoadPlan:
    pace = pace or ClosedLoop(concurrency=4)
    return LoadPlan(
        host="127.0.0.1", port=port, shots=shots, pace=pace, max_requests=count, timeout_s=timeout_s, drain_s=1
    )


async def run(
    fake: FakeSpeech, *shots: Shot, pace: ClosedLoop | OpenLoop | None = None, count: int = 20
) -> list[Record]:
    async with fake.serving() as port:
        return await LoadGenerator(plan_of(port, *shots, pace=pace, count=count)).run()


@pytest.mark.parametrize("mode", list(Mode))
def test_every_mode_yields_the_same_audio(mode: Mode) -> None:
    fake = FakeSpeech()
    records = asyncio.run(run(fake, shot(mode=mode)))
    assert len(records) == fake.served == 20
    assert failures(records) == {}
    assert {record.size_bytes for record in records} == {len(tone("Go on.", revision=fake.revision))}
    assert len({record.digest for record in records}) == 1
    assert all(record.start_ns <= record.first_ns <= record.end_ns for record in records)


def test_open_loop_keeps_its_rate_and_counts_from_the_due_time() -> None:
    records = asyncio.run(run(FakeSpeech(), shot(), pace=OpenLoop(rate_per_s=200), count=40))
    gaps = {later.due_ns - earlier.due_ns for earlier, later in pairwise(records)}
    assert sorted(record.due_ns for record in records)[-1] - records[0].due_ns == 39 * 5_000_000
    assert all(gap % 5_000_000 == 0 for gap in gaps)
    assert failures(records) == {}


def test_refused_and_cut_answers_fail_and_the_rest_does_not() -> None:
    fake = FakeSpeech(refuse_texts={"no"}, cut_texts={"cut"})
    records = asyncio.run(run(fake, shot("no"), shot("cut"), shot("yes"), count=30))
    assert failures(records) == {"status 429": 10, "cut": 10}
    assert fake.served == 30, "nothing is sent twice"


def test_cut_event_stream_fails() -> None:
    records = asyncio.run(run(FakeSpeech(cut_texts={"cut"}), shot("cut", mode=Mode.SSE), count=4))
    assert failures(records) == {"cut": 4}


def test_an_answer_that_never_comes_fails_after_the_timeout() -> None:
    async def scenario() -> list[Record]:
        fake = FakeSpeech(stall_texts={"stall"})
        async with fake.serving() as port:
            return await LoadGenerator(plan_of(port, shot("stall"), count=2, timeout_s=0.05)).run()

    assert failures(asyncio.run(scenario())) == {"timed out": 2}


def test_open_loop_reports_what_is_unanswered_at_the_end() -> None:
    async def scenario() -> list[Record]:
        fake = FakeSpeech(stall_texts={"stall"})
        async with fake.serving() as port:
            plan = plan_of(port, shot("stall"), pace=OpenLoop(rate_per_s=100), count=3, timeout_s=60)
            return await LoadGenerator(plan.model_copy(update={"drain_s": 0.05})).run()

    assert failures(asyncio.run(scenario())) == {"unanswered at the end": 3}


def test_a_dead_server_is_counted_and_not_hammered() -> None:
    async def scenario() -> list[Record]:
        async with FakeSpeech().serving() as port:
            pass
        return await LoadGenerator(plan_of(port, shot(), count=8)).run()

    records = asyncio.run(scenario())
    assert failures(records) == {"no connection: ConnectionRefusedError": 8}
    assert records[-1].end_ns - records[0].end_ns >= 15e6


def test_listeners_have_sessions() -> None:
    async def scenario() -> set[str]:
        fake = FakeSpeech()
        async with fake.serving() as port:
            await LoadGenerator(plan_of(port, shot()).model_copy(update={"sessions": 3})).run()
        return fake.sessions

    assert asyncio.run(scenario()) == {"listener-0", "listener-1", "listener-2"}


def test_spool_holds_each_distinct_answer_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeSpeech().serving() as port:
            plan = plan_of(port, shot("one"), shot("two")).model_copy(update={"spool": str(tmp_path)})
            await LoadGenerator(plan).run()

    asyncio.run(scenario())
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.process
def test_generator_process_stops_on_demand_and_hands_out_its_records(tmp_path: Path) -> None:
    async def scenario() -> tuple[list[Record], int]:
        fake = FakeSpeech()
        async with fake.serving() as port:
            plan = plan_of(port, shot(), pace=OpenLoop(rate_per_s=50), count=100_000)
            with LoadProcess(plan, directory=tmp_path) as load:
                await asyncio.to_thread(_wait_for_answers, load, 5)
                return await asyncio.to_thread(load.stop), fake.served

    records, served = asyncio.run(scenario())
    assert len(records) == served >= 5
    assert failures(records) == {}


def _wait_for_answers(load: LoadProcess, count: int) -> None:
    while load.running and (load.latest is None or load.latest.done < count):
        load.wait_for_tick(5)
