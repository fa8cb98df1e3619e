"""Patches and documents: plain values in, plain values out."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.api_server import merged
from tests.support.stored_voices import START, serving, stored

from segue.model import crd
from segue.model.edit import REMOVE
from segue_cli.cluster import api
from segue_cli.cluster.outlook import document, summary, unseen
from segue_cli.cluster.patching import changed, guarded, merge_patch
from segue_cli.cluster.place import split_digest

LEAVES = st.one_of(st.integers(), st.text(max_size=3), st.lists(st.integers(), max_size=2), st.booleans())
OBJECTS = st.recursive(
    st.dictionaries(st.sampled_from("abc"), LEAVES, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), st.one_of(LEAVES, inner), max_size=3),
)


@given(OBJECTS, OBJECTS)
def test_a_merge_patch_turns_one_object_into_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    patch = merge_patch(before, after)
    assert merged(before, patch) == after
    assert (patch == {}) == (before == after)


def test_fields_are_set_and_removed_in_a_copy() -> None:
    voice = stored()
    token = ("metadata", "annotations", "segue.dev/promote")
    after = changed(voice, {"spec.rollout.paused": True, token: "x", "spec.weights.acoustic.sha256": REMOVE})
    assert after["spec"]["rollout"]["paused"] is True
    assert after["metadata"]["annotations"] == {"segue.dev/promote": "x"}
    assert "sha256" not in after["spec"]["weights"]["acoustic"]
    assert "sha256" in voice["spec"]["weights"]["acoustic"]


def test_a_guarded_patch_is_for_exactly_one_version_of_one_object() -> None:
    assert guarded({"metadata": {"annotations": {"a": "b"}}}, stored())["metadata"] == {
        "annotations": {"a": "b"},
        "uid": "uid-of-default-narrator",
        "resourceVersion": "1",
    }


def test_paths_are_those_of_the_definition() -> None:
    assert (api.GROUP, api.VERSION, api.PLURAL) == (crd.GROUP, crd.VERSION, crd.PLURAL)


def test_what_the_operator_has_seen_needs_no_word() -> None:
    assert unseen(stored(status=serving("v1")), now=START) is None


@pytest.mark.parametrize(
    ("seen", "age_s", "words"),
    [
        (0, 3, "the operator has not looked at generation 2 in 3s"),
        (1, 3, "the operator has not looked at generation 2 in 3s (it has seen 1)"),
        (1, 300, "the operator has not looked at generation 2 in 5m (it has seen 1); is it running?"),
    ],
)
def test_an_operator_that_lags_is_asked_about(seen: int, age_s: int, words: str) -> None:
    voice = stored(generation=2, status=serving("v1", generation=seen) if seen else None)
    assert unseen(voice, now=START + timedelta(seconds=age_s)) == words


def test_writes_of_the_status_are_no_edits() -> None:
    voice = stored(generation=2)
    later = (START + timedelta(hours=1)).isoformat()
    voice["metadata"]["managedFields"].append({"manager": "segue", "subresource": "status", "time": later})
    assert "in 2h00m" in (unseen(voice, now=START + timedelta(hours=2)) or "")


def test_a_voice_without_a_status_is_shown() -> None:
    shown = summary(stored(), now=START)
    assert (shown["phase"], shown["reason"], shown["ready"]) == ("Idle", "NotSeen", False)


def test_events_of_both_generations_of_the_api_are_read() -> None:
    old = {
        "metadata": {"uid": "a"},
        "count": 3,
        "lastTimestamp": "2026-11-22T10:00:00Z",
        "reason": "R",
        "message": "m",
        "type": "Warning",
    }
    new = {
        "metadata": {"uid": "b"},
        "series": {"count": 2, "lastObservedTime": "2026-11-22T11:00:00.000000Z"},
        "eventTime": "2026-11-22T10:00:00.000000Z",
        "reason": "R",
        "note": "n",
    }
    first, second = document(stored(), context="dev", events=[old, new])["events"]
    assert (first["at"], first["message"], first["kind"]) == ("2026-11-22T10:00:00Z", "m (x3)", "Warning")
    assert (second["at"], second["message"], second["kind"]) == ("2026-11-22T11:00:00.000000Z", "n (x2)", "Normal")
    assert first["id"] != second["id"]


DIGEST = "ab" * 32


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (f"s3://voices/7.pth@{DIGEST}", ("s3://voices/7.pth", DIGEST)),
        (f"s3://voices/7.pth@{DIGEST.upper()}", ("s3://voices/7.pth", DIGEST)),
        ("s3://user@voices/7.pth", ("s3://user@voices/7.pth", None)),
        ("v2/timbre.pth", ("v2/timbre.pth", None)),
        (f"@{DIGEST}", (f"@{DIGEST}", None)),
    ],
)
def test_a_digest_stands_behind_the_last_at(text: str, parts: tuple[str, str | None]) -> None:
    assert split_digest(text) == parts
