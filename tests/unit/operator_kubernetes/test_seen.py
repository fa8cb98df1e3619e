"""Which changes of a VoiceModel wake its loop, and that nothing is concluded from what is merely missing."""

from __future__ import annotations

import asyncio

import pytest
from tests.support.kubernetes_bodies import Body, spec, voice_body

from segue_operator.kubernetes.seen import SeenVoices

KEY = "voices/narrator"


def woken(seen: SeenVoices) -> frozenset[str]:
    """What is woken by now, without waiting."""

    async def main() -> frozenset[str]:
        try:
            return await asyncio.wait_for(seen.changed(), timeout=0.01)
        except TimeoutError:
            return frozenset()

    return asyncio.run(main())


def seen_with(*bodies: Body) -> SeenVoices:
    seen = SeenVoices()
    for body in bodies:
        seen.take(None, body)
    woken(seen)
    return seen


def test_a_new_voice_wakes() -> None:
    seen = SeenVoices()
    seen.take("ADDED", voice_body())
    assert woken(seen) == {KEY}
    assert woken(seen) == frozenset(), "once"


@pytest.mark.parametrize(
    "changed",
    [
        voice_body(version=2, generation=2, spec_=spec("b")),
        voice_body(version=2, annotations={"segue.dev/promote": "now"}),
        voice_body(version=2, uid="uid-2"),
    ],
)
def test_what_a_person_changes_wakes(changed: Body) -> None:
    seen = seen_with(voice_body())
    seen.take("MODIFIED", changed)
    assert woken(seen) == {KEY}


def test_our_own_status_write_wakes_nothing() -> None:
    seen = seen_with(voice_body())
    seen.take("MODIFIED", voice_body(version=2, status={"phase": "Watching"}))
    assert woken(seen) == frozenset()
    assert seen.bodies[KEY]["status"]["phase"] == "Watching"


def test_an_event_that_is_older_than_what_was_read_is_left_out() -> None:
    seen = seen_with(voice_body(version=10, generation=3, spec_=spec("c")))
    seen.take("MODIFIED", voice_body(version=9, generation=2, spec_=spec("b")))
    assert woken(seen) == frozenset()
    assert seen.bodies[KEY]["spec"] == spec("c")


def test_the_books_of_field_owners_are_not_kept() -> None:
    body = voice_body()
    body["metadata"]["managedFields"] = [{"manager": "kubectl"}]
    seen = seen_with(body)
    assert "managedFields" not in seen.bodies[KEY]["metadata"]


def test_a_deletion_only_wakes() -> None:
    seen = seen_with(voice_body())
    seen.take("DELETED", voice_body(version=2))
    assert woken(seen) == {KEY}
    assert KEY in seen.bodies


def test_the_deletion_of_an_earlier_object_of_that_name_says_nothing_of_this_one() -> None:
    seen = seen_with(voice_body(uid="uid-2", version=5))
    seen.take("DELETED", voice_body(uid="uid-1", version=4))
    assert woken(seen) == frozenset()


def test_what_a_list_lacks_is_looked_at_and_kept() -> None:
    seen = seen_with(voice_body(), voice_body("other"))
    assert seen.compare([voice_body("other")]) == frozenset()
    assert woken(seen) == {KEY}
    assert KEY in seen.bodies


def test_a_list_tells_what_a_watch_missed() -> None:
    seen = seen_with(voice_body(), voice_body("same"), voice_body("newer", version=9, generation=4))
    fresh = seen.compare(
        [
            voice_body(version=5, generation=2),
            voice_body("same"),
            voice_body("newer", version=8, generation=3),  # the list was read before the event came
            voice_body("unknown"),
        ]
    )
    assert fresh == {"voices/unknown"}
    assert woken(seen) == {KEY}
