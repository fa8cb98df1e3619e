"""What is encoded reads back as it was, by the messages that collectors read with."""

from __future__ import annotations

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from segue.otlp.encoding import Encoder
from segue.tracing import Attributes, Kind, SpanOver

TRACE, ROOT, PART = (0xAB << 112) | 1, 2, 3


def test_a_batch_reads_back() -> None:
    attributes: Attributes = {
        "text": "Grüße",
        "count": -3,
        "share": 0.5,
        "yes": True,
        "no": False,
        "empty": "",
        "zero": 0,
    }
    root = SpanOver(TRACE, ROOT, 0, False, "root", Kind.SERVER, 10, 20, attributes, "it broke")
    part = SpanOver(TRACE, PART, ROOT, True, "part", Kind.INTERNAL, 11, 12, {}, "")
    request = ExportTraceServiceRequest()
    request.ParseFromString(Encoder({"service.name": "s"}).encode([root, part]))
    (of_resource,) = request.resource_spans
    assert [(each.key, each.value.string_value) for each in of_resource.resource.attributes] == [("service.name", "s")]
    (of_scope,) = of_resource.scope_spans
    assert of_scope.scope.name == "segue"
    first, second = of_scope.spans
    assert first.trace_id == second.trace_id == TRACE.to_bytes(16, "big")
    assert (first.span_id, first.parent_span_id) == (ROOT.to_bytes(8, "big"), b"")
    assert (second.span_id, second.parent_span_id) == (PART.to_bytes(8, "big"), ROOT.to_bytes(8, "big"))
    assert (first.name, first.kind, first.start_time_unix_nano, first.end_time_unix_nano) == ("root", 2, 10, 20)
    assert (first.status.code, first.status.message, second.status.code) == (2, "it broke", 0)
    assert (first.flags, second.flags) == (0x100, 0x300)
    told = {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in first.attributes}
    assert told == attributes
    assert {key: type(value) for key, value in told.items()} == {key: type(value) for key, value in attributes.items()}


def test_batches_do_not_leak_into_each_other() -> None:
    encoder = Encoder({})
    one = SpanOver(TRACE, ROOT, 0, False, "x", Kind.INTERNAL, 1, 2, {}, "")
    assert encoder.encode([one]) == encoder.encode([one])
