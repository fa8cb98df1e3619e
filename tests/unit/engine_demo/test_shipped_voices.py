"""The voices in examples/: each speaks, sounds like itself, and the faulty ones have the faults they are for."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from segue.engine import SynthesisRequest
from segue_engines.demo import DemoEngine
from segue_engines.demo.engine import DemoSynthesizer
from segue_engines.demo.weights import PROSODY, TIMBRE
from segue_engines.probes import embed, phone_error_rate, similarity
from segue_engines.speak import load_voice, synthesize

EXAMPLES = Path(__file__).parents[3] / "examples"
VOICES = ("narrator", "aria", "bert", "cleo")
UPDATES = ("v2", "broken", "fails-live")
STATEMENTS = (
    "The quick brown fox jumped over the lazy dog.",
    "Nobody noticed that the reader had changed in the middle of the sentence.",
    "On the third of May, the harbour was closed for nineteen hours.",
)
QUESTION = "Is this the way to the old harbour?"


@cache
def voice(folder: str) -> DemoSynthesizer:
    files = {half: EXAMPLES / folder / f"{half}.pth" for half in (PROSODY, TIMBRE)}
    built = load_voice(DemoEngine(), files)
    assert isinstance(built, DemoSynthesizer)
    return built


def folder_of(name: str) -> str:
    return f"voices/{name}/v1" if name in VOICES else f"updates/narrator/{name}"


@cache
def said(name: str) -> tuple[NDArray[np.float32], ...]:
    return tuple(synthesize(voice(folder_of(name)), SynthesisRequest(text=text)) for text in STATEMENTS)


@cache
def reference(name: str) -> NDArray[np.float32]:
    sound, rate_hz = soundfile.read(EXAMPLES / "voices" / name / "reference.wav", dtype="float32")
    assert len(sound) / rate_hz >= 12.0
    return embed(sound, rate_hz)


def error_rate(name: str) -> float:
    rows = [voice(folder_of(name)).admit(SynthesisRequest(text=text)) for text in STATEMENTS]
    rates = [phone_error_rate(sound, 24000, row.phones) for sound, row in zip(said(name), rows, strict=True)]
    return float(np.mean(rates))


@pytest.mark.parametrize("name", [*VOICES, "v2", "fails-live"])
def test_what_is_heard_is_what_was_asked_for(name: str) -> None:
    assert error_rate(name) < 0.12


def test_the_broken_version_says_something_else() -> None:
    assert error_rate("broken") > 0.5


@pytest.mark.parametrize("name", [*VOICES, *UPDATES])
def test_a_voice_sounds_like_its_reference_and_unlike_the_others(name: str) -> None:
    speaker = name if name in VOICES else "narrator"
    heard = embed(np.concatenate(said(name)), 24000)
    assert similarity(heard, reference(speaker)) > 0.9
    assert max(similarity(heard, reference(other)) for other in VOICES if other != speaker) < 0.75


def test_the_version_that_fails_live_breaks_on_questions_only() -> None:
    broken = voice(folder_of("fails-live"))
    assert np.isnan(synthesize(broken, SynthesisRequest(text=QUESTION))).any()
    assert all(np.isfinite(sound).all() for sound in said("fails-live"))


def test_an_update_can_be_told_from_the_version_before_it() -> None:
    before, after = said("narrator")[0], said("v2")[0]
    assert len(after) < 0.99 * len(before)


def test_no_two_halves_share_a_pilot_tone() -> None:
    pilots = [tone for name in (*VOICES, *UPDATES) for tone in voice(folder_of(name)).pilots_hz]
    assert len(set(pilots)) == 2 * (len(VOICES) + len(UPDATES))


def test_the_voices_name_files_that_are_there() -> None:
    for name in VOICES:
        manifest = (EXAMPLES / "voices" / f"{name}.yaml").read_text()
        uris = re.findall(r"uri: (\S+)", manifest)
        assert len(uris) == 3
        assert all((EXAMPLES / "voices" / uri).is_file() for uri in uris)
