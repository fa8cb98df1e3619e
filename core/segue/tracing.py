"""Traces as OpenTelemetry has them, over OTLP, where somebody has configured where to.

Separate because everything else must work, and cost nothing, without it: `segue.otlp` and what it needs (extra `otel`)
are imported only when `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is set, and where they are
not, callers hold `None` and make no span.

Spans are made when their work is over, with the times at which it began and ended: they cross an event loop, an engine
thread and a codec thread, and no context follows a row through those. So a span is a tuple that waits to be sent; a
thread encodes and sends hundreds at once.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, Protocol

from segue.errors import SegueError

OUTGOING: ContextVar[str | None] = ContextVar("segue_traceparent", default=None)
"""The `traceparent` that calls of the control API carry along; set around what is done for one rollout."""

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
DISABLED = "OTEL_SDK_DISABLED"
TRACEPARENT = "traceparent"

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-0[13]")
_ANY_TRACEPARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)

Attributes = Mapping[str, str | int | float | bool]


class TracingUnavailable(SegueError):
    """Traces are asked for, and the packages for them are not installed."""


class Kind(IntEnum):
    """Of a span, by the numbers of OTLP."""

    INTERNAL = 1
    SERVER = 2


@dataclass(frozen=True, slots=True)
class Stage:
    """Work that is over, or goes on (`ended_s` None); times are CLOCK_MONOTONIC seconds."""

    name: str
    began_s: float
    ended_s: float | None


@dataclass(frozen=True, slots=True)
class Identity:
    """Of a span that several processes, or the next one in the place of this one, must know without being told."""

    trace: int
    span: int

    @classmethod
    def of(cls, *words: str) -> Identity:
        """The same for the same words."""
        digest = hashlib.sha256("\0".join(words).encode()).digest()
        return cls(int.from_bytes(digest[:16], "big") or 1, int.from_bytes(digest[16:24], "big") or 1)

    @classmethod
    def read(cls, traceparent: str) -> Identity | None:
        """From a header; None where it is none of version 00 that is sampled."""
        match = _TRACEPARENT.fullmatch(traceparent)
        return cls(int(match[1], 16), int(match[2], 16)) if match is not None else None

    @property
    def traceparent(self) -> str:
        """As a header."""
        return f"00-{self.trace:032x}-{self.span:016x}-01"


class SpanOver(NamedTuple):
    """A span whose work is over, as it waits to be sent; a tuple, because five of them are made in each request.

    Attributes
    ----------
    parent
        0: it begins its trace.
    parent_is_remote
        Whether another process made the parent.
    error
        Why it failed; empty where it did not.
    """

    trace: int
    span: int
    parent: int
    parent_is_remote: bool
    name: str
    kind: Kind
    start_ns: int
    end_ns: int
    attributes: Attributes
    error: str


class Sends(Protocol):
    """Takes spans that are over, and sends them without anybody's waiting for it."""

    def put(self, span: SpanOver, /) -> None:
        """Have it sent."""

    def close(self, *, within_s: float) -> None:
        """Send what is left."""


class Samples(Protocol):
    """Chooses traces."""

    def takes(self, trace: int, *, parent_is_sampled: bool | None) -> bool:
        """Whether spans of a trace are made; `parent_is_sampled` is None for one that begins here."""


class Span:
    """Something that is being done, known to others by its `traceparent`."""

    def __init__(self, name: str, parent: _Parent | None, sends: Sends, sampler: Samples) -> None:
        """It begins now."""
        self._name = name
        self._sends = sends
        self._trace = parent.trace if parent is not None else random.getrandbits(128) or 1
        self._span = random.getrandbits(64) or 1
        self._parent = parent.span if parent is not None else 0
        self._is_told = sampler.takes(self._trace, parent_is_sampled=parent.is_sampled if parent is not None else None)
        self._start_ns = time.time_ns()
        self._attributes: dict[str, str | int | float | bool] = {}

    @property
    def traceparent(self) -> str:
        """What to send along, as W3C Trace Context has it."""
        return f"00-{self._trace:032x}-{self._span:016x}-{self._is_told:02x}"

    def note(self, attributes: Attributes) -> None:
        """Say more of it."""
        self._attributes.update(attributes)

    def stages(self, stages: Sequence[Stage]) -> None:
        """Its parts, as spans below it; what has not ended ends now."""
        if not self._is_told:
            return
        now_s = time.monotonic()
        ahead_ns = time.time_ns() - int(now_s * 1e9)
        for stage in stages:
            ended_s = now_s if stage.ended_s is None else stage.ended_s
            self._sends.put(
                SpanOver(
                    self._trace,
                    random.getrandbits(64) or 1,
                    self._span,
                    False,
                    stage.name,
                    Kind.INTERNAL,
                    int(stage.began_s * 1e9) + ahead_ns,
                    int(ended_s * 1e9) + ahead_ns,
                    {},
                    "",
                )
            )

    def end(self, *, error: str = "") -> None:
        """It is over; an error says why it failed."""
        if not self._is_told:
            return
        self._sends.put(
            SpanOver(
                self._trace,
                self._span,
                self._parent,
                bool(self._parent),
                self._name,
                Kind.SERVER,
                self._start_ns,
                time.time_ns(),
                self._attributes,
                error,
            )
        )


class Tracing:
    """Makes spans and has them sent in the background; what cannot be sent is dropped, counted and logged."""

    def __init__(self, sends: Sends, sampler: Samples) -> None:
        """Owns `sends`."""
        self._sends = sends
        self._sampler = sampler

    def begin(self, name: str, *, traceparent: str | None = None) -> Span:
        """Begin something that somebody asked for; a `traceparent` that is wrong counts as none."""
        return Span(name, _Parent.read(traceparent) if traceparent else None, self._sends, self._sampler)

    def tell(
        self,
        name: str,
        identity: Identity,
        *,
        start_ns: int,
        end_ns: int,
        attributes: Attributes,
        is_root: bool = False,
        error: str = "",
    ) -> None:
        """Something that is over, in a trace whose identity is known beforehand: the root itself, or a part of it.

        Whether it is told is chosen for the trace, not for the span: whoever knows the identity was told of it by a
        `traceparent` that is sampled, or by himself.
        """
        if not self._sampler.takes(identity.trace, parent_is_sampled=True):
            return
        self._sends.put(
            SpanOver(
                identity.trace,
                identity.span if is_root else random.getrandbits(64) or 1,
                0 if is_root else identity.span,
                not is_root,
                name,
                Kind.INTERNAL,
                start_ns,
                end_ns,
                dict(attributes),
                error,
            )
        )

    def close(self, *, within_s: float = 2.0) -> None:
        """Send what is left; nobody's end waits longer than this for a receiver that is away."""
        self._sends.close(within_s=within_s)


class _Parent(NamedTuple):
    """A caller's span."""

    trace: int
    span: int
    is_sampled: bool

    @classmethod
    def read(cls, traceparent: str) -> _Parent | None:
        """From a header of this or a later version; None where it is none (https://www.w3.org/TR/trace-context/)."""
        match = _ANY_TRACEPARENT.fullmatch(traceparent.strip())
        if match is None or (match[1] == "00" and match[5]):
            return None
        return cls(int(match[2], 16), int(match[3], 16), bool(int(match[4], 16) & 1))


def make_tracing(service: str, *, environment: Mapping[str, str] = os.environ) -> Tracing | None:
    """Traces of a process called `service` (`OTEL_SERVICE_NAME` goes before it); None: nobody wants any.

    Raises
    ------
    TracingUnavailable
        An endpoint is set and `segue[otel]` is not installed.
    EndpointRejected
        Nothing can be sent to the endpoint that is set.
    """
    if not any(environment.get(name) for name in ENDPOINTS) or environment.get(DISABLED, "").lower() == "true":
        return None
    try:
        from segue.otlp.encoding import Encoder
    except ImportError as error:
        raise TracingUnavailable(
            f"{' or '.join(ENDPOINTS)} is set, but {error.name} is not installed: pip install 'segue[otel]' or unset it"
        ) from error
    from segue.otlp.posting import Post
    from segue.otlp.sender import Sender
    from segue.otlp.settings import read_settings

    settings = read_settings(service, environment)
    sender = Sender(settings, encode=Encoder(settings.resource).encode, post=Post(settings))
    return Tracing(sender, settings.sampler)
