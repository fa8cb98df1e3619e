"""Spans that are over, and a batch of them as one OTLP message.

Separate from who makes them and who sends them. Messages are filled field by field: that takes an eighth of what the
SDK takes, whose spans can be changed by several threads and are turned into messages by way of objects for each value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import assert_never

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, SpanFlags, Status

from segue.tracing import SpanOver

SCOPE = "segue"

_FROM_HERE = SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_FROM_AFAR = _FROM_HERE | SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK


class Encoder:
    """What does not change is made once."""

    def __init__(self, resource: Mapping[str, str]) -> None:
        """Spans of the process that `resource` tells of."""
        self._empty = ResourceSpans()
        for key, value in resource.items():
            self._empty.resource.attributes.add(key=key).value.string_value = value
        self._empty.scope_spans.add().scope.name = SCOPE

    def encode(self, spans: Iterable[SpanOver]) -> bytes:
        """An `ExportTraceServiceRequest`."""
        request = ExportTraceServiceRequest()
        of_resource = request.resource_spans.add()
        of_resource.CopyFrom(self._empty)
        told = of_resource.scope_spans[0].spans
        for span in spans:
            one = told.add(
                trace_id=span.trace.to_bytes(16, "big"),
                span_id=span.span.to_bytes(8, "big"),
                name=span.name,
                kind=span.kind,
                start_time_unix_nano=span.start_ns,
                end_time_unix_nano=span.end_ns,
                flags=_FROM_AFAR if span.parent_is_remote else _FROM_HERE,
            )
            if span.parent:
                one.parent_span_id = span.parent.to_bytes(8, "big")
            for key, value in span.attributes.items():
                _put(one.attributes.add(key=key).value, value)
            if span.error:
                one.status.code = Status.STATUS_CODE_ERROR
                one.status.message = span.error
        message: bytes = request.SerializeToString()
        return message


def _put(into: AnyValue, value: str | int | float | bool) -> None:
    match value:
        case str():
            into.string_value = value
        case bool():  # before int, which it is too
            into.bool_value = value
        case int():
            into.int_value = value
        case float():
            into.double_value = value
        case _:
            assert_never(value)
