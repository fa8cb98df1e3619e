"""The small vocabularies of a `VoiceModel`: `25%`, `10m`, `2LU`, `1st`, a sha256.

Separate from the spec because each is a type of its own: how it is written, how it is read back, what the CRD says of
it (`WithJsonSchema`), and a message that tells the writer what to type instead.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, PlainValidator, StringConstraints, WithJsonSchema
from typing_extensions import override

BASIS_POINTS = 10_000
"""Basis points in a whole, as in the weight of a canary."""

_DURATION_PATTERN = r"^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$"
_PERCENT_PATTERN = r"^(100(\.0{1,2})?|[0-9]{1,2}(\.[0-9]{1,2})?)%$"
_AMOUNT_PATTERN = r"^(100|[0-9]{1,2})%$"
_LOUDNESS_PATTERN = r"^[0-9]{1,3}(\.[0-9]{1,3})?LU$"
_PITCH_PATTERN = r"^[0-9]{1,3}(\.[0-9]{1,3})?st$"

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A digest: 64 lower-case hex digits."""


SHORT_DIGITS = 10


def short(revision: str | None) -> str:
    """The digits of a revision that people see."""
    return revision[:SHORT_DIGITS] if revision else "none"


def parse_duration(value: object) -> timedelta:
    """Read `10m`, `3h`, `90s` or a sum of them in that order (`1h30m`).

    Raises
    ------
    ValueError
        Anything else, with the value and an example.
    """
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(_DURATION_PATTERN, value) if isinstance(value, str) and value else None
    if match is None:
        raise ValueError(f"is a duration such as 30s, 10m or 1h30m, not {value!r}")
    hours, minutes, seconds = (int(part[:-1]) if part else 0 for part in match.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)


def format_duration(value: timedelta) -> str:
    """Write a duration the way `parse_duration` reads it; parts of a second are dropped."""
    minutes, seconds = divmod(int(value.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{count}{unit}" for count, unit in ((hours, "h"), (minutes, "m"), (seconds, "s")) if count]
    return "".join(parts) or "0s"


Duration = Annotated[
    timedelta,
    PlainValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": _DURATION_PATTERN, "minLength": 2, "maxLength": 21}),
]
"""A span of time, written `10m`."""


def _trim(number: float) -> str:
    """The shortest way to write a figure with at most three decimals."""
    return f"{number:.3f}".rstrip("0").rstrip(".")


def parse_percent(value: object) -> float:
    """Read `5%` as 0.05; a bare number is refused because it could mean either."""
    if isinstance(value, float) and 0.0 <= value <= 1.0:
        return value  # already a fraction: a value of our own, never one from a file (see `_percent_text`)
    if not isinstance(value, str) or re.fullmatch(_PERCENT_PATTERN, value) is None:
        raise ValueError(f"is a percentage from 0% to 100%, such as 5%, not {value!r}")
    return round(float(value[:-1]) / 100, 6)


def format_percent(fraction: float) -> str:
    """Write 0.05 as `5%`."""
    return f"{_trim(fraction * 100)}%"


def _percent_text(value: object) -> object:
    """Refuse numbers where a person writes a percentage."""
    if isinstance(value, int):
        raise ValueError(f"is a percentage; write {value}%, with the sign, instead of {value}")
    if isinstance(value, float):
        raise ValueError(f"is a percentage; write it with the sign, such as 10%, instead of {value}")
    return value


Percent = Annotated[
    float,
    PlainValidator(parse_percent),
    BeforeValidator(_percent_text),
    PlainSerializer(format_percent, return_type=str),
    WithJsonSchema({"type": "string", "pattern": _PERCENT_PATTERN, "maxLength": 7}),
]
"""A fraction, written `5%`."""


@dataclass(frozen=True, slots=True)
class Amount:
    """So many pods, or such a part of them: `1` or `25%`."""

    number: int
    percent: bool = False

    @override
    def __str__(self) -> str:
        return f"{self.number}%" if self.percent else str(self.number)

    def at_least(self, total: int) -> int:
        """How many of `total` this is, rounded up, never more than `total` (waves: `25%` of 2 pods is one pod)."""
        wanted = math.ceil(total * self.number / 100) if self.percent else self.number
        return min(total, wanted)

    def at_most(self, total: int) -> int:
        """How many of `total` this is, rounded down (tolerances: `10%` of 5 pods is none)."""
        wanted = total * self.number // 100 if self.percent else self.number
        return min(total, wanted)


def parse_amount(value: object) -> Amount:
    """Read `25%` or `1`."""
    if isinstance(value, Amount):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 100_000:
        return Amount(value)
    if isinstance(value, str) and re.fullmatch(_AMOUNT_PATTERN, value):
        return Amount(int(value[:-1]), percent=True)
    raise ValueError(f"is a number of pods such as 1, or a whole percentage such as 25%, not {value!r}")


def _amount_json(amount: Amount) -> int | str:
    return str(amount) if amount.percent else amount.number


PodAmount = Annotated[
    Amount,
    PlainValidator(parse_amount),
    PlainSerializer(_amount_json, return_type=int | str),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "minimum": 0,
            "maximum": 100_000,
            "pattern": _AMOUNT_PATTERN,
        }
    ),
]
"""A number of pods or a percentage of them."""


def _quantity(value: object, *, pattern: str, unit: str, example: str, what: str) -> float:
    """Read a figure that carries its unit."""
    if isinstance(value, str) and re.fullmatch(pattern, value):
        return float(value[: -len(unit)])
    raise ValueError(f"is {what} with its unit, such as {example}, not {value!r}")


def _parse_loudness(value: object) -> float:
    return _quantity(value, pattern=_LOUDNESS_PATTERN, unit="LU", example="2LU", what="a loudness in loudness units")


def _parse_pitch(value: object) -> float:
    return _quantity(value, pattern=_PITCH_PATTERN, unit="st", example="1st", what="a pitch interval in semitones")


LoudnessDelta = Annotated[
    float,
    PlainValidator(_parse_loudness),
    PlainSerializer(lambda lu: f"{_trim(lu)}LU", return_type=str),
    WithJsonSchema({"type": "string", "pattern": _LOUDNESS_PATTERN, "maxLength": 9}),
]
"""Loudness units (EBU R 128), written `2LU`."""

PitchDelta = Annotated[
    float,
    PlainValidator(_parse_pitch),
    PlainSerializer(lambda st: f"{_trim(st)}st", return_type=str),
    WithJsonSchema({"type": "string", "pattern": _PITCH_PATTERN, "maxLength": 9}),
]
"""Semitones, written `1st`."""


_SCALAR_SCHEMA = {
    "x-kubernetes-preserve-unknown-fields": True,
    "minItems": 1,
    "maxItems": 0,
    "minProperties": 1,
    "maxProperties": 0,
}
"""A structural schema has no "string, number or boolean". Limits bind only values of their kind: those that no list and
no object can meet leave the scalars; `minimum` then binds numbers, `pattern` strings."""


def _parse_similarity(value: object) -> float | Literal["auto"]:
    if value == "auto":
        return "auto"
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    raise ValueError(f'is a number from 0 to 1, or "auto" for the calibrated value, not {value!r}')


MinSimilarity = Annotated[
    float | Literal["auto"],
    PlainValidator(_parse_similarity),
    WithJsonSchema({**_SCALAR_SCHEMA, "minimum": 0, "maximum": 1, "pattern": "^auto$", "not": {"enum": [True, False]}}),
]
"""A cosine similarity, or `auto`."""


def _parse_option(value: object) -> str | int | float | bool:
    if isinstance(value, (str, bool, int, float)) and value == value:  # NaN differs from itself, and is no JSON
        return value
    raise ValueError(f"is a string, a number or a boolean, not {value!r}")


Option = Annotated[str | int | float | bool, PlainValidator(_parse_option), WithJsonSchema(_SCALAR_SCHEMA)]
"""A value of an engine's option; which one means something is the engine's business."""

Rate = Annotated[float, Field(strict=True, gt=0, le=1)]
"""An error rate as a fraction of requests: 0.001 is 0.1 %."""


def _parse_time(value: object) -> datetime:
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError(f"is a time with its zone, such as 2026-11-22T10:00:00Z, not {value!r}")
    return value.astimezone(UTC)


def format_time(value: datetime) -> str:
    """RFC 3339 in UTC with microseconds, as Kubernetes' MicroTime writes it."""
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


Time = Annotated[
    datetime,
    PlainValidator(_parse_time),
    PlainSerializer(format_time, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""An instant, kept in UTC."""


def json_number(value: Any) -> bool:
    """Whether a JSON value is a number (booleans are not)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
