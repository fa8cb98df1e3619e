"""What a VoiceModel may say, and what it is told when it says something else."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.voices import voice, voice_document

from segue.errors import InvalidVoiceModel
from segue.model import VoiceModel, defaulted
from segue.model.scalars import Amount, format_duration, format_percent, parse_duration, parse_percent


def refusal(**sections: Any) -> InvalidVoiceModel:
    with pytest.raises(InvalidVoiceModel) as caught:
        voice(**sections)
    return caught.value


def test_whoever_writes_nothing_gets_the_policy_of_the_original_wish() -> None:
    spec = voice().spec
    assert spec.verification.min_similarity == 0.9
    assert spec.verification.min_pass_ratio == 0.99
    assert (spec.rollout.canary.successes, spec.rollout.canary.max_error_rate) == (100, 0.001)
    assert (spec.watch.max_error_rate, spec.watch.sustained_for) == (0.01, timedelta(minutes=5))
    assert spec.rollback.keep_warm == timedelta(hours=24)


def test_a_document_survives_a_round_trip() -> None:
    document = defaulted(voice_document("v1", continuity={"maxLoudnessDelta": "2LU", "maxPitchDelta": "1.5st"}))
    assert defaulted(document) == document
    assert document["spec"]["rollout"]["preloadWaves"] == [1, "25%", "100%"]
    assert document["spec"]["continuity"]["maxPitchDelta"] == "1.5st"


@pytest.mark.parametrize(
    ("sections", "field", "words"),
    [
        ({"engine": "tacotron"}, "spec.engine", "'demo' or 'gpt-sovits'"),
        ({"wieghts": {}}, "spec.wieghts", "check the spelling"),
        ({"weights": {}}, "spec.weights", "at least 1"),
        ({"weights": {"a": {"uri": "x", "sha256": "abc"}}}, "spec.weights.a.sha256", "'abc'"),
        ({"options": {"speeds": [1]}}, "spec.options.speeds", "a boolean"),
        ({"verification": {"minSimilarity": 1.2}}, "spec.verification.minSimilarity", "auto"),
        ({"verification": {"minSimilarity": "often"}}, "spec.verification.minSimilarity", "'often'"),
        ({"verification": {"cases": [{"text": ""}]}}, "spec.verification.cases[0].text", "at least 1 character"),
        ({"continuity": {"maxLoudnessDelta": 2}}, "spec.continuity.maxLoudnessDelta", "2LU"),
        ({"continuity": {"maxPaceDelta": 0.1}}, "spec.continuity.maxPaceDelta", "such as 10%"),
        ({"rollout": {"preloadWaves": ["25"]}}, "spec.rollout.preloadWaves[0]", "25%"),
        ({"rollout": {"preloadWaves": [0]}}, "spec.rollout.preloadWaves", "at least one pod"),
        ({"rollout": {"canary": {"steps": ["50%", "5%"]}}}, "spec.rollout.canary.steps", "must rise"),
        ({"rollout": {"canary": {"steps": [5]}}}, "spec.rollout.canary.steps[0]", "write 5%"),
        ({"rollout": {"canary": {"successes": 0}}}, "spec.rollout.canary.successes", "greater than or equal to 1"),
        ({"rollout": {"canary": {"timeout": "soon"}}}, "spec.rollout.canary.timeout", "1h30m"),
        ({"rollout": {"progressDeadline": "0s"}}, "spec.rollout.progressDeadline", "1s to 24h"),
        (
            {"rollout": {"preloadWindow": {"schedule": "0 2 * *", "duration": "3h"}}},
            "spec.rollout.preloadWindow.schedule",
            "five cron fields",
        ),
        (
            {"rollout": {"switchWindow": {"schedule": "61 2 * * *", "duration": "3h"}}},
            "spec.rollout.switchWindow.schedule",
            "61",
        ),
        (
            {"rollout": {"switchWindow": {"schedule": "0 2 * * *", "duration": "3h", "timeZone": "Mars/Base"}}},
            "spec.rollout.switchWindow.timeZone",
            "Mars/Base",
        ),
        ({"watch": {"duration": "1m"}}, "spec.watch", "sustainedFor"),
        ({"watch": {"minErrors": 60}}, "spec.watch", "minErrors"),
        ({"watch": {"maxErrorRate": 0}}, "spec.watch.maxErrorRate", "greater than 0"),
        ({"rollback": {"mode": "Never"}}, "spec.rollback.mode", "'StatusOnly'"),
        ({"residency": {"tier": "lukewarm"}}, "spec.residency.tier", "'cold'"),
    ],
)
def test_a_mistake_is_answered_with_its_field_and_what_to_write(
    sections: dict[str, Any], field: str, words: str
) -> None:
    error = refusal(**sections)
    assert error.field == field
    assert words in str(error)


def test_a_name_is_needed() -> None:
    document = voice_document()
    del document["metadata"]["name"]
    with pytest.raises(InvalidVoiceModel, match=r"metadata\.name: is required"):
        VoiceModel.parse(document)


def test_a_status_of_a_newer_operator_is_read() -> None:
    document = voice_document() | {"status": {"phase": "Idle", "somethingNew": 1}}
    assert VoiceModel.parse(document).status.phase.value == "Idle"


@given(st.integers(0, 900_000))
def test_durations_are_written_as_they_are_read(seconds: int) -> None:
    assert parse_duration(format_duration(timedelta(seconds=seconds))) == timedelta(seconds=seconds)


@given(st.integers(0, 10_000))
def test_percentages_are_written_as_they_are_read(basis_points: int) -> None:
    assert parse_percent(format_percent(basis_points / 10_000)) == pytest.approx(basis_points / 10_000)


@pytest.mark.parametrize(
    ("amount", "total", "least", "most"),
    [
        (Amount(1), 10, 1, 1),
        (Amount(25, percent=True), 2, 1, 0),
        (Amount(10, percent=True), 25, 3, 2),
        (Amount(9), 4, 4, 4),
    ],
)
def test_waves_round_up_and_tolerances_round_down(amount: Amount, total: int, least: int, most: int) -> None:
    assert (amount.at_least(total), amount.at_most(total)) == (least, most)
