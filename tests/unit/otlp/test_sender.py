"""Nobody waits for a receiver; what it does not take is bounded, counted and told; the end comes in time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

import pytest
from tests.support.otlp_settings import BATCH, DELAY_MS, QUEUE, settings

from segue.otlp.posting import NotTaken
from segue.otlp.sender import Sender
from segue.tracing import Kind, SpanOver

NEVER_MS = "3600000"
SOON_S = 20.0


def span(number: int) -> SpanOver:
    return SpanOver(1, number, 0, False, "x", Kind.INTERNAL, 1, 2, {}, "")


def by_number(spans: Sequence[SpanOver]) -> bytes:
    return ",".join(str(each.span) for each in spans).encode()


class Receiver:
    """Takes batches when it is let to; answers by `answer`."""

    def __init__(self, answer: Callable[[int], None] = lambda tries: None, *, is_open: bool = True) -> None:
        self.bodies: SimpleQueue[bytes] = SimpleQueue()
        self.gate = threading.Event()
        self._answer = answer
        self._tries = 0
        if is_open:
            self.gate.set()

    def post(self, body: bytes, timeout_s: float) -> None:
        self._tries += 1
        self.bodies.put(body)
        assert self.gate.wait(SOON_S)
        self._answer(self._tries)

    def next(self) -> bytes:
        return self.bodies.get(timeout=SOON_S)


def started(receiver: Receiver, **environment: str) -> Sender:
    return Sender(
        settings(**{DELAY_MS: NEVER_MS, **environment}), encode=by_number, post=receiver.post, first_pause_s=0.001
    )


def refuses(*, again: bool, times: int) -> Callable[[int], None]:
    def answer(tries: int) -> None:
        if tries <= times:
            raise NotTaken("answered 503", again=again)

    return answer


def test_a_full_batch_goes_at_once_and_a_rest_waits() -> None:
    receiver = Receiver()
    sender = started(receiver, **{BATCH: "3"})
    for number in range(1, 5):
        sender.put(span(number))
    assert receiver.next() == b"1,2,3"
    sender.close(within_s=SOON_S)
    assert receiver.next() == b"4"
    assert sender.dropped == 0


def test_a_rest_goes_after_the_delay() -> None:
    receiver = Receiver()
    sender = started(receiver, **{DELAY_MS: "10"})
    sender.put(span(1))
    assert receiver.next() == b"1"
    sender.close(within_s=SOON_S)


def test_a_receiver_that_hangs_holds_up_nobody_and_no_more_wait_than_have_room(
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiver = Receiver(is_open=False)
    sender = started(receiver, **{QUEUE: "4", BATCH: "2"})
    sender.put(span(1))
    sender.put(span(2))
    assert receiver.next() == b"1,2"  # it hangs now
    for number in range(3, 13):
        sender.put(span(number))
    assert (sender.waiting, sender.dropped) == (4, 6)
    receiver.gate.set()
    with caplog.at_level(logging.WARNING):
        sender.close(within_s=SOON_S)
    assert [receiver.next(), receiver.next()] == [b"3,4", b"5,6"]
    assert "6 spans dropped" in caplog.text
    assert sender.waiting == 0


def test_a_batch_that_was_not_taken_is_tried_again() -> None:
    receiver = Receiver(refuses(again=True, times=2))
    sender = started(receiver, **{BATCH: "1"})
    sender.put(span(1))
    assert [receiver.next() for _ in range(3)] == [b"1"] * 3
    sender.close(within_s=SOON_S)
    assert sender.dropped == 0


def test_a_batch_that_is_refused_for_good_is_counted_and_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    receiver = Receiver(refuses(again=False, times=2))
    sender = started(receiver, **{BATCH: "2"})
    for number in range(1, 7):
        sender.put(span(number))
    assert [receiver.next() for _ in range(3)] == [b"1,2", b"3,4", b"5,6"]
    sender.close(within_s=SOON_S)
    assert sender.dropped == 4
    told = [record.getMessage() for record in caplog.records]
    assert all("answered 503" in line for line in told)
    assert [line.split()[1] for line in told] == ["2", "4"], "the first at once, the last at the end"


def test_tries_end_with_the_time_that_a_batch_has() -> None:
    receiver = Receiver(refuses(again=True, times=1000))
    sender = started(receiver, **{BATCH: "1", "OTEL_EXPORTER_OTLP_TIMEOUT": "0.05"})
    sender.put(span(1))
    sender.put(span(2))
    while receiver.next() != b"2":
        pass
    sender.close(within_s=SOON_S)
    assert sender.dropped == 2


def test_what_cannot_be_encoded_is_dropped_and_the_next_batch_goes(caplog: pytest.LogCaptureFixture) -> None:
    receiver = Receiver()

    def encode(spans: Sequence[SpanOver]) -> bytes:
        if spans[0].span == 1:
            raise TypeError("a value of no type")
        return by_number(spans)

    sender = Sender(settings(**{DELAY_MS: NEVER_MS, BATCH: "1"}), encode=encode, post=receiver.post)
    sender.put(span(1))
    sender.put(span(2))
    assert receiver.next() == b"2"
    sender.close(within_s=SOON_S)
    assert sender.dropped == 1
    assert "a value of no type" in caplog.text


def test_the_end_waits_no_longer_than_it_is_told_to(caplog: pytest.LogCaptureFixture) -> None:
    receiver = Receiver(is_open=False)
    sender = started(receiver)
    sender.put(span(1))
    began_s = time.monotonic()
    sender.close(within_s=0.05)
    assert time.monotonic() - began_s < SOON_S / 2
    assert "not sent in time" in caplog.text
    receiver.gate.set()


def test_at_the_end_a_batch_is_tried_once_and_what_comes_later_is_dropped() -> None:
    receiver = Receiver(refuses(again=True, times=1000))
    sender = started(receiver)
    sender.put(span(1))
    sender.close(within_s=SOON_S)
    sender.put(span(2))
    assert receiver.next() == b"1"
    with pytest.raises(Empty):
        receiver.bodies.get_nowait()
    assert sender.dropped == 2
