"""Off-peak windows: when may a preload or a switch begin?

Separate from the spec because this is the one place where wall clocks, time zones and daylight saving enter; everything
else in the engine lives in UTC.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from pydantic import Field, field_validator

from segue.model.base import SpecModel, cel
from segue.model.scalars import Duration
from segue.model.schedule import PATTERN, check_schedule, rules


class Window(SpecModel):
    """A recurring span of time in which something may begin."""

    schedule: str = Field(
        description="When the window opens: five cron fields (minute hour day month weekday).",
        min_length=9,
        max_length=120,
        pattern=PATTERN,
        examples=["0 2 * * *"],
        json_schema_extra=cel(*rules()),
    )
    duration: Duration = Field(
        description="How long it stays open, from 1m to 168h.",
        json_schema_extra=cel(
            ("duration(self) >= duration('1m') && duration(self) <= duration('168h')", "duration must be 1m to 168h")
        ),
    )
    time_zone: str = Field(
        default="UTC",
        description="IANA time zone that the schedule is read in, daylight saving included.",
        max_length=64,
        pattern=r"^[A-Za-z][A-Za-z0-9_+/-]*$",
        examples=["Asia/Shanghai"],
        json_schema_extra=cel(
            (
                "self != 'Local' && timestamp('2026-01-01T00:00:00Z').getFullYear(self) > 0",
                "timeZone must be an IANA time zone, such as UTC or Asia/Shanghai",
            )
        ),
    )

    @field_validator("schedule", mode="before")
    @classmethod
    def _schedule_is_cron(cls, schedule: object) -> str:
        return check_schedule(schedule)

    @field_validator("duration")
    @classmethod
    def _duration_in_bounds(cls, duration: Duration) -> Duration:
        if not 60 <= duration.total_seconds() <= 168 * 3600:
            raise ValueError("must be 1m to 168h")
        return duration

    @field_validator("time_zone")
    @classmethod
    def _zone_is_known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"is no IANA time zone known here: {name!r}; examples: UTC, Asia/Shanghai") from error
        return name


def is_open(window: Window | None, now: datetime) -> bool:
    """Whether something may begin at `now`; no window is always open."""
    return window is None or _latest_opening_covers(window, now)


def next_opening(window: Window, now: datetime) -> datetime | None:
    """When the window opens next, in UTC; None for a schedule that never comes (30 February)."""
    return _next_tick(window.schedule, window.time_zone, now)


def _latest_opening_covers(window: Window, now: datetime) -> bool:
    opened = _next_tick(window.schedule, window.time_zone, now - window.duration)
    return opened is not None and opened <= now


@lru_cache(maxsize=4096)
def _next_tick(schedule: str, zone: str, after: datetime) -> datetime | None:
    local = after.astimezone(ZoneInfo(zone))
    try:
        return next(CronSim(schedule, local)).astimezone(after.tzinfo)
    except (StopIteration, CronSimError):
        return None
