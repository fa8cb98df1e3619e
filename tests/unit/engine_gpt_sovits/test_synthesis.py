"""Rows through the engine: the same whoever shares the batch, streamed or whole; what goes wrong stays in its row."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.unit.engine_gpt_sovits.builders import PhonesGiven, build, parts, reference, run, say, view, words
from typing_extensions import override

from segue.engine import Device, SynthesisRequest
from segue.errors import InvalidVoiceModel, OptionRejected, SynthesisError, TextRejected
from segue_engines.gpt_sovits.engine import GptSovitsEngine
from segue_engines.gpt_sovits.parts import GPT, SOVITS, sovits_network
from segue_engines.gpt_sovits.randomness import Stream, normals, row_key
from segue_engines.gpt_sovits.row import GptSovitsRow
from segue_engines.gpt_sovits.sovits.network import SAMPLE_RATE
from segue_engines.gpt_sovits.spoken import Spoken
from segue_engines.gpt_sovits.synthesizer import GptSovitsSynthesizer
from segue_engines.gpt_sovits.t2s.packing import T2SDtype

AUDIO = 1e-4
GAP = int(0.3 * SAMPLE_RATE)
Heard = tuple[list[int], NDArray[np.float32]]


@cache
def _voice() -> GptSovitsSynthesizer:
    return build()


@cache
def _endless() -> GptSovitsSynthesizer:
    return GptSovitsSynthesizer(view(parts(eos_gain=0.0)), PhonesGiven(), max_steps=100)


def _requests() -> list[SynthesisRequest]:
    return [
        SynthesisRequest(
            text=words(seed, fragments=1 + seed % 2, phones=10 + 5 * seed), seed=seed, streaming=seed % 3 == 0
        )
        for seed in range(5)
    ]


@cache
def _alone() -> list[Heard]:
    return [say(_voice(), request.text, seed=request.seed, streaming=request.streaming) for request in _requests()]


def _agree(rows: list[GptSovitsRow], heard: list[NDArray[np.float32]]) -> None:
    for row, samples, (tokens, expected) in zip(rows, heard, _alone(), strict=True):
        assert row.error is None
        assert list(row.tokens) == tokens
        assert samples.shape == expected.shape
        assert float(np.abs(samples - expected).max()) <= AUDIO


def test_rows_of_one_batch_sound_as_each_sounds_alone() -> None:
    rows = [_voice().admit(request) for request in _requests()]
    _agree(rows, run(_voice(), rows))


def test_rows_that_join_late_and_are_stepped_in_changing_company_sound_as_alone() -> None:
    voice, draw = _voice(), np.random.default_rng(5)
    rows = [voice.admit(request) for request in _requests()]
    pieces: list[list[NDArray[np.float32]]] = [[] for _ in rows]
    while not all(row.done for row in rows):
        company = [row for row in rows if not row.done and draw.random() < 0.5]
        voice.step(company)
        for heard, row in zip(pieces, rows, strict=True):
            heard.append(row.take())
    _agree(rows, [np.concatenate(heard) for heard in pieces])


def test_rows_wait_for_a_free_slot_and_sound_as_alone() -> None:
    narrow = GptSovitsSynthesizer(view(parts()), PhonesGiven(), slots=2)
    rows = [narrow.admit(request) for request in _requests()]
    _agree(rows, run(narrow, rows))


@pytest.mark.parametrize("streaming", [True, False])
def test_a_stream_has_the_samples_of_the_whole(streaming: bool) -> None:
    text = words(9, phones=40)
    tokens, samples = say(_voice(), text, seed=9, streaming=streaming)
    other_tokens, other = say(_voice(), text, seed=9, streaming=not streaming)
    assert tokens == other_tokens
    assert np.array_equal(samples, other)


def test_the_first_sound_comes_after_a_dozen_tokens() -> None:
    row = _voice().admit(SynthesisRequest(text=words(2, phones=40), streaming=True))
    steps = 0
    while not len(row.take()):
        _voice().step([row])
        steps += 1
    assert not row.done
    assert steps <= 14
    assert len(row.tokens) == 12
    row.close()


def test_every_token_becomes_40_ms_and_each_fragment_ends_in_silence() -> None:
    tokens, samples = say(_voice(), words(4, fragments=2), seed=4)
    assert len(samples) == 1280 * len(tokens) + 2 * GAP
    assert not samples[-GAP:].any()
    assert float(np.abs(samples).max()) <= 1.0


def test_another_seed_says_it_otherwise_and_the_same_seed_says_it_again() -> None:
    first, again, other = (say(_voice(), words(2), seed=seed) for seed in (1, 1, 2))
    assert first[0] == again[0]
    assert np.array_equal(first[1], again[1])
    assert first[0] != other[0]


@pytest.mark.parametrize("speed", [0.5, 1.7, 4.0])
def test_speed_changes_the_length_and_not_the_tokens(speed: float) -> None:
    tokens, samples = say(_voice(), words(3), seed=3, speed=speed)
    assert tokens == say(_voice(), words(3), seed=3)[0]
    assert len(samples) == 640 * (int(2 * len(tokens) / speed) + 1) + GAP


@pytest.mark.parametrize("speed", [1.0, 1.25])
def test_decoded_as_a_whole_a_fragment_is_what_the_network_decodes_at_once(speed: float) -> None:
    request = {"seed": 6, "speed": speed, "options": {"decode": "whole"}}
    tokens, samples = say(_endless(), words(6, phones=60), **request)
    network = sovits_network(view(parts()).parts[SOVITS])
    known = reference()
    assert known.speaker is not None
    frames = 2 * len(tokens) if speed == 1 else int(2 * len(tokens) / speed) + 1
    noise = normals(row_key(6, Stream.NOISE), first=0, count=frames, channels=network.config.inter_channels)
    condition = network.condition([known.spectrogram], [known.speaker])
    ids = PhonesGiven().read_reference(words(6, phones=60), "en").ids
    at_once = network.decode(torch.tensor(tokens), torch.tensor(ids), condition, noise=noise, speed=speed)
    assert frames > 128, "long enough to come in pieces"
    assert float(np.abs(samples[:-GAP] - at_once.samples.numpy()).max()) <= 1e-5


def test_chunks_meet_without_a_click() -> None:
    """Where two chunks meet, neighbouring samples are no further apart than elsewhere."""
    tokens, samples = say(_endless(), words(7, phones=60), seed=8)
    jumps = np.abs(np.diff(samples[: 1280 * len(tokens)]))
    meets = np.zeros(len(jumps), bool)
    for boundary in (2 * 12 - 8, 2 * 28 - 8, 2 * 60 - 8):
        meets[640 * boundary - 64 : 640 * (boundary + 2) + 64] = True
    assert float(jumps[meets].max()) <= float(jumps[~meets].max())
    assert float(jumps[meets].mean()) <= 1.5 * float(jumps[~meets].mean())


def test_a_voice_without_prompt_tokens_speaks() -> None:
    tokens, samples = say(build(prompt=0), words(5), seed=5)
    assert len(samples) == 1280 * len(tokens) + GAP


def test_a_v2_voice_speaks() -> None:
    tokens, samples = say(build(version="v2"), words(5), seed=5)
    assert len(samples) == 1280 * len(tokens) + GAP


def test_a_fragment_that_never_ends_is_capped() -> None:
    row = _endless().admit(SynthesisRequest(text=words(1)))
    run(_endless(), [row])
    assert row.capped
    assert len(row.tokens) == 100


def test_a_row_that_cannot_be_computed_fails_alone() -> None:
    rows = [_voice().admit(request) for request in _requests()]
    broken = _voice().admit(SynthesisRequest(text="3 4 5 99999"))
    heard = run(_voice(), [broken, *rows])
    assert isinstance(broken.error, IndexError)
    _agree(rows, heard[1:])


def test_a_text_that_is_too_long_for_a_slot_is_refused_with_the_figures() -> None:
    row = _voice().admit(SynthesisRequest(text=" ".join(["5"] * 1200)))
    run(_voice(), [row])
    with pytest.raises(SynthesisError, match="may need 2734 positions and a slot holds 2560"):
        raise row.error or AssertionError


def test_weights_that_are_not_numbers_fail_at_once_instead_of_at_the_cap() -> None:
    prepared = parts()
    prepared[GPT].tensors["model.h.layers.1.linear1.weight"][0] = np.nan
    voice = GptSovitsSynthesizer(view(prepared), PhonesGiven())
    row = voice.admit(SynthesisRequest(text=words(1)))
    run(voice, [row])
    assert isinstance(row.error, SynthesisError)
    assert len(row.tokens) == 0


def test_a_row_that_leaves_makes_room_and_others_go_on() -> None:
    rows = [_voice().admit(request) for request in _requests()]
    leaver = _voice().admit(SynthesisRequest(text=words(30)))
    for _ in range(5):
        _voice().step([leaver, *rows])
    heard = [[row.take()] for row in rows]
    leaver.close()
    leaver.close()
    assert leaver.done
    for row, rest, pieces in zip(rows, run(_voice(), rows), heard, strict=True):
        assert row.done
        pieces.append(rest)
    _agree(rows, [np.concatenate(pieces) for pieces in heard])


@pytest.mark.parametrize("dtype", [T2SDtype.BF16, T2SDtype.INT8])
def test_packed_voices_speak_alike_in_any_company(dtype: T2SDtype) -> None:
    voice = build(dtype=dtype, options={"dtype": dtype.value})
    alone = [say(voice, request.text, seed=request.seed)[0] for request in _requests()[:3]]
    rows = [voice.admit(request) for request in _requests()[:3]]
    run(voice, rows)
    assert [list(row.tokens) for row in rows] == alone


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"top_k": 0}, "top_k is 0; expected a number from 1 to 1025"),
        ({"top_k": 2.5}, "top_k is 2.5; expected a whole number"),
        ({"fragment_interval": 3.5}, "fragment_interval is 3.5; expected a number from 0 to 3"),
        ({"text_split_method": "cut9"}, "text_split_method is 'cut9'; expected one of 'cut5', 'cut0'"),
        ({"top_p": 2}, "top_p is 2"),
        ({"temperature": "hot"}, "temperature is 'hot'"),
        ({"speed": True}, "speed is True"),
        ({"decode": "later"}, "decode is 'later'; expected one of 'chunks', 'whole'"),
        ({"tempo": 1}, "no option 'tempo'"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(OptionRejected, match=complaint) as refused:
        _voice().admit(SynthesisRequest(text=words(1), options=options))
    assert refused.value.option == next(iter(options))
    with pytest.raises(InvalidVoiceModel, match=complaint):
        GptSovitsEngine(front_end=PhonesGiven()).build(view({}, **options), Device())


def test_a_request_cannot_change_how_its_voice_is_served() -> None:
    with pytest.raises(OptionRejected, match="no option 'dtype'"):
        _voice().admit(SynthesisRequest(text=words(1), options={"dtype": "fp32"}))


def test_the_silence_between_fragments_is_what_was_asked_for() -> None:
    text = words(4, fragments=2)
    usual, none, long = (
        say(_voice(), text, seed=4, options=options)
        for options in ({}, {"fragment_interval": 0}, {"fragment_interval": 1.5})
    )
    assert usual[0] == none[0] == long[0]
    assert len(usual[1]) - 2 * GAP == len(none[1]) == len(long[1]) - 2 * int(1.5 * SAMPLE_RATE)


def test_the_front_end_is_told_where_to_cut_and_the_request_goes_before_the_voice() -> None:
    class Noting(PhonesGiven):
        def __init__(self) -> None:
            self.cuts: list[str] = []

        @override
        def read(self, text: str, language: str, *, cut: str = "cut5") -> Sequence[Spoken]:
            self.cuts.append(cut)
            return super().read(text, language, cut=cut)

    noting = Noting()
    voice = GptSovitsSynthesizer(view(parts(), text_split_method="cut2"), noting)
    voice.admit(SynthesisRequest(text="1 2 3")).close()
    voice.admit(SynthesisRequest(text="1 2 3", options={"text_split_method": "cut0"})).close()
    assert noting.cuts == ["cut2", "cut0"]


def test_a_text_that_the_front_end_refuses_is_refused() -> None:
    with pytest.raises(TextRejected):
        _voice().admit(SynthesisRequest(text=" "))
