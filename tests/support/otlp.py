"""A receiver of traces on loopback: OTLP over HTTP, as a collector takes it."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tests.support.web import QuietHandler, web_server


@dataclass(frozen=True, slots=True)
class Received:
    """One span; ids in hex, times in Unix nanoseconds."""

    service: str
    name: str
    trace: str
    span: str
    parent: str
    start_ns: int
    end_ns: int
    failed: bool
    attributes: dict[str, Any]


@dataclass(slots=True)
class Receiver:
    """What has come so far."""

    endpoint: str = ""
    spans: list[Received] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, body: bytes) -> None:
        """One export request."""
        request = ExportTraceServiceRequest()
        request.ParseFromString(body)
        with self._lock:
            for of_resource in request.resource_spans:
                service = _attributes(of_resource.resource.attributes).get("service.name", "")
                for of_scope in of_resource.scope_spans:
                    self.spans += [_received(service, span) for span in of_scope.spans]

    def trace(self, trace: str) -> list[Received]:
        """The spans of one trace, the earliest first."""
        with self._lock:
            return sorted((each for each in self.spans if each.trace == trace), key=lambda each: each.start_ns)


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver that takes everything, while the block runs."""
    receiver = Receiver()

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            assert self.path == "/v1/traces", self.path
            receiver.take(body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with web_server(Handler) as receiver.endpoint:
        yield receiver


def _received(service: str, span: Any) -> Received:
    return Received(
        service=service,
        name=span.name,
        trace=span.trace_id.hex(),
        span=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        failed=span.status.code == 2,
        attributes=_attributes(span.attributes),
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
