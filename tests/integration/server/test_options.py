"""Options and recordings of requests, through a real server, on an engine whose sound tells what it was asked."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
from numpy.typing import NDArray
from tests.support.served import HZ, Served
from tests.support.shared_server import SharedServer, shared_server
from tests.support.tone_engine import RATE_HZ, expected_samples

pytestmark = pytest.mark.process
TEXT = "The quick brown fox."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings that the server may open, and one beside them."""
    place = tmp_path_factory.mktemp("r")
    (place / "root").mkdir()
    for name, content in {
        "root/high.tone": "880",
        "root/low.tone": "220",
        "root/noise.tone": "?",
        "out.tone": "1",
    }.items():
        (place / name).write_text(content)
    return place


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[SharedServer]:
    references = {"roots": [{"path": str(folder / "root")}], "maxBytes": 4096}
    with shared_server(tmp_path_factory.mktemp("s"), references=references) as started:
        yield started


def samples(answer: httpx.Response) -> NDArray[np.float32]:
    assert answer.status_code == 200, answer.text
    heard: NDArray[np.float32] = np.frombuffer(answer.content, "<i2").astype(np.float32) / np.float32(32767)
    return heard


def hz(answer: httpx.Response) -> float:
    heard = samples(answer)
    return float(np.argmax(np.abs(np.fft.rfft(heard * np.hanning(len(heard))))) * RATE_HZ / len(heard))


def test_an_option_reaches_the_engine_and_makes_another_answer(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        await served.speak(TEXT)
        quiet = await served.speak(TEXT, options={"gain": 0.5})
        assert quiet.headers["segue-cache"] == "miss"
        np.testing.assert_allclose(samples(quiet), 0.5 * expected_samples(TEXT, HZ), atol=1e-4)
        again = await served.speak(TEXT, options={"gain": 0.5})
        assert (again.headers["segue-cache"], again.content) == ("hit", quiet.content)

    server.run(scenario)


def test_the_openai_client_sends_options_in_its_extra_body(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        async with openai.AsyncOpenAI(base_url=f"{served.ready['listen']}/v1", api_key="unused") as client:
            answer = await client.audio.speech.create(
                model="tts-1", voice="narrator", input=TEXT, response_format="pcm",
                extra_body={"options": {"gain": 0.25, "speed": 2.0, "seed": 3}},
            )  # fmt: skip
            heard = np.frombuffer(answer.content, "<i2") / 32767
            np.testing.assert_allclose(heard, 0.25 * expected_samples(TEXT, HZ, speed=2.0), atol=1e-4)

    server.run(scenario)


def test_options_that_the_engine_refuses_are_the_requests_mistake_and_not_the_revisions(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        before = await served.revision_stats(served.handle)
        for options, param, complaint in (
            ({"gain": 2}, "options.gain", "gain is 2; expected a number from 0 to 1"),
            ({"top_k": 5}, "options.top_k", "no option 'top_k'"),
        ):
            answer = await served.speak(TEXT, options=options)
            error = answer.json()["error"]
            assert (answer.status_code, error["code"], error["param"]) == (400, "option_rejected", param)
            assert complaint in error["message"]
        after = await served.until_stats(served.handle, inFlight=0)
        assert after["errors"] == before["errors"]

    server.run(scenario)


def test_a_request_is_spoken_like_the_recordings_that_it_brings(server: SharedServer, folder: Path) -> None:
    async def scenario(served: Served) -> None:
        high = await served.speak(TEXT, options={"reference": {"path": "high.tone"}})
        assert hz(high) == pytest.approx(880, abs=2)
        uri = f"file://{folder}/root/low.tone"
        both = await served.speak(TEXT, options={"reference": {"path": "high.tone"}, "references": [{"uri": uri}]})
        assert hz(both) == pytest.approx(550, abs=2)
        assert hz(await served.speak(TEXT)) == pytest.approx(HZ, abs=2)
        again = await served.speak(TEXT, options={"reference": {"path": str(folder / "root" / "high.tone")}})
        assert again.headers["segue-cache"] == "hit"

    server.run(scenario)


def test_a_recording_that_changes_is_another_one(server: SharedServer, folder: Path) -> None:
    async def scenario(served: Served) -> None:
        for content in (500, 700):
            await asyncio.to_thread((folder / "root" / "changing.tone").write_text, str(content))
            answer = await served.speak(TEXT, options={"reference": {"path": "changing.tone"}})
            assert hz(answer) == pytest.approx(content, abs=2)

    server.run(scenario)


def test_recordings_that_cannot_be_used_are_refused_by_the_field(server: SharedServer, folder: Path) -> None:
    async def scenario(served: Served) -> None:
        for path, code in (
            ("nothing.tone", "reference_refused"),
            ("../out.tone", "reference_refused"),
            (str(folder / "out.tone"), "reference_refused"),
            ("noise.tone", "option_rejected"),
        ):
            answer = await served.speak(TEXT, options={"reference": {"path": path}})
            error = answer.json()["error"]
            assert (answer.status_code, error["code"], error["param"]) == (400, code, "options.reference"), path
        assert not any((await served.until_stats(served.handle, inFlight=0))["errors"].values())

    server.run(scenario)


def test_many_at_once_with_recordings_of_their_own_are_all_answered(server: SharedServer, folder: Path) -> None:
    """Single flight per recording, and none of them waits for a row that waits for it."""

    async def scenario(served: Served) -> None:
        wanted = [300 + 25 * place for place in range(12)]
        for each in wanted:
            await asyncio.to_thread((folder / "root" / f"{each}.tone").write_text, str(each))
        answers = await asyncio.gather(
            *(
                served.speak(f"{TEXT} {turn}", options={"reference": {"path": f"{each}.tone"}})
                for turn in range(3)
                for each in wanted
            )
        )
        assert [round(hz(answer) / 5) * 5 for answer in answers] == wanted * 3
        await served.until_stats(served.handle, inFlight=0)

    server.run(scenario)


def slow_recording(folder: Path, name: str, hz: int) -> Path:
    """A recording that is measured once somebody writes to the FIFO that is returned."""
    fifo = folder / f"{name}.fifo"
    os.mkfifo(fifo)
    (folder / "root" / f"{name}.tone").write_text(f"{hz} after {fifo}")
    return fifo


def test_nobody_waits_for_the_measuring_of_anothers_recording(server: SharedServer, folder: Path) -> None:
    async def scenario(served: Served) -> None:
        await served.speak("before", options={"reference": {"path": "high.tone"}})
        fifo = await asyncio.to_thread(slow_recording, folder, "slow", 660)
        waiting = asyncio.create_task(served.speak(TEXT, options={"reference": {"path": "slow.tone"}}))
        with await asyncio.to_thread(fifo.open, "w") as gate:  # opened by both: it is being measured now
            assert hz(await served.speak("somebody else")) == pytest.approx(HZ, abs=2)
            known = await served.speak("another one", options={"reference": {"path": "high.tone"}})
            assert hz(known) == pytest.approx(880, abs=2)
            assert not waiting.done()
            gate.write("now")
        assert hz(await waiting) == pytest.approx(660, abs=2)

    server.run(scenario)


def test_a_client_that_leaves_while_its_recording_is_measured_holds_nothing(server: SharedServer, folder: Path) -> None:
    async def scenario(served: Served) -> None:
        before = await served.until_stats(served.handle, inFlight=0)
        fifo = await asyncio.to_thread(slow_recording, folder, "left", 660)
        leaving = asyncio.create_task(served.speak(TEXT, options={"reference": {"path": "left.tone"}}))
        with await asyncio.to_thread(fifo.open, "w"):
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
        after = await served.until_stats(served.handle, inFlight=0)
        assert after["errors"] == before["errors"]

    server.run(scenario)


def test_without_roots_a_recording_is_refused_with_what_to_configure(tmp_path: Path) -> None:
    with shared_server(tmp_path) as plain:

        async def scenario(served: Served) -> None:
            answer = await served.speak(TEXT, options={"reference": {"path": "high.tone"}})
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (403, "references_disabled")
            assert "references.roots" in error["message"]

        plain.run(scenario)


def test_the_place_of_what_cannot_be_read_is_told_in_what_was_sent(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        text = "  Ab  ce\u0301 \u00b6d"
        answer = await served.speak(text)
        first, last = answer.json()["error"]["span"]
        assert text[first:last] == "\u00b6"

    server.run(scenario)
