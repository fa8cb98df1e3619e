"""Who speaks: the same answer for the same listener everywhere, and never a revision of another voice."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.memory import NARRATOR, revision_ref

from segue.errors import MemoryError_
from segue.memory.admission import Choice, Cold, Role, Unresolvable, choose, chooses_candidate, listener_key, pinned
from segue.memory.messages import Consistency, VoiceName
from segue.memory.page import COLD, Mode, Word

ACTIVE, CANDIDATE = revision_ref(handle=1), revision_ref(handle=2)
TABLE = {1: ACTIVE, 2: CANDIDATE}


def chosen(word: Word, **changes: Any) -> Choice:
    arguments: dict[str, Any] = {"voice": NARRATOR, "table": TABLE, "key": b"k", "heartbeat_age_s": 0.0} | changes
    choice = choose(word, **arguments)
    assert isinstance(choice, Choice)
    return choice


def split(weight: int, *, mode: Mode = Mode.SPLIT) -> Word:
    return Word(active=1, candidate=2, weight=weight, mode=mode)


def test_without_a_candidate_the_active_revision_speaks() -> None:
    choice = chosen(Word(active=1))
    assert (choice.speaker, choice.role, choice.mirror, choice.stale) == (ACTIVE, Role.ACTIVE, None, False)


def test_the_whole_weight_is_everybody_and_none_is_nobody() -> None:
    for number in range(100):
        assert chosen(split(10_000), key=b"%d" % number).role is Role.CANDIDATE
        assert chosen(split(0), key=b"%d" % number).role is Role.ACTIVE


def test_a_mirrored_candidate_gets_a_copy_and_never_the_listener() -> None:
    choice = chosen(split(10_000, mode=Mode.MIRROR))
    assert (choice.speaker, choice.mirror) == (ACTIVE, CANDIDATE)


def test_a_dead_sidecars_experiment_stops() -> None:
    assert chosen(split(10_000), heartbeat_age_s=60.0).role is Role.CANDIDATE
    assert chosen(split(10_000), heartbeat_age_s=60.1).role is Role.ACTIVE
    assert chosen(split(10_000, mode=Mode.MIRROR), heartbeat_age_s=61).mirror is None


def test_a_cold_voice_is_cold() -> None:
    assert choose(COLD, voice=NARRATOR, table=TABLE, key=b"", heartbeat_age_s=0) == Cold()


def test_an_unknown_handle_falls_back_to_the_last_word_that_could_be_resolved() -> None:
    choice = chosen(Word(active=9), last_resolvable=Word(active=1, epoch=3))
    assert (choice.speaker, choice.stale, choice.word.epoch) == (ACTIVE, True, 3)


@pytest.mark.parametrize("last", [None, Word(active=8)])
def test_an_unknown_handle_without_such_a_word_cannot_be_served(last: Word | None) -> None:
    word = Word(active=9)
    found = choose(word, voice=NARRATOR, table=TABLE, key=b"", heartbeat_age_s=0, last_resolvable=last)
    assert found == Unresolvable(9)


def test_an_unknown_candidate_gets_nothing() -> None:
    word = Word(active=1, candidate=9, weight=10_000)
    assert chosen(word).speaker == ACTIVE


@pytest.mark.parametrize("word", [Word(active=3), Word(active=1, candidate=3, weight=10_000)])
def test_a_revision_of_another_voice_is_never_spoken_with(word: Word) -> None:
    table = {**TABLE, 3: revision_ref(handle=3, voice=VoiceName("other", "narrator"))}
    with pytest.raises(MemoryError_, match="other/narrator: not served"):
        chosen(word, table=table)


@given(st.binary(max_size=64), st.integers(0, 10_000), st.integers(0, 10_000))
def test_raising_the_weight_only_adds_listeners(key: bytes, one: int, two: int) -> None:
    low, high = sorted((one, two))
    if chooses_candidate(candidate=CANDIDATE.revision, key=key, weight=low):
        assert chooses_candidate(candidate=CANDIDATE.revision, key=key, weight=high)


def test_the_share_of_listeners_is_the_weight() -> None:
    keys = [b"listener %d" % number for number in range(20_000)]
    share = sum(chooses_candidate(candidate=CANDIDATE.revision, key=key, weight=500) for key in keys) / len(keys)
    assert share == pytest.approx(0.05, abs=0.006)


def test_the_hash_is_a_contract_between_pods_of_all_versions() -> None:
    """Changing it would make every listener of an open canary hear another version after an upgrade."""
    keys = [b"session\0listener %d" % number for number in range(32)]
    drawn = [chooses_candidate(candidate="00" * 32, key=key, weight=5000) for key in keys]
    assert "".join("01"[one] for one in drawn) == "10010111100010010001110010000111"


def test_a_listener_is_known_by_the_best_that_is_there() -> None:
    everything = {"session": "s", "user": "u", "api_key": "k", "client": "c", "request_id": "r"}
    keys = []
    for name in ("session", "user", "client", "request_id"):
        keys.append(listener_key(**everything))  # type: ignore[arg-type]
        everything[name] = ""
    assert keys == [b"session\0s", b"user\0u", b"client\0k\0c", b"request\0r"]


def test_per_utterance_every_request_is_a_listener_of_its_own() -> None:
    assert listener_key(request_id="r", session="s", consistency=Consistency.UTTERANCE) == b"request\0r"


def test_a_pin_names_exactly_one_resident_revision_of_the_voice() -> None:
    digests = {1: "ab" * 32, 2: "ab" * 5 + "cd" * 27}
    table = {
        handle: type(ACTIVE)(voice=NARRATOR, slot=0, handle=handle, revision=digest, engine="demo", parts=ACTIVE.parts)
        for handle, digest in digests.items()
    }

    def speaker(pin: str, *, voice: VoiceName = NARRATOR) -> int | None:
        choice = pinned(pin, voice=voice, word=Word(active=1), table=table)
        return choice.speaker.handle if choice else None

    assert speaker(digests[2]) == 2
    assert speaker(digests[2][:11]) == 2
    assert speaker(digests[1][:10]) is None
    assert speaker(digests[1][:9]) is None
    assert speaker("0" * 64) is None
    assert speaker(digests[2], voice=VoiceName("other", "narrator")) is None
