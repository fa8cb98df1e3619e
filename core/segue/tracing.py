"""Traces by OpenTelemetry over OTLP, where somebody has configured where to.

Separate because everything else must work, and cost nothing, without it: the packages (extra `otel`) are imported only
when `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is set, and where they are not, callers hold
`None` and make no span. All other `OTEL_*` variables are the SDK's own (https://opentelemetry.io/docs/specs/otel/
configuration/sdk-environment-variables/): headers, sampler, batch sizes.

Spans are made when their work is over, with the times at which it began and ended: they cross an event loop, an engine
thread and a codec thread, and no context follows a row through those.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from segue.errors import SegueError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

OUTGOING: ContextVar[str | None] = ContextVar("segue_traceparent", default=None)
"""The `traceparent` that calls of the control API carry along; set around what is done for one rollout."""

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
DISABLED = "OTEL_SDK_DISABLED"
TRACEPARENT = "traceparent"

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-0[13]")

Attributes = Mapping[str, str | int | float | bool]


class TracingUnavailable(SegueError):
    """Traces are asked for, and the packages for them are not installed."""


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


class GivenIds:
    """An `IdGenerator` of the SDK: random ids, or the one that is given for a moment."""

    def __init__(self) -> None:
        self._given: Identity | None = None

    @contextmanager
    def given(self, identity: Identity) -> Iterator[None]:
        """The next span is this one; nothing may be awaited inside."""
        self._given = identity
        try:
            yield
        finally:
            self._given = None

    def generate_span_id(self) -> int:
        """64 bits, not 0."""
        return self._given.span if self._given is not None else random.getrandbits(64) or 1

    def generate_trace_id(self) -> int:
        """128 bits, not 0."""
        return self._given.trace if self._given is not None else random.getrandbits(128) or 1

    def is_trace_id_random(self) -> bool:
        """Whether samplers may draw lots by it."""
        return self._given is None


class Span:
    """Something that is being done, known to others by its `traceparent`."""

    def __init__(self, span: Any, hand_on: Callable[[ReadableSpan], None]) -> None:
        """A span of the SDK; `hand_on` takes those that are over."""
        self._span = span
        self._hand_on = hand_on

    @property
    def traceparent(self) -> str:
        """What to send along, as W3C Trace Context has it."""
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def note(self, attributes: Attributes) -> None:
        """Say more of it."""
        self._span.set_attributes(dict(attributes))

    def stages(self, stages: Sequence[Stage]) -> None:
        """Its parts, as spans below it; what has not ended ends now.

        They are handed on as what they are, spans that are over. Those of the SDK, made to be changed while they last,
        take several times as long to make, and there are four in each request.
        """
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanContext

        if not self._span.is_recording():
            return
        parent = self._span.get_span_context()
        now_s = time.monotonic()
        ahead_ns = time.time_ns() - int(now_s * 1e9)
        for stage in stages:
            ended_s = now_s if stage.ended_s is None else stage.ended_s
            over = ReadableSpan(
                stage.name,
                SpanContext(parent.trace_id, random.getrandbits(64) or 1, False, parent.trace_flags),
                parent,
                self._span.resource,
                start_time=int(stage.began_s * 1e9) + ahead_ns,
                end_time=int(ended_s * 1e9) + ahead_ns,
                instrumentation_scope=self._span.instrumentation_scope,
            )
            self._hand_on(over)

    def end(self, *, error: str = "") -> None:
        """It is over; an error says why it failed."""
        if error:
            from opentelemetry.trace import Status, StatusCode

            self._span.set_status(Status(StatusCode.ERROR, error))
        self._span.end()


class Tracing:
    """Makes spans and sends them in the background; what cannot be sent is dropped by the SDK, which logs it."""

    def __init__(self, provider: TracerProvider, processor: SpanProcessor, ids: GivenIds) -> None:
        """Owns the provider, which takes its ids from `ids` and hands spans to `processor`."""
        self._provider = provider
        self._processor = processor
        self._ids = ids
        self._tracer = provider.get_tracer("segue")

    def begin(self, name: str, *, traceparent: str | None = None) -> Span:
        """Begin something that somebody asked for; a `traceparent` that is wrong counts as none."""
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        context = Context()
        if traceparent:
            context = TraceContextTextMapPropagator().extract({TRACEPARENT: traceparent}, context)
        return Span(self._tracer.start_span(name, context=context, kind=SpanKind.SERVER), self._processor.on_end)

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
        """Something that is over, in a trace whose identity is known beforehand: the root itself, or a part of it."""
        from opentelemetry.context import Context
        from opentelemetry.trace import (
            NonRecordingSpan,
            SpanContext,
            Status,
            StatusCode,
            TraceFlags,
            set_span_in_context,
        )

        root = SpanContext(identity.trace, identity.span, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
        context = Context() if is_root else set_span_in_context(NonRecordingSpan(root), Context())
        with self._ids.given(identity) if is_root else nullcontext():
            span = self._tracer.start_span(name, context=context, start_time=start_ns, attributes=dict(attributes))
        if error:
            span.set_status(Status(StatusCode.ERROR, error))
        span.end(end_ns)

    def close(self, *, within_s: float = 2.0) -> None:
        """Send what is left; nobody's end waits longer than this for a receiver that is away."""
        sending = threading.Thread(target=self._provider.shutdown, name="segue-traces", daemon=True)
        sending.start()
        sending.join(within_s)


def make_tracing(service: str, *, environment: Mapping[str, str] = os.environ) -> Tracing | None:
    """Traces of a process called `service` (`OTEL_SERVICE_NAME` goes before it); None: nobody wants any.

    Raises
    ------
    TracingUnavailable
        An endpoint is set and `segue[otel]` is not installed.
    """
    if not any(environment.get(name) for name in ENDPOINTS) or environment.get(DISABLED, "").lower() == "true":
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise TracingUnavailable(
            f"{' or '.join(ENDPOINTS)} is set, but {error.name} is not installed: pip install 'segue[otel]' or unset it"
        ) from error
    resource = Resource.create({SERVICE_NAME: environment.get("OTEL_SERVICE_NAME") or service})
    ids = GivenIds()
    provider = TracerProvider(resource=resource, shutdown_on_exit=False, id_generator=ids)  # type: ignore[arg-type]
    processor = BatchSpanProcessor(OTLPSpanExporter())
    provider.add_span_processor(processor)
    return Tracing(provider, processor, ids)
