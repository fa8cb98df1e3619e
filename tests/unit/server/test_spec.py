"""What makes two requests the same answer, and what does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from segue.engine import ReferenceRecording
from segue.memory.messages import VoiceName
from segue_server.api.errors import ApiError
from segue_server.api.schema import parse_speech, references_of, request_model, to_spec
from segue_server.audio.formats import AudioFormat, OutputSpec
from segue_server.synthesis.spec import (
    SpeechKeys,
    SpeechSpec,
    keys_of,
    normalised,
    normalised_lines,
    original_span,
    synthesis_request,
)

SPEC = SpeechSpec(
    voice=VoiceName("default", "narrator"),
    text="Hello there.",
    language="",
    speed=1.0,
    seed=None,
    output=OutputSpec(format=AudioFormat.MP3),
)
MODEL = request_model(100)
KNOWN_KEY = "b283e94fcabe7e25b2d7b22f3da138b5a5ebb4f6"


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


def recording(**changed: str) -> ReferenceRecording:
    facts = {"name": "a.wav", "digest": "d", "text": "Hello.", "language": "en", **changed}
    return ReferenceRecording(audio=b"", **facts)


def test_options_and_recordings_are_part_of_the_answer_and_their_order_or_name_is_not() -> None:
    def key(**changed: Any) -> bytes:
        return keys(replace(SPEC, **changed)).result

    assert key(options={"top_k": 5, "top_p": 0.5}) == key(options={"top_p": 0.5, "top_k": 5})
    assert key(references=(recording(),)) == key(references=(recording(name="b.wav"),))
    different = [
        key(),
        key(options={"top_k": 5}),
        key(options={"top_k": 6}),
        key(options={"nested": {"a": [1]}}),
        key(references=(recording(),)),
        key(references=(recording(digest="e"),)),
        key(references=(recording(text=""),)),
        key(references=(recording(language="zh"),)),
        key(references=(recording(), recording(digest="e"))),
        key(references=(recording(digest="e"), recording())),
    ]
    assert len(set(different)) == len(different)


def test_requests_without_options_have_the_keys_that_they_always_had() -> None:
    assert keys().result.hex() == KNOWN_KEY


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


@pytest.mark.parametrize(
    ("text", "unreadable"),
    [
        ("ab\u00b6c", "\u00b6"),
        ("  ab \n\t c\u00b6 d", "\u00b6"),
        ("e\u0301e\u0301 x\u00b6\u00b6", "\u00b6\u00b6"),
        ("a  be\u0301 c", "be\u0301"),
        ("\u1112\u1161\u11ab  \u00b6", "\u00b6"),
    ],
)
@pytest.mark.parametrize("normalise", [normalised, normalised_lines])
def test_a_place_in_the_normal_form_is_found_in_what_was_sent(
    text: str, unreadable: str, normalise: Callable[[str], str]
) -> None:
    form, wanted = normalise(text), normalise(unreadable)
    start = form.index(wanted)
    first, last = original_span(text, (start, start + len(wanted)), normalise=normalise)
    assert text[first:last] == unreadable


def test_all_of_a_text_is_all_of_it() -> None:
    assert original_span("  a  b ", (0, 3)) == (2, 6)


def test_lines_stay_lines_where_they_mean_something() -> None:
    assert normalised_lines(" a  b \n\n c\r\nd") == "a b\nc\nd"


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


def spec_of(body: bytes) -> SpeechSpec:
    return to_spec(parse_speech(body, MODEL), namespace="d", voice="v", pin=None, use_cache=True)


def test_options_go_to_the_engine_but_for_those_that_every_engine_has() -> None:
    body = (
        b'{"input": "x", "voice": "v", "options": {"top_k": 5, "seed": 7, "speed": 1.5, "language": "all_zh", '
        b'"reference": {"path": "a.wav"}}}'
    )
    spec = spec_of(body)
    assert (spec.options, spec.seed, spec.speed, spec.language) == ({"top_k": 5}, 7, 1.5, "all_zh")
    assert synthesis_request(spec, seed=1, language="en").options == {"top_k": 5}


def test_what_stands_in_two_places_must_be_the_same() -> None:
    assert spec_of(b'{"input": "x", "voice": "v", "seed": 5, "options": {"seed": 5}}').seed == 5
    with pytest.raises(ApiError, match=r"options\.seed is 6, but seed is 5: say it once") as error:
        spec_of(b'{"input": "x", "voice": "v", "seed": 5, "options": {"seed": 6}}')
    assert error.value.param == "options.seed"


def test_references_are_named_one_by_one() -> None:
    body = (
        b'{"input": "x", "voice": "v", "options": {"reference": {"path": "a.wav", "text": " Hi. ", "language": "en"}, '
        b'"references": [{"uri": "file:///r/b.wav"}, {"path": "c.wav"}]}}'
    )
    asks = references_of(parse_speech(body, MODEL))
    assert [(ask.place, ask.text, ask.language, ask.field) for ask in asks] == [
        ("a.wav", "Hi.", "en", "options.reference"),
        ("file:///r/b.wav", "", "", "options.references.0"),
        ("c.wav", "", "", "options.references.1"),
    ]


@pytest.mark.parametrize(
    ("options", "param"),
    [
        (b'{"reference": {}}', "options.reference"),
        (b'{"reference": {"path": "a", "uri": "file:///a"}}', "options.reference"),
        (b'{"reference": {"path": "a", "file": "b"}}', "options.reference.file"),
        (b'{"reference": "a.wav"}', "options.reference"),
        (b'{"references": [{"path": ""}]}', "options.references.0.path"),
        (b'{"speed": 5}', "options.speed"),
        (b'{"seed": -2}', "options.seed"),
        (b'{"language": "a b"}', "options.language"),
        (b"[]", "options"),
    ],
)
def test_options_that_cannot_be_are_named(options: bytes, param: str) -> None:
    with pytest.raises(ApiError) as error:
        references_of(parse_speech(b'{"input": "x", "voice": "v", "options": ' + options + b"}", MODEL))
    assert (error.value.status, error.value.param) == (400, param)


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
