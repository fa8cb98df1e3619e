"""Voices get names that Kubernetes takes, the same ones each time, no two alike."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.model.spec import NAME_PATTERN
from segue_cli.importing.names import Called, distinct_labels


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("narrator", "narrator"),
        ("Narrator_2 (final)", "narrator-2-final"),
        ("派蒙", "paimeng"),
        ("みさき", "misaki"),
        ("ﾃｽﾄ", "tesuto"),
        ("김민지", "gimminji"),
        ("Éléonore", "eleonore"),
        ("007", "007"),
        ("--x--", "x"),
        ("。、！", "voice-"),
        ("a" * 80, "a" * 63),
    ],
)
def test_a_name_is_spelled_in_ascii(name: str, label: str) -> None:
    found = Called(name).label
    assert found == label or (label == "voice-" and re.fullmatch(r"voice-[0-9a-f]{8}", found))


def test_an_ending_is_never_cut() -> None:
    assert Called("narrator", "v2Pro").label == "narrator-v2pro"
    long = Called("a" * 80, "v2ProPlus").label
    assert long.endswith("-v2proplus")
    assert len(long) == 63


def test_the_one_that_was_spelled_so_keeps_its_name() -> None:
    labels = distinct_labels([Called("Paimeng"), Called("派蒙"), Called("paimeng"), Called("other")])
    assert labels[Called("paimeng")] == "paimeng"
    assert labels[Called("other")] == "other"
    assert re.fullmatch(r"paimeng-[0-9a-f]{6}", labels[Called("派蒙")])
    assert len(set(labels.values())) == 4


def test_where_none_was_spelled_so_none_has_the_plain_name() -> None:
    labels = distinct_labels([Called("Paimeng"), Called("派蒙")])
    assert "paimeng" not in labels.values()
    assert (
        labels[Called("派蒙")]
        == distinct_labels([Called("派蒙"), Called("Paimeng"), Called("paimeng")])[Called("派蒙")]
    )


_called = st.builds(Called, st.text(max_size=80), st.sampled_from(["", "v2", "v2Pro", "V2 pro"]))


@settings(deadline=None)
@given(st.lists(_called, max_size=12))
def test_any_names_become_valid_and_distinct(called: list[Called]) -> None:
    labels = distinct_labels(called)
    assert labels.keys() == set(called)
    assert len(set(labels.values())) == len(labels)
    assert all(re.fullmatch(NAME_PATTERN, label) for label in labels.values())
    assert labels == distinct_labels(reversed(called))
