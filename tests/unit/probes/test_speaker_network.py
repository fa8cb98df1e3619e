"""What the network that a voice carries says of its speaker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain, repeat

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.unit.probes.speech import CASES, RATE_HZ, BentVoice, reference

from segue.errors import SynthesisError
from segue_engines.probes import ProbeReport, run_probes
from segue_engines.probes.speaker_network import LONGEST_S, MOST_CLIPS, NAME

Audio = NDArray[np.float32]
Vector = NDArray[np.float32]


def spectral(audio: Audio, _rate: int) -> Vector:
    """Stands for a network: how the energy lies over eight bands."""
    power = np.abs(np.fft.rfft(audio)) ** 2
    return np.array([band.sum() for band in np.array_split(power, 8)], np.float32)


@dataclass
class Listening(BentVoice):
    """A voice that carries a network."""

    network: Callable[[Audio, int], Vector | None] = spectral
    heard: list[tuple[int, int]] = field(default_factory=list)

    def speaker_vector(self, audio: Audio, sample_rate: int) -> Vector | None:
        self.heard.append((audio.size, sample_rate))
        return self.network(audio, sample_rate)


def probed(voice: BentVoice, *, minimum: float | None = None, cases: int = 2, seeds: int = 1) -> ProbeReport:
    return run_probes(
        voice,
        cases=CASES[:cases],
        seeds=range(1, 1 + seeds),
        reference_audio=reference(),
        reference_rate=RATE_HZ,
        min_speaker_network=minimum,
    )


def gate(report: ProbeReport) -> tuple[bool | None, float | None, float | None]:
    (found,) = [each for each in report.gates if each.name == NAME]
    return found.passed, found.figure, found.limit


def test_it_is_shown_without_a_limit_and_refuses_nothing() -> None:
    passed, figure, limit = gate(probed(Listening(bend=lambda audio: audio[::-1].copy())))
    assert (passed, limit) == (None, None)
    assert figure is not None
    assert 0.5 < figure <= 1.0


def test_below_the_limit_the_version_is_refused() -> None:
    signs = chain((1,), repeat(-1))  # the reference is heard first
    report = probed(Listening(network=lambda audio, rate: spectral(audio, rate) * next(signs)), minimum=0.2)
    passed, figure, limit = gate(report)
    assert (passed, limit) == (False, 0.2)
    assert figure is not None
    assert figure < 0
    assert not report.passed


def test_each_recording_counts_alike_however_loud_it_is() -> None:
    loud = iter(range(1, 100))
    quiet = gate(probed(Listening()))
    uneven = gate(probed(Listening(network=lambda audio, rate: spectral(audio, rate) * next(loud))))
    assert uneven[1] == pytest.approx(quiet[1], abs=1e-5)


def test_a_bounded_part_of_a_bounded_number_of_clips_is_heard() -> None:
    voice = Listening(bend=lambda audio: np.tile(audio, 10))
    probed(voice, cases=len(CASES), seeds=3)
    assert len(voice.heard) == 1 + MOST_CLIPS < 3 * len(CASES)
    assert max(size for size, _ in voice.heard) == LONGEST_S * RATE_HZ


def test_a_voice_without_a_network_is_only_told_of_where_a_limit_asks_for_it() -> None:
    for voice in (BentVoice(), Listening(network=lambda _audio, _rate: None)):
        assert NAME not in {each.name for each in probed(voice).gates}
        assert gate(probed(voice, minimum=0.5)) == (None, None, 0.5)


def test_a_version_that_cannot_speak_has_no_figure() -> None:
    assert gate(probed(Listening(row_error=SynthesisError("broken")))) == (None, None, None)


def test_without_a_reference_there_is_nothing_to_be_alike_to() -> None:
    report = run_probes(Listening(), cases=CASES[:1], seeds=(1,))
    assert NAME not in {each.name for each in report.gates}
