"""The `hooks` and `prometheus` sections of the operator's configuration, the same for both adapters."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.alias_generators import to_camel


class _Section(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid")


class HooksConfig(_Section):
    """Who may tell the operator of alerts."""

    token_file: Path = Field(description="Bearer tokens, one a line: any of them opens. Read again when it changes.")
    max_body_bytes: int = Field(default=1 << 20, ge=1024, le=16 << 20, description="Longer calls are refused (413).")
    alert_ttl_s: float = Field(
        default=3600.0, gt=0, description="A firing alert that nobody repeats or resolves is forgotten after this."
    )


class PrometheusConfig(_Section):
    """Where `watch.queries` are evaluated."""

    url: str = Field(description="Base URL of the HTTP API: /api/v1/query is appended.")
    token_file: Path | None = Field(default=None, description="Bearer token; read again when it changes.")
    ca_file: Path | None = Field(default=None, description="Authorities to trust instead of the system's.")
    timeout_s: float = Field(default=5.0, gt=0, le=60, description="For one query; beyond it, it is inconclusive.")
    interval_s: float = Field(
        default=15.0, ge=1, description="How often a voice's queries are asked in a watch; four times that afterwards."
    )
    concurrency: int = Field(default=8, ge=1, le=64, description="Queries under way at the same time.")

    @field_validator("url")
    @classmethod
    def _is_a_base_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"is a URL such as http://prometheus:9090, not {url!r}")
        if parts.username or parts.password:
            raise ValueError("must not carry a password; put a token into tokenFile")
        if parts.query or parts.fragment:
            raise ValueError("ends with a path; leave ? and # out")
        return url.rstrip("/")
