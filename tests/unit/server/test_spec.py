"""What makes two requests the same answer, and what does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from segue.memory.messages import VoiceName
from segue_server.api.errors import ApiError
from segue_server.api.schema import parse_speech, request_model, to_spec
from segue_server.audio.formats import AudioFormat, OutputSpec
from segue_server.synthesis.spec import SpeechKeys, SpeechSpec, keys_of, normalised, synthesis_request

SPEC = SpeechSpec(
    voice=VoiceName("default", "narrator"),
    text="Hello there.",
    language="",
    speed=1.0,
    seed=None,
    output=OutputSpec(format=AudioFormat.MP3),
)
MODEL = request_model(100)


def keys(spec: SpeechSpec = SPEC, *, revision: str = "r", engine_build: str = "e") -> SpeechKeys:
    return keys_of(spec, revision=revision, engine_build=engine_build)


def test_the_same_request_has_the_same_key_in_every_process() -> None:
    assert keys() == keys()


@pytest.mark.parametrize(
    "other",
    [
        replace(SPEC, voice=VoiceName("other", "narrator")),
        replace(SPEC, text="Hello there!"),
        replace(SPEC, language="en"),
        replace(SPEC, speed=1.1),
        replace(SPEC, seed=1),
        replace(SPEC, output=OutputSpec(format=AudioFormat.WAV)),
        replace(SPEC, output=OutputSpec(format=AudioFormat.MP3, sample_rate=16_000)),
        replace(SPEC, output=OutputSpec(format=AudioFormat.MP3, whole=True)),
    ],
)
def test_whatever_changes_the_bytes_changes_the_key(other: SpeechSpec) -> None:
    assert keys(other).result != keys().result


def test_another_revision_or_engine_is_another_answer() -> None:
    assert len({keys().result, keys(revision="s").result, keys(engine_build="f").result}) == 3


def test_who_asks_and_how_it_is_sent_does_not_matter() -> None:
    assert keys(replace(SPEC, streaming=True, pin="abc")).result == keys().result


def test_all_formats_of_a_text_carry_the_same_speech() -> None:
    wav = replace(SPEC, output=OutputSpec(format=AudioFormat.WAV))
    assert keys(wav).seed == keys().seed


def test_a_seed_is_used_as_given_and_drawn_from_the_text_otherwise() -> None:
    assert keys(replace(SPEC, seed=42)).seed == 42
    assert keys(replace(SPEC, text="Another.")).seed != keys().seed
    assert 0 <= keys().seed < 2**63


def test_text_is_normalised_once() -> None:
    assert normalised("  a\u0301\n\tb ") == "\u00e1 b"


def test_flac_is_whole_unless_a_stream_of_events_was_asked_for() -> None:
    def whole(body: bytes) -> bool:
        request = parse_speech(body, MODEL)
        return to_spec(request, namespace="d", voice="v", pin=None, use_cache=True).output.whole

    assert whole(b'{"input": "x", "voice": "v", "response_format": "flac"}')
    assert not whole(b'{"input": "x", "voice": "v", "response_format": "flac", "stream_format": "sse"}')
    assert not whole(b'{"input": "x", "voice": "v", "response_format": "wav"}')


def test_the_engine_is_asked_for_small_pieces_only_where_a_stream_was_asked_for() -> None:
    assert not synthesis_request(SPEC, seed=1, language="en").streaming
    assert synthesis_request(replace(SPEC, streaming=True), seed=1, language="en").streaming


def test_the_voices_language_is_used_where_none_is_asked_for() -> None:
    assert synthesis_request(SPEC, seed=1, language="de").language == "de"
    assert synthesis_request(replace(SPEC, language="fr"), seed=1, language="de").language == "fr"


def test_integers_may_be_written_as_json_numbers() -> None:
    request = parse_speech(b'{"input": "x", "voice": "v", "seed": 5.0, "sample_rate": 24000.0}', MODEL)
    assert (request.seed, request.sample_rate) == (5, 24_000)


def test_unknown_fields_and_nulls_are_taken() -> None:
    request = parse_speech(b'{"input": "x", "voice": "v", "speed": null, "emotion": 3}', MODEL)
    assert request.speed is None


@pytest.mark.parametrize("seed", [b"-1", b"9223372036854775808", b"1.5", b'"1"', b"true"])
def test_a_seed_that_is_none_is_refused(seed: bytes) -> None:
    with pytest.raises(ApiError) as error:
        parse_speech(b'{"input": "x", "voice": "v", "seed": ' + seed + b"}", MODEL)
    assert (error.value.status, error.value.param) == (400, "seed")
