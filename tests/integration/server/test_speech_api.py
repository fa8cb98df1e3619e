"""The speech API as clients see it, against a real server."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import wave
from collections.abc import Iterator
from pathlib import Path

import av
import httpx
import numpy as np
import openai
import pytest
import soundfile
from numpy.typing import NDArray
from tests.support.served import HZ, Served
from tests.support.shared_server import SharedServer, shared_server
from tests.support.tone_engine import RATE_HZ, Fault, expected_samples, tone_part

pytestmark = pytest.mark.process
TEXT = "The quick brown fox."


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedServer]:
    with shared_server(tmp_path_factory.mktemp("s"), aliases={"alloy": "narrator"}) as started:
        yield started


def decoded(data: bytes) -> tuple[NDArray[np.float32], int]:
    """Any container, by FFmpeg: mono samples and their rate in Hz."""
    with av.open(io.BytesIO(data), "r") as container:
        frames = list(container.decode(audio=0))
    resampler = av.AudioResampler(format="flt", layout="mono")
    pieces = [out.to_ndarray()[0] for frame in frames for out in resampler.resample(frame)]
    return np.concatenate(pieces).astype(np.float32), frames[0].sample_rate


def pitch_hz(samples: NDArray[np.float32], rate_hz: int) -> float:
    """The strongest frequency."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate_hz / len(samples))


def pcm(data: bytes) -> NDArray[np.float32]:
    samples: NDArray[np.float32] = np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32767)
    return samples


def test_pcm_is_what_the_engine_said(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        answer = await served.speak(TEXT)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "audio/pcm"
        np.testing.assert_allclose(pcm(answer.content), expected_samples(TEXT, HZ), atol=1e-4)

    server.run(scenario)


@pytest.mark.parametrize("audio_format", ["mp3", "opus", "aac", "flac", "wav"])
def test_each_format_decodes_to_the_same_tone(server: SharedServer, audio_format: str) -> None:
    async def scenario(served: Served) -> None:
        answer = await served.speak(TEXT, response_format=audio_format)
        samples, rate_hz = decoded(answer.content)
        wanted_s = len(expected_samples(TEXT, HZ)) / RATE_HZ
        assert len(samples) / rate_hz == pytest.approx(wanted_s, abs=0.12)
        assert pitch_hz(samples, rate_hz) == pytest.approx(HZ, abs=3)

    server.run(scenario)


@pytest.mark.parametrize("audio_format", ["mp3", "opus", "flac", "wav"])
def test_libsndfile_reads_what_it_can_read(server: SharedServer, audio_format: str) -> None:
    async def scenario(served: Served) -> None:
        answer = await served.speak(TEXT, response_format=audio_format)
        samples, rate_hz = soundfile.read(io.BytesIO(answer.content))
        assert len(samples) / rate_hz == pytest.approx(len(TEXT) * 0.05, abs=0.12)

    server.run(scenario)


def test_the_default_format_is_mp3(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        answer = await served.client.post("/v1/audio/speech", json={"voice": "narrator", "input": TEXT})
        assert answer.headers["content-type"] == "audio/mpeg"

    server.run(scenario)


def test_a_wav_stream_opens_with_the_standard_library(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        answer = await served.speak(TEXT, response_format="wav")
        with wave.open(io.BytesIO(answer.content)) as reader:
            assert (reader.getframerate(), reader.getnchannels(), reader.getsampwidth()) == (RATE_HZ, 1, 2)
            assert len(reader.readframes(10**9)) == 2 * len(expected_samples(TEXT, HZ))

    server.run(scenario)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100, 48_000])
def test_another_sample_rate_keeps_pitch_and_length(server: SharedServer, rate_hz: int) -> None:
    async def scenario(served: Served) -> None:
        samples = pcm((await served.speak(TEXT, sample_rate=rate_hz)).content)
        assert len(samples) / rate_hz == pytest.approx(len(TEXT) * 0.05, abs=0.005)
        assert pitch_hz(samples, rate_hz) == pytest.approx(HZ, abs=3)

    server.run(scenario)


def test_speed_changes_the_length(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        fast = await served.speak(TEXT, speed=2.0)
        assert len(pcm(fast.content)) == len(expected_samples(TEXT, HZ, speed=2.0))

    server.run(scenario)


def test_the_first_audio_comes_before_the_last_is_made(tmp_path: Path) -> None:
    with shared_server(tmp_path, part=tone_part(HZ, step_s=0.05)) as server:

        async def scenario(served: Served) -> None:
            body = {"voice": "narrator", "input": TEXT * 3, "response_format": "pcm"}
            async with served.client.stream("POST", "/v1/audio/speech", json=body) as answer:
                pieces = answer.aiter_raw()
                first = await anext(pieces)
                in_flight = (await served.revision_stats(served.handle))["inFlight"]
                rest = [piece async for piece in pieces]
            assert first
            assert in_flight == 1
            assert len(first) + sum(map(len, rest)) == 2 * len(expected_samples(TEXT * 3, HZ))

        server.run(scenario)


def test_every_answer_names_its_revision_voice_and_request(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        for _ in range(2):
            answer = await served.speak("named")
            assert answer.headers["segue-revision"] == served.sidecar.revision(served.handle)
            assert answer.headers["segue-voice"] == "default/narrator"
            assert answer.headers["segue-request-id"].startswith("req_")

    server.run(scenario)


def test_the_same_text_is_spoken_once_and_then_remembered(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        before = (await served.revision_stats(served.handle))["successes"]
        first = await served.speak("remember  me")
        second = await served.speak(" remember me ")
        assert (first.headers["segue-cache"], second.headers["segue-cache"]) == ("miss", "hit")
        assert first.content == second.content
        after = await served.until_stats(served.handle, successes=before + 1)
        assert after["cacheHits"] >= 1

    server.run(scenario)


@pytest.mark.parametrize(
    "change",
    [{"seed": 7}, {"speed": 1.5}, {"response_format": "wav"}, {"language": "en"}, {"sample_rate": 16000}],
)
def test_another_parameter_is_another_answer(server: SharedServer, change: dict[str, object]) -> None:
    async def scenario(served: Served) -> None:
        text = f"parameters matter to {sorted(change)}"
        await served.speak(text)
        assert (await served.speak(text, **change)).headers["segue-cache"] == "miss"

    server.run(scenario)


def test_no_store_neither_asks_nor_leaves_anything_in_the_cache(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        by_header = await served.speak("unseen", headers={"Segue-Cache": "no-store"})
        by_field = await served.speak("unseen", cache="no-store")
        assert (by_header.headers["segue-cache"], by_field.headers["segue-cache"]) == ("bypass", "bypass")
        assert (await served.speak("unseen")).headers["segue-cache"] == "miss"

    server.run(scenario)


def test_an_alias_and_a_voice_object_mean_the_voice(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        for voice in ("alloy", {"id": "narrator"}):
            answer = await served.speak(TEXT, voice=voice)
            assert answer.headers["segue-voice"] == "default/narrator"

    server.run(scenario)


REFUSED = {
    "no JSON": (b"{", 400, "invalid_json", None),
    "no object": (b"[]", 400, "invalid_value", None),
    "no input": (b'{"voice": "narrator"}', 400, "missing_required_parameter", "input"),
    "empty input": (b'{"voice": "narrator", "input": ""}', 400, "invalid_value", "input"),
    "only white space": (b'{"voice": "narrator", "input": " \\n"}', 400, "empty_input", "input"),
    "input too long": (
        json.dumps({"voice": "narrator", "input": "x" * 4097}).encode(),
        400,
        "string_above_max_length",
        "input",
    ),
    "no voice": (b'{"input": "x"}', 400, "missing_required_parameter", "voice"),
    "voice of the wrong type": (b'{"input": "x", "voice": 5}', 400, "invalid_value", "voice"),
    "unknown voice": (b'{"input": "x", "voice": "nobody"}', 404, "voice_not_found", "voice"),
    "voice with a slash": (b'{"input": "x", "voice": "default/narrator"}', 404, "voice_not_found", "voice"),
    "speed too high": (b'{"input": "x", "voice": "narrator", "speed": 5}', 400, "invalid_value", "speed"),
    "speed as text": (b'{"input": "x", "voice": "narrator", "speed": "1"}', 400, "invalid_value", "speed"),
    "unknown format": (
        b'{"input": "x", "voice": "narrator", "response_format": "midi"}',
        400,
        "invalid_value",
        "response_format",
    ),
    "rate that opus has not": (
        b'{"input": "x", "voice": "narrator", "response_format": "opus", "sample_rate": 44100}',
        400,
        "invalid_value",
        "sample_rate",
    ),
    "negative seed": (b'{"input": "x", "voice": "narrator", "seed": -1}', 400, "invalid_value", "seed"),
    "unreadable text": ('{"input": "ab\u00b6", "voice": "narrator"}'.encode(), 400, "text_rejected", "input"),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_a_bad_request_is_refused_in_openais_words(server: SharedServer, case: str) -> None:
    body, status, code, param = REFUSED[case]

    async def scenario(served: Served) -> None:
        answer = await served.client.post("/v1/audio/speech", content=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (status, code, param)
        assert error["message"]

    server.run(scenario)


def test_a_rejected_text_carries_its_span(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        answer = await served.speak("ab\u00b6c")
        assert answer.json()["error"]["span"] == [2, 3]

    server.run(scenario)


def test_a_body_that_is_too_large_is_not_read(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        answer = await served.client.post("/v1/audio/speech", content=b"x" * 2_000_000)
        assert answer.status_code == 413

    server.run(scenario)


def test_voices_and_models_are_listed(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        voices = (await served.client.get("/v1/audio/voices")).json()
        assert {"id": "narrator", "name": "narrator"} in voices["voices"]
        models = (await served.client.get("/v1/models")).json()
        one = await served.client.get(f"/v1/models/{models['data'][0]['id']}")
        assert one.json() == models["data"][0]
        assert (await served.client.get("/v1/models/nothing")).status_code == 404

    server.run(scenario)


def test_sse_carries_the_same_audio_and_the_usage(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        plain = await served.speak(TEXT)
        answer = await served.speak(TEXT, stream_format="sse", cache="no-store")
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
        audio = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
        assert audio == plain.content
        assert len(events) > 3
        assert events[-1]["type"] == "speech.audio.done"
        assert events[-1]["usage"]["total_tokens"] > 0

    server.run(scenario)


def test_the_openai_client_speaks_plain_streaming_and_sse(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        async with openai.AsyncOpenAI(base_url=f"{served.ready['listen']}/v1", api_key="unused") as client:
            speech = client.audio.speech
            plain = await speech.create(model="tts-1", voice="narrator", input=TEXT, response_format="pcm")
            async with speech.with_streaming_response.create(
                model="tts-1", voice="narrator", input=TEXT, response_format="pcm"
            ) as answer:
                streamed = b"".join([piece async for piece in answer.iter_bytes()])
            sse = await speech.create(
                model="gpt-4o-mini-tts", voice="narrator", input=TEXT, response_format="pcm", stream_format="sse"
            )
            with pytest.raises(openai.NotFoundError, match="nobody"):
                await speech.create(model="tts-1", voice="nobody", input=TEXT)
            assert [model.id async for model in client.models.list()]
        assert len(plain.content) == 2 * len(expected_samples(TEXT, HZ))
        assert streamed == plain.content
        assert b"speech.audio.done" in sse.content

    server.run(scenario)


def test_keys_bind_callers_to_their_namespace(tmp_path: Path) -> None:
    keys = tmp_path / "keys.yaml"
    line = "- {{sha256: {}, namespace: {}, name: {}}}\n"
    digest = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("ours", "theirs", "late")}
    keys.write_text(line.format(digest["ours"], "default", "a") + line.format(digest["theirs"], "other", "b"))

    with shared_server(tmp_path, keysFile=str(keys)) as server:

        async def ask(served: Served, key: str, **fields: object) -> httpx.Response:
            return await served.speak("keys", headers={"Authorization": f"Bearer {key}"}, **fields)

        async def scenario(served: Served) -> None:
            assert (await served.speak("keys")).status_code == 401
            assert (await ask(served, "wrong")).json()["error"]["code"] == "invalid_api_key"
            assert (await ask(served, "ours")).status_code == 200
            foreign, missing = await ask(served, "theirs"), await ask(served, "theirs", voice="nobody")
            assert foreign.status_code == missing.status_code == 404
            assert (
                foreign.json()["error"]["message"].replace("narrator", "nobody") == missing.json()["error"]["message"]
            )
            listed = await served.client.get("/v1/audio/voices", headers={"Authorization": "Bearer theirs"})
            assert listed.json() == {"voices": []}
            keys.write_text(line.format(digest["late"], "default", "c"))
            while (await ask(served, "late")).status_code == 401:
                pass
            assert (await ask(served, "ours")).status_code == 401

        server.run(scenario)


def test_a_failing_revision_answers_500_before_the_first_byte(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        for fault, kind in (
            (Fault.RAISE, "exception"),
            (Fault.RAISE_IN_STEP, "exception"),
            (Fault.NAN, "nonfinite"),
            (Fault.SILENT, "silent"),
            (Fault.EMPTY, "empty"),
            (Fault.CAPPED, "capped"),
        ):
            voice = served.sidecar.voice(f"broken-{fault.value}")
            handle = await served.sidecar.offer(voice, {"tone": tone_part(HZ, fault=fault)})
            served.sidecar.point(voice, handle)
            answer = await served.speak("fail", voice=voice.name)
            assert (answer.status_code, answer.json()["error"]["code"]) == (500, "synthesis_failed"), fault
            errors = (await served.until_stats(handle, inFlight=0))["errors"]
            assert {name: count for name, count in errors.items() if count} == {kind: 1}, fault

    server.run(scenario)


def test_a_stream_that_fails_is_cut_and_never_padded(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        voice = served.sidecar.voice("fails-late")
        handle = await served.sidecar.offer(voice, {"tone": tone_part(HZ, fault=Fault.NAN, fault_after_s=0.3)})
        served.sidecar.point(voice, handle)
        heard = bytearray()

        async def listen() -> None:
            body = {"voice": voice.name, "input": TEXT, "response_format": "pcm"}
            async with served.client.stream("POST", "/v1/audio/speech", json=body) as answer:
                assert answer.status_code == 200
                async for piece in answer.aiter_raw():
                    heard.extend(piece)

        with pytest.raises(httpx.RemoteProtocolError):
            await listen()
        assert 0 < len(heard) <= 2 * int(0.31 * RATE_HZ)
        await served.until_stats(handle, inFlight=0)

    server.run(scenario)
