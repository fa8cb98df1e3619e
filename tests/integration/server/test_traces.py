"""One trace follows a request, to a receiver of ours; without one nothing is imported and nothing is sent."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.support.otlp import Received, Receiver, receiving
from tests.support.served import Served, serving

pytestmark = pytest.mark.process

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE, PARENT = CALLER.split("-")[1:3]
ARRIVES_WITHIN_S = 20.0
HANGS_S = 60.0


async def arrived(receiver: Receiver, trace: str, *, spans: int) -> dict[str, Received]:
    """The spans of a trace by name, once there are so many."""
    deadline = time.monotonic() + ARRIVES_WITHIN_S
    while len(receiver.trace(trace)) < spans:
        assert time.monotonic() < deadline, f"{len(receiver.trace(trace))} of {spans} spans: {receiver.trace(trace)}"
        await asyncio.sleep(0.02)
    found = receiver.trace(trace)
    assert len({each.name for each in found}) == len(found), found
    return {each.name: each for each in found}


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch, receiver: Receiver) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


def test_one_trace_follows_a_request_below_its_callers_span(tmp_path: Path, receiver: Receiver, traced: None) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            answer = await served.speak("Hello there.", headers={"traceparent": CALLER})
            assert answer.status_code == 200
            spans = await arrived(receiver, TRACE, spans=5)
            root = spans["POST /v1/audio/speech"]
            assert root.parent == PARENT
            assert answer.headers["traceparent"] == f"00-{TRACE}-{root.span}-01"
            assert root.service == "segue-server"
            assert root.attributes["segue.voice"] == str(served.voice)
            assert root.attributes["segue.revision"] == answer.headers["segue-revision"]
            assert root.attributes["http.response.status_code"] == 200
            parts = [spans[name] for name in ("accept", "queue", "synthesis", "encode")]
            assert {part.parent for part in parts} == {root.span}
            assert all(part.start_ns <= part.end_ns for part in parts)
            accept, queue, synthesis, encode = parts
            slack_ns = 5_000_000  # two clocks: what began and what ended are converted at different moments
            assert accept.start_ns <= queue.start_ns + slack_ns <= synthesis.start_ns + 2 * slack_ns
            assert queue.end_ns <= synthesis.start_ns + slack_ns
            assert synthesis.start_ns <= encode.start_ns + slack_ns

    asyncio.run(story())


def test_mistakes_and_hits_are_told_apart(tmp_path: Path, receiver: Receiver, traced: None) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            first = await served.speak("Say it twice.")
            again = await served.speak("Say it twice.")
            wrong = await served.speak("x", voice="nobody")
            hit = await arrived(receiver, trace_of(again), spans=2)
            assert hit["POST /v1/audio/speech"].attributes["segue.cache"] == "hit"
            assert "synthesis" not in hit
            miss = await arrived(receiver, trace_of(first), spans=5)
            assert miss["POST /v1/audio/speech"].attributes["segue.cache"] == "miss"
            refused = await arrived(receiver, trace_of(wrong), spans=1)
            root = refused["POST /v1/audio/speech"]
            assert root.attributes["http.response.status_code"] == wrong.status_code == 404
            assert not root.failed, "a client's mistake"

    asyncio.run(story())


def test_a_header_that_is_no_traceparent_begins_a_trace_of_its_own(
    tmp_path: Path, receiver: Receiver, traced: None
) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            answer = await served.speak("Hello.", headers={"traceparent": "00-nonsense"})
            spans = await arrived(receiver, trace_of(answer), spans=5)
            assert spans["POST /v1/audio/speech"].parent == ""

    asyncio.run(story())


def test_a_receiver_that_is_away_disturbs_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    async def story() -> None:
        async with serving(tmp_path) as served:
            answers = [await served.speak(f"Number {number}.") for number in range(3)]
            assert [answer.status_code for answer in answers] == [200, 200, 200]

    asyncio.run(story())


def test_a_receiver_that_never_answers_holds_up_neither_speech_nor_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(silent: socket.socket) -> None:
        async with serving(tmp_path) as served:
            answers = [await served.speak(f"Number {number}.") for number in range(3)]
            taken, _ = await asyncio.get_running_loop().sock_accept(silent)  # a batch is on its way, and stays there
            answers.append(await served.speak("One more."))
            assert [answer.status_code for answer in answers] == [200] * 4
            assert await served.stop(within_s=HANGS_S / 2) == 0
            taken.close()

    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", str(HANGS_S))
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        asyncio.run(story(silent))


def test_without_an_endpoint_there_is_no_trace_and_no_package(tmp_path: Path, receiver: Receiver) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            answer = await served.speak("Hello.", headers={"traceparent": CALLER})
            assert "traceparent" not in answer.headers
            assert not maps_opentelemetry(served)
            assert receiver.spans == []

    asyncio.run(story())


def maps_opentelemetry(served: Served) -> bool:
    """Whether the worker has loaded what only the exporter needs: protobuf's native library."""
    (worker,) = served.ready["workers"]
    return "google/_upb" in Path(f"/proc/{worker}/maps").read_text(encoding="utf-8")


def trace_of(answer: httpx.Response) -> str:
    return answer.headers["traceparent"].split("-")[1]
