"""The desired set as it stands in ConfigMaps: written by one version, read by another, found by its shard."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.desired import (
    MAX_KEY_LENGTH,
    SHARDS,
    DesiredEntry,
    InvalidEntry,
    config_map_name,
    data_key,
    shard_of,
)
from segue.wire import Fence, FileSource, ReferenceSource, RevisionRequest, SignatureDemand, Tier

VOICES = st.builds(
    "{}/{}".format,
    st.from_regex(r"[a-z][-a-z0-9]{0,62}", fullmatch=True),
    st.from_regex(r"[a-z][-a-z.]*", fullmatch=True),
)


def entry(**changes: object) -> DesiredEntry:
    """An entry as large as a real one."""
    request = RevisionRequest(
        engine="gpt-sovits",
        options={"language": "en", "speed": 1.0},
        weights={
            "gpt": FileSource(uri="s3://voices/narrator/7.ckpt", sha256="ab" * 32),
            "sovits": FileSource(uri="s3://voices/narrator/7.pth", sha256="cd" * 32),
        },
        reference=ReferenceSource(uri="s3://voices/narrator/ref.wav", sha256="ef" * 32, text="Good evening."),
        signature=SignatureDemand(required=True),
        tier=Tier.WARM,
    )
    fields = {"voice": "team-a/narrator", "uid": "u-1", "fence": "1763800000.17", "revision": "12" * 32}
    return DesiredEntry.model_validate({**fields, "request": request, **changes})


def test_what_is_written_is_read_again() -> None:
    assert DesiredEntry.from_json(entry().to_json()) == entry()
    assert entry().order == Fence(1763800000, 17)


def test_an_entry_is_small_enough_for_a_thousand_in_a_config_map() -> None:
    assert len(entry().to_json()) < 1000


def test_fields_of_a_newer_operator_are_ignored() -> None:
    document = json.loads(entry().to_json())
    document["novelty"] = {"a": 1}
    document["request"]["novelty"] = 2
    assert DesiredEntry.from_json(json.dumps(document)) == entry()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"voice": "narrator"}, "voice"),
        ({"fence": "17"}, "fence"),
        ({"fence": "1.2\n"}, "fence"),
        ({"revision": "12"}, "revision"),
        ({"uid": ""}, "uid"),
        ({"request": {"engine": "demo", "weights": {}}}, "request.weights"),
    ],
)
def test_a_field_that_does_not_hold_is_named(change: dict[str, object], named: str) -> None:
    document = {**json.loads(entry().to_json()), **change}
    with pytest.raises(InvalidEntry, match=named):
        DesiredEntry.from_json(json.dumps(document))


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(InvalidEntry, match="document"):
        DesiredEntry.from_json(b"\xff\x00 not json")


def test_shards_are_those_of_the_first_release() -> None:
    """A voice that moved to another shard would be in two ConfigMaps: these numbers may never change."""
    assert [shard_of(f"default/voice-{number}") for number in range(6)] == [29, 11, 10, 0, 29, 21]
    assert config_map_name("default", 7) == "segue-desired-default-7"


@given(VOICES)
def test_every_voice_has_a_shard_and_a_key_that_a_config_map_takes(voice: str) -> None:
    assert 0 <= shard_of(voice) < SHARDS
    assert len(data_key(voice)) <= MAX_KEY_LENGTH
    assert "/" not in data_key(voice)


@given(VOICES, VOICES)
def test_two_voices_never_share_a_key(one: str, other: str) -> None:
    assert (data_key(one) == data_key(other)) == (one == other)


def test_a_name_that_is_too_long_goes_by_its_digest() -> None:
    long = f"team-a/{'x' * 253}"
    assert data_key(long).startswith("team-a.sha256-")
    assert data_key("team-a/narrator.v2") == "team-a.narrator.v2"
