"""A client of GPT-SoVITS that changes its base URL only, against a real server with a real (small) voice."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from tests.support.served import Served
from tests.support.shared_server import SharedServer, shared_server
from tests.unit.engine_gpt_sovits.builders import parts

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

DOCUMENTED = (
    "/tts?text=先帝创业未半而中道崩殂，今天下三分。&text_lang=zh&ref_audio_path=archive_jingyuan_1.wav"
    "&prompt_lang=zh&prompt_text=我是「罗浮」云骑将军景元。&text_split_method=cut5&batch_size=1&media_type=wav"
    "&streaming_mode=true"
)
"""The example of api_v2's documentation, with a shorter text."""

BODY: dict[str, Any] = {
    "text": "Well, here we are. And there they go.",
    "text_lang": "en",
    "ref_audio_path": "archive_jingyuan_1.wav",
    "aux_ref_audio_paths": [],
    "prompt_text": "",
    "prompt_lang": "zh",
    "top_k": 15,
    "top_p": 1,
    "temperature": 1,
    "text_split_method": "cut5",
    "batch_size": 1,
    "batch_threshold": 0.75,
    "split_bucket": True,
    "speed_factor": 1.0,
    "fragment_interval": 0.3,
    "seed": -1,
    "parallel_infer": True,
    "repetition_penalty": 1.35,
    "sample_steps": 32,
    "super_sampling": False,
    "streaming_mode": False,
    "overlap_length": 2,
    "min_chunk_length": 16,
}
"""All that the documentation lists for a POST."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedServer]:
    with shared_server(tmp_path_factory.mktemp("s"), engine="gpt-sovits", parts=parts()) as started:
        yield started


async def tts(served: Served, *, of: str = "narrator", **changed: Any) -> httpx.Response:
    return await served.client.post(f"/compat/{of}/tts", json={**BODY, "seed": 7, **changed})


def heard(answer: httpx.Response) -> tuple[NDArray[np.float64], int]:
    assert answer.status_code == 200, answer.text
    samples, rate_hz = soundfile.read(io.BytesIO(answer.content))
    return np.asarray(samples, np.float64), int(rate_hz)


def test_the_documented_get_streams_wav(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        answer = await served.client.get("/compat/narrator" + DOCUMENTED)
        samples, rate_hz = heard(answer)
        assert (answer.headers["content-type"], rate_hz) == ("audio/wav", 32_000)
        assert len(samples) > rate_hz
        assert "content-length" not in answer.headers
        assert answer.headers["segue-revision"] == served.sidecar.revision(served.handle)
        assert answer.headers["segue-voice"] == "default/narrator"
        assert answer.headers["segue-reference"] == "voice", "no roots here: the voice speaks like its own"

    server.run(scenario)


def test_the_documented_post_answers_a_whole_wav_with_its_length(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        answer = await served.client.post("/compat/narrator/tts", json=BODY)
        assert answer.headers["content-length"] == str(len(answer.content))
        with wave.open(io.BytesIO(answer.content)) as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (32_000, 1, 2)
            assert file.getnframes() * 2 + 44 == len(answer.content)
        again = await served.client.post("/compat/narrator/tts", json=BODY)
        assert again.content != answer.content, "seed -1 is random"
        assert (answer.headers["segue-cache"], again.headers["segue-cache"]) == ("bypass", "bypass")

    server.run(scenario)


def test_a_seed_says_it_again_from_the_cache(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        first, again, other = await tts(served), await tts(served), await tts(served, seed=8)
        assert (again.headers["segue-cache"], again.content) == ("hit", first.content)
        assert other.content != first.content

    server.run(scenario)


@pytest.mark.parametrize("mode", [0, 1, 2, 3])
def test_each_streaming_mode_says_the_same_tokens(server: SharedServer, mode: int) -> None:
    async def scenario(served: Served) -> None:
        samples, _ = heard(await tts(served, streaming_mode=mode))
        expected, _ = heard(await tts(served))
        assert len(samples) == len(expected)
        if mode < 2:
            np.testing.assert_array_equal(samples, expected)

    server.run(scenario)


@pytest.mark.parametrize(("media", "streaming"), [("raw", False), ("raw", 2), ("ogg", False), ("ogg", 3), ("aac", 1)])
def test_each_media_type_is_what_it_says(server: SharedServer, media: str, streaming: object) -> None:
    async def scenario(served: Served) -> None:
        wanted, rate_hz = heard(await tts(served))
        answer = await tts(served, media_type=media, streaming_mode=streaming)
        assert answer.headers["content-type"] == f"audio/{media}"
        match media:
            case "raw":
                assert len(answer.content) == 2 * len(wanted)
            case "ogg":
                samples, found_hz = heard(answer)
                assert found_hz == rate_hz
                assert len(samples) == pytest.approx(len(wanted), abs=2048)
            case _:
                assert answer.content[:2] in (b"\xff\xf1", b"\xff\xf9"), "ADTS"

    server.run(scenario)


def test_parameters_reach_the_engine(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        usual, rate_hz = heard(await tts(served))
        bare, _ = heard(await tts(served, fragment_interval=0))
        slow, _ = heard(await tts(served, speed_factor=0.5, fragment_interval=0))
        uncut, _ = heard(await tts(served, text_split_method="cut0", fragment_interval=0))
        greedy, _ = heard(await tts(served, top_k=1))
        fragments = round((len(usual) - len(bare)) / (0.3 * rate_hz))
        assert fragments == 3
        assert len(slow) == pytest.approx(2 * len(bare), rel=0.02)
        assert len(uncut) != len(bare)
        assert greedy.shape != usual.shape or not np.array_equal(greedy, usual)

    server.run(scenario)


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "no text": ({"text": ""}, 400, "text is required"),
    "no text_lang": ({"text_lang": None}, 400, "text_lang is required"),
    "unknown text_lang": ({"text_lang": "fr"}, 400, "text_lang: fr is not supported in version v2"),
    "no prompt_lang": ({"prompt_lang": ""}, 400, "prompt_lang is required"),
    "unknown media_type": ({"media_type": "mp3"}, 400, "media_type: mp3 is not supported"),
    "unknown cut": ({"text_split_method": "cut9"}, 400, "text_split_method:cut9 is not supported"),
    "unknown mode": (
        {"streaming_mode": 4},
        400,
        "the value of streaming_mode must be 0, 1, 2, 3(int) or true/false(bool)",
    ),
    "speed": ({"speed_factor": 9}, 400, "speed_factor: 9 is not supported; use 0.25 to 4"),
    "seed": ({"seed": -2}, 400, "seed: -2 is not supported; use -1 (random) or 0 to 9223372036854775807"),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_mistakes_are_told_as_the_original_tells_them(server: SharedServer, case: str) -> None:
    changed, status, message = REFUSED[case]

    async def scenario(served: Served) -> None:
        posted = await tts(served, **changed)
        assert (posted.status_code, posted.json()) == (status, {"message": message})
        query = {name: value for name, value in {**BODY, **changed}.items() if value is not None}
        got = await served.client.get("/compat/narrator/tts", params=query)
        assert (got.status_code, got.json()) == (status, {"message": message})

    server.run(scenario)


def test_what_fails_on_the_way_is_told_with_its_reason(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        text = "Well,  привет."
        answer = await tts(served, text=text, text_lang="auto")
        body = answer.json()
        assert (answer.status_code, body["message"]) == (400, "tts failed")
        assert "cannot read 'привет' at characters 7 to 13" in body["Exception"]
        assert text[slice(*body["span"])] == "привет"
        steep = await tts(served, top_k=0)
        assert steep.json() == {
            "message": "tts failed",
            "Exception": "top_k is 0; expected a number from 1 to 1025",
        }
        absent = await tts(served, of="nobody")
        assert (absent.status_code, absent.json()["message"]) == (404, "tts failed")
        typed = await tts(served, top_k="many")
        assert typed.status_code == 400
        assert typed.json()["message"].startswith("top_k: ")
        no_json = await served.client.post("/compat/narrator/tts", content=b"{")
        assert no_json.status_code == 400
        assert set(no_json.json()) == {"message"}

    server.run(scenario)


def test_the_same_words_stand_in_openais_shape(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        answer = await served.speak("Well,  привет.", options={"language": "auto"})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["span"]) == (400, "text_rejected", [7, 13])
        for options, param in (({"top_k": 0}, "options.top_k"), ({"dtype": "bf16"}, "options.dtype")):
            refused = await served.speak("Hello.", options=options)
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)

    server.run(scenario)


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("set_gpt_weights?weights_path=GPT/a b-e15.ckpt", 409, "segue roll narrator --weights 'gpt=GPT/a b-e15.ckpt'"),
        ("set_sovits_weights?weights_path=S/a_e8.pth", 409, "segue roll narrator --weights sovits=S/a_e8.pth"),
        ("set_gpt_weights", 400, "gpt weight path is required"),
        ("set_refer_audio?refer_audio_path=calm.wav", 409, "segue roll narrator --reference calm.wav"),
        ("control?command=restart", 409, "segue roll VOICE"),
        ("control", 400, "command is required"),
        ("nothing", 404, "there is no /nothing"),
    ],
)
def test_what_is_not_done_by_request_is_told_with_the_command(
    server: SharedServer, path: str, status: int, said: str
) -> None:
    async def scenario(served: Served) -> None:
        answer = await served.client.get(f"/compat/narrator/{path}")
        body = answer.json()
        assert answer.status_code == status
        assert said in body.get("Exception", body["message"])

    server.run(scenario)


def test_recordings_beneath_a_root_are_used_and_what_is_missing_is_named(tmp_path: Path) -> None:
    """No shared models here: a v2Pro voice cannot hear a recording, and says which model it lacks."""
    (tmp_path / "root").mkdir()
    soundfile.write(tmp_path / "root" / "calm.wav", np.sin(np.arange(128_000) / 20).astype(np.float32) / 4, 32_000)
    (tmp_path / "s").mkdir()
    roots = {"roots": [{"path": str(tmp_path / "root")}]}
    with shared_server(tmp_path / "s", engine="gpt-sovits", parts=parts(version="v2"), references=roots) as started:

        async def scenario(served: Served) -> None:
            lent = await tts(served, ref_audio_path="calm.wav")
            own = await tts(served, ref_audio_path=None)
            assert lent.headers["segue-reference"] == "request"
            assert own.headers["segue-reference"] == "voice"
            assert heard(lent)[0].shape != heard(own)[0].shape
            deaf = await tts(served, ref_audio_path="calm.wav", prompt_text="我是景元。")
            assert deaf.status_code == 400
            assert "HuBERT" in deaf.json()["Exception"]
            several = await tts(served, ref_audio_path="calm.wav", aux_ref_audio_paths=["calm.wav"])
            assert several.status_code == 200
            many = await tts(served, ref_audio_path="calm.wav", aux_ref_audio_paths=["calm.wav"] * 9)
            assert (many.status_code, many.json()["message"][:22]) == (400, "aux_ref_audio_paths: 9")
            outside = await tts(served, ref_audio_path="archive_jingyuan_1.wav")
            assert outside.status_code == 400
            assert "archive_jingyuan_1.wav" in outside.json()["Exception"]

        started.run(scenario)


def test_keys_count_here_too(tmp_path: Path) -> None:
    (tmp_path / "keys.yaml").write_text("[]\n")
    with shared_server(tmp_path, keysFile=str(tmp_path / "keys.yaml")) as started:

        async def scenario(served: Served) -> None:
            for path in (DOCUMENTED, "/set_gpt_weights?weights_path=x"):
                answer = await served.client.get("/compat/narrator" + path)
                assert answer.status_code == 401
                assert "message" in answer.json()

        started.run(scenario)
