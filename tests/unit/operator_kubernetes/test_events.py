"""Kubernetes Events: each line once, with a count; never in anybody's way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.unit.operator_kubernetes.scripted import ScriptedApi

from segue.rollout import Event
from segue_operator.kubernetes import events as module
from segue_operator.kubernetes.api import ApiRefused, ApiUnavailable, Body, ObjectConflict, ObjectNotFound
from segue_operator.kubernetes.events import NOTE_LIMIT, QUEUE_LIMIT, REPEAT_S, ClusterEvents

NARRATOR = {
    "apiVersion": "segue.dev/v1alpha1",
    "kind": "VoiceModel",
    "namespace": "voices",
    "name": "narrator",
    "uid": "uid-1",
}
FLIPPING = Event(reason="Flipping", message="2222222222 is ready on 3 pods")
HELD = Event(reason="Held", message="it is louder", warning=True)
WITHIN_S = 5.0


class Recorder:
    """Events as the API server has them, and a clock that is moved by hand."""

    def __init__(self) -> None:
        self.written: dict[str, Body] = {}
        self.fails: list[Exception] = []
        self.api = ScriptedApi(self._answer)
        self.monotonic_s = 0.0
        self.at = datetime(2026, 11, 20, tzinfo=UTC)
        self.events = ClusterEvents(
            api=self.api,
            regarding=lambda key: dict(NARRATOR) if key == "voices/narrator" else None,
            identity="host_1",
            now=lambda: self.at,
            monotonic=lambda: self.monotonic_s,
        )

    def _answer(self, verb: str, path: str, body: Any) -> Body:
        if self.fails:
            raise self.fails.pop(0)
        name = body["metadata"]["name"] if verb == "POST" else path.rsplit("/", 1)[1]
        if verb == "PATCH" and name not in self.written:
            raise ObjectNotFound(path)
        self.written[name] = {**self.written.get(name, {}), **body}
        return self.written[name]

    @property
    def notes(self) -> list[str]:
        return [body["note"] for body in self.written.values()]

    def say(self, *events: Event) -> None:
        for event in events:
            self.events.publish("voices/narrator", event)

    def passes(self, seconds: float) -> None:
        self.monotonic_s += seconds
        self.at += timedelta(seconds=seconds)


def posting(recorder: Recorder, *steps: tuple[Callable[[], None], Callable[[], bool]]) -> None:
    """Do each step while Events are posted, and wait for what must come of it."""

    async def main() -> None:
        task = asyncio.create_task(recorder.events.run())
        try:
            for step, holds in steps:
                step()
                async with asyncio.timeout(WITHIN_S):
                    while not holds():  # noqa: ASYNC110 - what is waited for is what the API server has
                        await asyncio.sleep(0.005)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())


def test_an_event_is_about_its_voice() -> None:
    recorder = Recorder()
    posting(recorder, (lambda: recorder.say(HELD), lambda: len(recorder.written) == 1))
    (body,) = recorder.written.values()
    assert body["regarding"] == NARRATOR
    assert body["metadata"]["namespace"] == "voices"
    assert (body["type"], body["reason"], body["action"], body["note"]) == ("Warning", "Held", "Held", "it is louder")
    assert (body["reportingController"], body["reportingInstance"]) == ("segue.dev/operator", "host_1")
    assert body["eventTime"] == "2026-11-20T00:00:00.000000Z"
    assert "series" not in body


def test_the_same_line_again_is_counted_on_the_first_one() -> None:
    recorder = Recorder()

    def again() -> None:
        recorder.passes(REPEAT_S)
        recorder.say(HELD, HELD)

    posting(
        recorder,
        (lambda: recorder.say(HELD), lambda: len(recorder.api.calls) == 1),
        (again, lambda: len(recorder.api.calls) == 2),
    )
    (body,) = recorder.written.values()
    assert body["series"] == {"count": 3, "lastObservedTime": "2026-11-20T00:00:30.000000Z"}


def test_another_line_does_not_wait_for_a_series_that_rests() -> None:
    recorder = Recorder()
    posting(
        recorder,
        (lambda: recorder.say(HELD), lambda: len(recorder.api.calls) == 1),
        (lambda: recorder.say(HELD, FLIPPING), lambda: len(recorder.api.calls) == 2),
    )
    assert [verb for verb, _, _ in recorder.api.calls] == ["POST", "POST"]
    assert recorder.notes == [HELD.message, FLIPPING.message]


def test_a_series_whose_event_has_expired_begins_anew() -> None:
    recorder = Recorder()

    def again() -> None:
        recorder.written.clear()
        recorder.passes(3600)
        recorder.say(HELD)

    posting(
        recorder,
        (lambda: recorder.say(HELD), lambda: len(recorder.written) == 1),
        (again, lambda: len(recorder.written) == 1),
    )
    (body,) = recorder.written.values()
    assert "series" not in body


def test_events_outlive_an_outage(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_S", 0.001)
    recorder = Recorder()
    recorder.fails = [ApiUnavailable("down")] * 3
    posting(recorder, (lambda: recorder.say(FLIPPING, HELD), lambda: len(recorder.written) == 2))
    assert sorted(recorder.notes) == sorted([FLIPPING.message, HELD.message])


def test_an_answer_that_got_lost_is_no_second_event(monkeypatch: Any) -> None:
    recorder = Recorder()
    recorder.fails = [ObjectConflict("exists already")]
    posting(recorder, (lambda: recorder.say(HELD), lambda: recorder.events.posted == 1))
    assert len(recorder.api.calls) == 1


def test_an_event_that_is_refused_holds_up_no_other() -> None:
    recorder = Recorder()
    recorder.fails = [ApiRefused("403", status=403)]
    posting(recorder, (lambda: recorder.say(FLIPPING, HELD), lambda: recorder.notes == [HELD.message]))


def test_what_finds_no_room_is_dropped_and_counted() -> None:
    recorder = Recorder()
    for number in range(QUEUE_LIMIT + 5):
        recorder.say(Event(reason="Flipping", message=str(number)))
    assert recorder.events.dropped == 5


def test_an_operator_that_may_lead_no_more_says_nothing_that_it_still_had_to_say() -> None:
    recorder = Recorder()
    recorder.events.may_post = lambda: False
    recorder.say(HELD)
    posting(recorder, (lambda: recorder.say(FLIPPING), lambda: recorder.events.dropped == 2))
    assert not recorder.written


def test_a_line_about_an_unknown_voice_is_only_logged() -> None:
    recorder = Recorder()
    recorder.events.publish("voices/other", HELD)
    recorder.events.publish(None, HELD)
    posting(recorder, (lambda: recorder.say(FLIPPING), lambda: recorder.notes == [FLIPPING.message]))


def test_a_long_message_fits() -> None:
    recorder = Recorder()
    posting(
        recorder,
        (lambda: recorder.say(Event(reason="R" * 500, message="é" * 2000)), lambda: len(recorder.written) == 1),
    )
    (body,) = recorder.written.values()
    assert len(body["note"].encode()) <= NOTE_LIMIT
    assert len(body["reason"]) == 128
