"""What Alertmanager sends: version 4 of its webhook, as far as we read it.

Field names and meaning follow https://prometheus.io/docs/alerting/latest/configuration/#webhook_config. What a sender
adds is ignored, what we read must be right: a call that we half understand is refused as a whole.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.alias_generators import to_camel

from segue.errors import SegueError

FIRST_YEAR = 2000
"""Alertmanager writes "not yet" as year 1."""


class MalformedCall(SegueError):
    """A body that is no webhook call of version 4."""


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, frozen=True, strict=True, extra="ignore")


class WebhookAlert(_Part):
    """One alert of a call."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    starts_at: AwareDatetime
    ends_at: AwareDatetime | None = None
    fingerprint: str = Field(min_length=1, max_length=128)

    @field_validator("starts_at")
    @classmethod
    def _has_begun(cls, value: datetime) -> datetime:
        if value.year < FIRST_YEAR:
            raise ValueError(f"is a time since the year {FIRST_YEAR}, not {value.isoformat()}")
        return value

    @field_validator("ends_at")
    @classmethod
    def _may_be_open(cls, value: datetime | None) -> datetime | None:
        return value if value is not None and value.year >= FIRST_YEAR else None


class WebhookCall(_Part):
    """The whole body."""

    version: Literal["4"]
    alerts: tuple[WebhookAlert, ...]


def parse_call(body: bytes) -> WebhookCall:
    """Read a body.

    Raises
    ------
    MalformedCall
        With the first mistake and where it stands.
    """
    try:
        return WebhookCall.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise MalformedCall(": ".join(part for part in (place, first["msg"]) if part)) from error
