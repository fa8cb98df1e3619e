"""The queue is bounded in requests and in work, so that nobody who is let in times out."""

from __future__ import annotations

import pytest

from segue_server.synthesis.failures import QueueFull
from segue_server.synthesis.studio import Backlog


def test_one_too_many_is_refused_with_a_time_to_come_back() -> None:
    backlog = Backlog(limit=2, max_wait_s=10)
    backlog.enter(10)
    backlog.enter(10)
    with pytest.raises(QueueFull) as refusal:
        backlog.enter(10)
    assert refusal.value.retry_after_s >= 1
    backlog.leave(10)
    backlog.enter(10)


def test_too_much_work_is_refused_even_in_few_requests() -> None:
    backlog = Backlog(limit=1000, max_wait_s=10)
    backlog.learn(busy_s=1.0, chars=100)
    backlog.enter(1100)
    assert backlog.wait_s() == pytest.approx(11)
    with pytest.raises(QueueFull, match="11 s of work"):
        backlog.enter(1)


def test_an_empty_queue_takes_a_text_of_any_length() -> None:
    backlog = Backlog(limit=1000, max_wait_s=10)
    backlog.learn(busy_s=1.0, chars=1)
    backlog.enter(4096)


def test_what_a_character_costs_is_learned_and_followed() -> None:
    backlog = Backlog(limit=10, max_wait_s=10)
    backlog.enter(100)
    assert backlog.wait_s() == 0
    for _ in range(50):
        backlog.learn(busy_s=2.0, chars=100)
    assert backlog.wait_s() == pytest.approx(2.0, rel=0.01)
