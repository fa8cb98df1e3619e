"""Turns pydantic's errors into sentences that name the field as the writer wrote it.

Separate because both the YAML loader (which adds lines) and `VoiceModel.parse` (which has none) need it.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError
from pydantic_core import ErrorDetails


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """One thing that is wrong.

    Attributes
    ----------
    path
        Keys and indices from the root of the document.
    field
        The same for people: `spec.rollout.canary.steps[0]`.
    message
        What is wrong, the value, what to write.
    """

    path: tuple[str | int, ...]
    field: str
    message: str


def explain(error: ValidationError) -> list[Mistake]:
    """All mistakes, in the order of the document's schema."""
    details = error.errors(include_url=False)
    return [_mistake(detail) for detail in details if not _only_follows(detail, details)]


def _only_follows(detail: ErrorDetails, details: list[ErrorDetails]) -> bool:
    """A list that is "too short" because its items were refused says nothing new."""
    path = detail["loc"]
    return detail["type"] == "too_short" and any(
        other["loc"][: len(path)] == path and len(other["loc"]) > len(path) for other in details
    )


def field_name(path: tuple[str | int, ...]) -> str:
    """`("spec", "steps", 0)` as `spec.steps[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _mistake(detail: ErrorDetails) -> Mistake:
    path = tuple(part for part in detail["loc"] if part != "[key]")
    return Mistake(path=path, field=field_name(path), message=_message(detail))


def _message(detail: ErrorDetails) -> str:
    shown = _shown(detail["input"])
    match detail["type"]:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return "is not a field of a VoiceModel; check the spelling and the indentation"
        case "value_error":
            return detail["msg"].removeprefix("Value error, ")
        case "string_type":
            return f"is text, not {shown}; put it in quotes"
        case "string_pattern_mismatch":
            return f"must match {detail['ctx']['pattern']}, not {shown}" if "ctx" in detail else detail["msg"]
        case "literal_error" | "enum":
            return f"is one of {detail['ctx']['expected']}, not {shown}" if "ctx" in detail else detail["msg"]
        case _:
            return f"{detail['msg'][:1].lower()}{detail['msg'][1:]}, not {shown}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
