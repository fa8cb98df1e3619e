"""What a load generator is told to do, and what it reports for each request.

Separate from the generator because plans and records cross a process boundary: the generator runs in a process of its
own, so that it neither shares an interpreter lock with what it measures nor with who watches it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

MAX_REQUESTS = 2_000_000


class Mode(StrEnum):
    """How the audio comes back."""

    WHOLE = "whole"
    """The client waits for all of it."""
    CHUNKED = "chunked"
    """`stream_format: audio`: pieces as they are made."""
    SSE = "sse"
    """`stream_format: sse`: server-sent events with base64 pieces."""


class Shot(BaseModel):
    """One request, as it is sent again and again."""

    model_config = ConfigDict(frozen=True)

    voice: str
    text: str
    seed: int | None = 1
    response_format: str = "pcm"
    mode: Mode = Mode.WHOLE
    session: str | None = None
    pin: str | None = None
    cached: bool = False
    """Whether the result cache may answer."""

    def body(self) -> dict[str, Any]:
        """The JSON of the speech request."""
        fields: dict[str, Any] = {
            "model": "segue",
            "input": self.text,
            "voice": self.voice,
            "response_format": self.response_format,
        }
        if self.seed is not None:
            fields["seed"] = self.seed
        match self.mode:
            case Mode.WHOLE:
                pass
            case Mode.CHUNKED:
                fields["stream_format"] = "audio"
            case Mode.SSE:
                fields["stream_format"] = "sse"
        return fields

    def headers(self) -> dict[str, str]:
        """The `Segue-*` headers of the speech request."""
        named = {
            "Segue-Session": self.session,
            "Segue-Pin": self.pin,
            "Segue-Cache": None if self.cached else "no-store",
        }
        return {name: value for name, value in named.items() if value is not None}


class ClosedLoop(BaseModel):
    """So many listeners, each asking again as soon as it has its answer: finds the capacity."""

    kind: Literal["closed"] = "closed"
    concurrency: int = Field(ge=1, le=2048)


class OpenLoop(BaseModel):
    """Requests at a steady rate whether or not earlier ones were answered: finds the latency.

    `due_ns` of each record is when the request should have been sent; latency counts from there, so that a stalled
    generator cannot hide a stalled server (coordinated omission).
    """

    kind: Literal["open"] = "open"
    rate_per_s: float = Field(gt=0)
    max_connections: int = Field(default=512, ge=1, le=4096)


class LoadPlan(BaseModel):
    """All that a load generator needs. Bounded in time and in count, always."""

    host: str
    port: int
    shots: tuple[Shot, ...] = Field(min_length=1)
    pace: Annotated[ClosedLoop | OpenLoop, Field(discriminator="kind")]
    max_requests: int = Field(default=MAX_REQUESTS, ge=1, le=MAX_REQUESTS)
    max_s: float = Field(default=3600, gt=0)
    timeout_s: float = Field(default=30, gt=0)
    drain_s: float = Field(default=20, ge=0)
    """After the end: how long requests in flight may take before they count as failed."""
    api_key: str | None = None
    spool: str | None = None
    """Folder for each distinct answer, one file per (shot, revision, digest); None keeps no audio."""
    requests_per_connection: int = Field(default=0, ge=0)
    """A Service balances connections, not requests: a connection is given up after so many. 0: never."""
    sessions: int = 0
    """With a number above 0 each listener gets a `Segue-Session` out of so many."""


class Record(NamedTuple):
    """One request that was sent. A tuple, because there are tens of thousands, and they travel as JSON rows."""

    shot: int
    due_ns: int
    start_ns: int
    first_ns: int
    """First byte of audio; 0 when there was none. All times are CLOCK_MONOTONIC."""
    end_ns: int
    status: int
    """HTTP status; 0 when there was no answer."""
    revision: str
    shielded: str
    """The revision that failed and was covered by `revision`, or empty."""
    cache: str
    size_bytes: int
    digest: str
    error: str
    """Empty for a complete answer with audio."""

    @property
    def ok(self) -> bool:
        """A complete answer with audio."""
        return not self.error

    @property
    def latency_ns(self) -> int:
        """From when it should have been sent until its last byte."""
        return self.end_ns - self.due_ns

    @property
    def first_audio_ns(self) -> int:
        """From when it should have been sent until its first byte of audio."""
        return (self.first_ns or self.end_ns) - self.due_ns


class Tick(NamedTuple):
    """What a generator says of itself while it runs, a few times a second."""

    at_ns: int
    sent: int
    done: int
    failed: int
    shielded: int
    in_flight: int
    p50_ms: float
    """Over the answers since the tick before."""
    p99_ms: float


def failures(records: Sequence[Record]) -> dict[str, int]:
    """How many records failed, by what went wrong."""
    counted: dict[str, int] = {}
    for record in records:
        if not record.ok:
            counted[record.error] = counted.get(record.error, 0) + 1
    return counted
