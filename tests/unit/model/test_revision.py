"""What makes two versions the same. The golden hashes must never change: a thousand voices would roll."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.voices import digest, voice, voice_document

from segue.errors import InvalidVoiceModel
from segue.model import VoiceModel, missing_digests, revision_of, source_of, with_digests

GOLDEN: dict[str, tuple[dict[str, Any], str]] = {
    "weights only": (
        {},
        "1f6a0871e9f514ab6ebfb991749c5fe45f851b91c0a612d4e74f57ea364a9d08",
    ),
    "options": (
        {"options": {"language": "en", "speed": 1.25, "warm": True}},
        "985ac140bc08cd58af459e1bbd3e54ea280cb88c34d5b2f7b8798742c1d96bda",
    ),
    "reference": (
        {"reference": {"uri": "s3://b/r.wav", "sha256": "b" * 64, "text": "Grüße", "language": "de"}},
        "990a43fc9f4f67511d822211896ebfe8e7f0388ce2f3ccc8376e796925709a67",
    ),
    "two weights": (
        {
            "engine": "gpt-sovits",
            "weights": {"gpt": {"uri": "a", "sha256": "c" * 64}, "sovits": {"uri": "b", "sha256": "d" * 64}},
        },
        "d351076881b2958d81d1e8d86988f8ac422b8e4ce957252cf7a63d9e83da40d9",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_revisions(name: str) -> None:
    sections, expected = GOLDEN[name]
    assert revision_of(voice("v1", **sections).spec) == expected


def same(left: VoiceModel, right: VoiceModel) -> bool:
    return revision_of(left.spec) == revision_of(right.spec)


@pytest.mark.parametrize(
    "sections",
    [
        {"weights": {"acoustic": {"uri": "s3://moved", "sha256": digest("v1")}}},
        {"options": {}},
        {"watch": {"duration": "1h"}},
        {"verification": {"minSimilarity": 0.95}},
        {"rollout": {"paused": True}},
        {"residency": {"tier": "cold"}},
        {"fleet": "other"},
    ],
)
def test_what_is_not_heard_makes_no_revision(sections: dict[str, Any]) -> None:
    assert same(voice("v1"), voice("v1", **sections))


@pytest.mark.parametrize(
    "sections",
    [
        {"weights": {"acoustic": {"uri": "file:///voices/v1.npz", "sha256": digest("other")}}},
        {"weights": {"vocoder": {"uri": "file:///voices/v1.npz", "sha256": digest("v1")}}},
        {"options": {"speed": 1.1}},
        {"reference": {"uri": "r", "sha256": "e" * 64}},
        {"engine": "gpt-sovits"},
    ],
)
def test_what_is_heard_makes_one(sections: dict[str, Any]) -> None:
    assert not same(voice("v1"), voice("v1", **sections))


def test_whole_floats_and_integers_are_one_number() -> None:
    assert same(voice("v1", options={"speed": 1}), voice("v1", options={"speed": 1.0}))


def test_true_is_not_one() -> None:
    assert not same(voice("v1", options={"warm": True}), voice("v1", options={"warm": 1}))


def test_a_file_without_a_digest_is_named() -> None:
    document = voice_document("v1")
    del document["spec"]["weights"]["acoustic"]["sha256"]
    bare = VoiceModel.parse(document)
    assert missing_digests(bare.spec) == {"weights.acoustic": "file:///voices/v1.npz"}
    with pytest.raises(InvalidVoiceModel, match=r"spec\.weights\.acoustic\.sha256: is required"):
        revision_of(bare.spec)
    assert same(with_digests(bare, {"weights.acoustic": digest("v1")}), voice("v1"))


def test_digests_that_were_written_down_win_over_computed_ones() -> None:
    pinned = voice("v1")
    assert same(with_digests(pinned, {"weights.acoustic": "f" * 64}), pinned)


def test_the_source_of_a_revision_brings_it_back() -> None:
    original = voice("v1", options={"speed": 1.2}, reference={"uri": "r", "sha256": "e" * 64, "text": "hi"})
    source = source_of(original.spec)
    fields = {"weights": source.weights, "reference": source.reference, "options": source.options}
    assert revision_of(voice("v2").spec.model_copy(update=fields)) == source.revision
