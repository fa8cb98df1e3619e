"""What stands on the wire, letter for letter: a peer of another version has to read it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.contract.wire.exchanges import read_scene

from segue import wire
from segue.wire import (
    CanaryMode,
    Fence,
    PointerRequest,
    ProbeKind,
    ProbePhase,
    ProbeReport,
    ProbeRequest,
    RevisionPhase,
    StateDocument,
)

FENCES = st.builds(Fence, st.integers(0, 10**18 - 1), st.integers(0, 10**18 - 1))


# --- golden -----------------------------------------------------------------------------------------------------------


def test_headers_and_version_are_these() -> None:
    headers = {name: value for name, value in vars(wire).items() if name.startswith("HEADER_")}
    assert headers == {
        "HEADER_WIRE": "Segue-Wire",
        "HEADER_POD": "Segue-Pod",
        "HEADER_TERM": "Segue-Term",
        "HEADER_FENCE": "Segue-Fence",
        "HEADER_VOICE_UID": "Segue-Voice-Uid",
        "HEADER_NOW": "Segue-Now",
    }
    assert wire.WIRE_VERSION == 2


def test_a_fence_is_written_as_term_dot_sequence() -> None:
    assert str(Fence(1763800000, 17)) == "1763800000.17"
    assert Fence.parse("1763800000.17") == Fence(1763800000, 17)


@pytest.mark.parametrize(
    "text", ["", "1", "1.", ".1", "1.2.3", "-1.2", "1.2 ", " 1.2", "1.2\n", "1,2", "١.٢", "1" * 19 + ".1"]
)
def test_nothing_else_is_a_fence(text: str) -> None:
    with pytest.raises(ValueError, match=r"TERM\.SEQUENCE"):
        Fence.parse(text)


@given(FENCES, FENCES)
def test_fences_are_ordered_by_term_and_then_by_sequence(one: Fence, other: Fence) -> None:
    assert Fence.parse(str(one)) == one
    assert (one < other) == ((one.term, one.sequence) < (other.term, other.sequence))


# --- what a newer sidecar says ----------------------------------------------------------------------------------------


def recorded_state(name: str) -> dict[str, Any]:
    """A state that version 1 said."""
    (found,) = [each for each in read_scene(1, "life").exchanges if each.name == name]
    document: dict[str, Any] = json.loads(json.dumps(found.answer.body))
    return document


def test_phases_and_kinds_of_a_newer_sidecar_are_read_as_what_claims_the_least() -> None:
    document = recorded_state("state with a canary")
    (voice,) = document["voices"].values()
    voice["pointer"]["mode"] = "whisper"
    for revision in voice["revisions"].values():
        revision["phase"] = "Compiling"
        if revision["report"]:
            revision["report"] |= {"phase": "Paused", "kind": "glance"}
    read = StateDocument.model_validate(document).voices["default/narrator"]
    assert read.pointer.mode is CanaryMode.MIRROR
    assert {revision.phase for revision in read.revisions.values()} == {RevisionPhase.QUEUED}
    reports = [revision.report for revision in read.revisions.values() if revision.report]
    assert {(report.kind, report.phase) for report in reports} == {(ProbeKind.SENTENCE, ProbePhase.RUNNING)}


def test_an_armed_flip_of_a_newer_operator_does_not_hide_the_rest_of_the_state() -> None:
    document = recorded_state("state with an armed flip")
    (voice,) = document["voices"].values()
    voice["armed"] |= {"mode": "whisper", "consistency": "household", "novelty": 1}
    armed = StateDocument.model_validate_json(json.dumps(document)).voices["default/narrator"].armed
    assert armed is not None
    assert armed.active == voice["armed"]["active"]


KEYED_BY_DATA = frozenset({"voices", "revisions", "engineBuilds", "details"})
"""Objects whose keys are names, not fields."""


def with_novelties(value: Any, *, key: str = "") -> Any:
    """The same document with a field more in every object."""
    if isinstance(value, list):
        return [with_novelties(each) for each in value]
    if not isinstance(value, dict):
        return value
    more = {name: with_novelties(each, key=name) for name, each in value.items()}
    return more if key in KEYED_BY_DATA else {**more, "novelty": {"a": [1]}}


@pytest.mark.parametrize("name", ["state with a watch", "state with an armed flip", "state with a failed revision"])
def test_unknown_fields_are_ignored_at_every_depth(name: str) -> None:
    document = recorded_state(name)
    assert StateDocument.model_validate(with_novelties(document)) == StateDocument.model_validate(document)


# --- what a newer operator says ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["mode", "consistency"])
def test_a_command_with_an_unknown_enum_is_refused_and_not_guessed_at(field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        PointerRequest.model_validate({field: "whisper"})


def test_a_probe_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValidationError, match="kind"):
        ProbeRequest.model_validate({"kind": "glance", "terms": {"key": "k"}})
    assert ProbeReport.model_validate({"kind": "glance", "key": "k", "phase": "Passed"}).kind is ProbeKind.SENTENCE
