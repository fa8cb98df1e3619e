"""Windows open and close by the wall clock of their own time zone."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from segue.model.window import Window, is_open, next_opening

SHANGHAI = Window.model_validate({"schedule": "0 2 * * *", "duration": "3h", "timeZone": "Asia/Shanghai"})
BERLIN = Window.model_validate({"schedule": "30 2 * * *", "duration": "1h", "timeZone": "Europe/Berlin"})


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-11-22T17:59:59", False),
        ("2026-11-22T18:00:00", True),  # two o'clock in Shanghai
        ("2026-11-22T20:59:59", True),
        ("2026-11-22T21:00:01", False),
    ],
)
def test_a_window_is_open_for_its_duration(now: str, expected: bool) -> None:
    assert is_open(SHANGHAI, at(now)) is expected


def test_no_window_is_always_open() -> None:
    assert is_open(None, at("2026-11-22T12:00:00"))


def test_the_next_opening_is_told_in_utc() -> None:
    assert next_opening(SHANGHAI, at("2026-11-22T12:00:00")) == at("2026-11-22T18:00:00")


def test_the_hour_that_is_skipped_in_spring_still_opens_the_window_that_day() -> None:
    opening = next_opening(BERLIN, at("2026-03-28T22:00:00"))
    assert opening is not None
    assert opening.date() == at("2026-03-29T00:00:00").date()


def test_a_day_that_never_comes_is_refused() -> None:
    with pytest.raises(ValidationError, match="names a day that none of its months has"):
        Window.model_validate({"schedule": "0 0 30 2 *", "duration": "1h"})
