"""What may stand in a cron schedule, said once: as Python for `segue validate`, as CEL for the API server.

Separate from `window.py`, which asks when a schedule comes: CronSim answers that and accepts more than can be said in
CEL, so both sides hold a schedule to the grammar below.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from cronsim import CronSim, CronSimError

PATTERN = r"^\S+( +\S+){4}$"
"""Five fields; what stands in them is in `rules`."""

_DAYS = "SUN MON TUE WED THU FRI SAT"
_MONTHS = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One of the five.

    Attributes
    ----------
    numbers, names
        What a value may be, as regular expressions; names are in upper case.
    special
        Items that take no range and no step.
    hint
        For people.
    """

    name: str
    numbers: str
    hint: str
    names: str = ""
    special: tuple[str, ...] = ()

    @property
    def item(self) -> str:
        """What may stand between two commas: `*`, a value or a range, with a step or without, or a special item."""
        kinds = [rf"({self.numbers})(-({self.numbers}))?"]
        if self.names:
            one = f"({self.names.replace(' ', '|')})"
            kinds.append(f"{one}(-{one})?")
        plain = f"([*]|{'|'.join(kinds)})(/[1-9][0-9]?)?"
        return f"^({'|'.join((plain, *self.special))})$"

    @property
    def message(self) -> str:
        return f"schedule must have a {self.name} {self.hint}"


_DAY = "0?[0-7]"
_PARTS = (
    _Part(name="minute", numbers="[0-5]?[0-9]", hint="from 0 to 59, such as 0, 10-20 or */15"),
    _Part(name="hour", numbers="[01]?[0-9]|2[0-3]", hint="from 0 to 23, such as 2, 1-5 or */6"),
    _Part(name="day", numbers="0?[1-9]|[12][0-9]|3[01]", hint="from 1 to 31, or L for the last", special=("LW?",)),
    _Part(name="month", numbers="0?[1-9]|1[0-2]", names=_MONTHS, hint="from 1 to 12 or from JAN to DEC"),
    _Part(
        name="weekday",
        numbers=_DAY,
        names=_DAYS,
        hint="from 0 (Sunday) to 7 or from SUN to SAT, such as MON-FRI or FRI#1",
        special=(f"({_DAY}|{_DAYS.replace(' ', '|')})#[1-5]", f"{_DAY}L"),
    ),
)

_ORDER = f"'{_DAYS} {_MONTHS}'"
_FORWARDS = (
    "self.upperAscii().findAll('[0-9]+-[0-9]+').all(range, int(range.split('-')[0]) <= int(range.split('-')[1]))"
    " && self.upperAscii().findAll('[A-Z]+-[A-Z]+').all(range,"
    f" {_ORDER}.indexOf(range.split('-')[0]) <= {_ORDER}.indexOf(range.split('-')[1]))"
)

_FEBRUARY = "(0?2|FEB)"
_SHORT = "(0?[2469]|11|FEB|APR|JUN|SEP|NOV)"
_NEVER = f"(?i)^[^ ]+ +[^ ]+ +(3[01]([-,]3[01])* +{_FEBRUARY}(,{_FEBRUARY})*|31([-,]31)* +{_SHORT}(,{_SHORT})*) +[*]"
_NEVER_MESSAGE = "schedule must name a day that one of its months has"


def rules() -> tuple[tuple[str, str], ...]:
    """The grammar as CEL: (rule, message) pairs."""
    parts = (
        (
            f"self.upperAscii().split(' ').filter(part, part != '')[{index}]"
            f".split(',').all(item, item.matches('{part.item}'))",
            part.message,
        )
        for index, part in enumerate(_PARTS)
    )
    forwards = (_FORWARDS, "schedule must have ranges that run forwards, such as 1-5 or MON-FRI")
    return (*parts, forwards, (f"!self.matches('{_NEVER}')", _NEVER_MESSAGE))


def check_schedule(schedule: object) -> str:
    """The schedule, which both sides can read.

    Raises
    ------
    ValueError
        It is none; the message says which part is wrong.
    """
    if not isinstance(schedule, str) or re.fullmatch(PATTERN, schedule) is None:
        raise ValueError(f"has five cron fields (minute hour day month weekday), not {schedule!r}")
    for part, text in zip(_PARTS, schedule.upper().split(), strict=True):
        if any(re.fullmatch(part.item, item) is None for item in text.split(",")):
            raise ValueError(f"is no cron schedule: {schedule!r}: {text} is no {part.name} {part.hint}")
    if re.match(_NEVER, schedule):
        raise ValueError(f"names a day that none of its months has: {schedule!r}")
    try:
        CronSim(schedule, datetime(2026, 1, 1))  # noqa: DTZ001 - only parsed
    except CronSimError as error:
        raise ValueError(f"is no cron schedule: {schedule!r}: {error}") from error
    return schedule
