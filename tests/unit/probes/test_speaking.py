"""Sentences of a verification are said together, and what is wrong with one touches no other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from segue.engine import Row, SynthesisRequest
from segue.errors import TextRejected
from segue_engines.probes import Case, speak, speak_all

RATE_HZ = 1000
WANTED = [(Case(f"sentence {number}", "en"), seed) for number in range(7) for seed in (1, 2, 3)]


@dataclass
class CountingRow:
    """Says as many pieces as its text has letters; each piece is its seed."""

    request: SynthesisRequest
    steps: int = 0
    closed: bool = False
    error: Exception | None = None
    capped: bool = False
    tokens: Sequence[int] = ()
    phones: Sequence[str] = ()
    made: list[float] = field(default_factory=list)

    @property
    def done(self) -> bool:
        return self.steps >= len(self.request.text)

    def take(self) -> NDArray[np.float32]:
        made, self.made = self.made, []
        return np.array(made, np.float32)

    def close(self) -> None:
        self.closed = True


@dataclass
class CountingVoice:
    """Notes who was stepped together; a step with `culprit` in it raises."""

    culprit: str = ""
    unreadable: str = ""
    sample_rate: int = RATE_HZ
    rows: list[CountingRow] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)

    def admit(self, request: SynthesisRequest) -> Row:
        if request.text == self.unreadable:
            raise TextRejected("no", span=(0, 1))
        self.rows.append(CountingRow(request))
        return self.rows[-1]

    def step(self, rows: Sequence[Row]) -> None:
        self.batches.append(len(rows))
        for row in rows:
            assert isinstance(row, CountingRow)
            assert not row.closed
            if row.request.text == self.culprit:
                raise ZeroDivisionError("an engine's bug")
            row.steps += 1
            row.made.append(float(row.request.seed))

    def close(self) -> None:
        pass


def test_all_are_said_many_at_a_time_and_each_is_whole() -> None:
    voice = CountingVoice()
    clips = dict(speak_all(voice, WANTED))
    assert sorted(clips) == list(range(len(WANTED)))
    for place, (case, seed) in enumerate(WANTED):
        clip = clips[place]
        assert (clip.case, clip.seed, clip.error, clip.capped) == (case, seed, None, False)
        assert clip.audio.tolist() == [seed] * len(case.text)
    assert max(voice.batches) == 16
    assert len(voice.batches) == 2 * len("sentence 0"), "21 in batches of 16 take two turns, not 21"
    assert all(row.closed for row in voice.rows)


def test_who_ends_makes_room_for_the_next() -> None:
    voice = CountingVoice()
    wanted = [(Case("x" * length, "en"), 1) for length in (1, 9, 1, 9, 1)]
    ended = [place for place, _ in speak_all(voice, wanted, together=2)]
    assert ended == [0, 2, 1, 4, 3]
    assert voice.batches == [2] * 10 + [1]


@pytest.mark.parametrize("together", [1, 16])
def test_a_step_that_raises_is_held_against_the_culprit_alone(together: int) -> None:
    voice = CountingVoice(culprit="sentence 3", unreadable="sentence 5")
    clips = dict(speak_all(voice, WANTED, together=together))
    for place, (case, seed) in enumerate(WANTED):
        if case.text == "sentence 3":
            assert clips[place].error == "ZeroDivisionError: an engine's bug"
        elif case.text == "sentence 5":
            assert (clips[place].error or "").startswith("TextRejected")
        else:
            assert clips[place].audio.tolist() == [seed] * len(case.text)
    assert all(row.closed for row in voice.rows)


def test_nobody_is_left_open_when_the_listener_goes() -> None:
    voice = CountingVoice()
    saying = speak_all(voice, WANTED)
    next(saying)
    saying.close()
    assert all(row.closed for row in voice.rows)


def test_one_alone() -> None:
    voice = CountingVoice()
    assert speak(voice, Case("hey", "en"), 2).audio.tolist() == [2, 2, 2]
    assert set(voice.batches) == {1}
