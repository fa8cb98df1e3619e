"""Off unless somebody says where to; identities that need not be told."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from segue.otlp.settings import Sampler
from segue.tracing import Identity, Kind, SpanOver, Stage, Tracing, make_tracing

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Sent:
    """Keeps spans instead of sending them."""

    def __init__(self) -> None:
        self.spans: list[SpanOver] = []

    def put(self, span: SpanOver) -> None:
        self.spans.append(span)

    def close(self, *, within_s: float) -> None:
        pass


def test_without_an_endpoint_there_is_none() -> None:
    assert make_tracing("x", environment={}) is None
    assert make_tracing("x", environment={"OTEL_EXPORTER_OTLP_ENDPOINT": ""}) is None
    off = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"}
    assert make_tracing("x", environment=off) is None


@pytest.mark.process
def test_without_an_endpoint_nothing_that_sends_traces_is_imported() -> None:
    code = (
        "import sys; import segue.tracing, segue_server.worker.main, segue_sidecar.sidecar, segue_operator.run; "
        "segue.tracing.make_tracing('x', environment={}); "
        "print([name for name in sys.modules if name.startswith(('opentelemetry.proto', 'google.', 'segue.otlp'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_an_identity_is_the_same_for_the_same_words_and_reads_as_it_is_written() -> None:
    one = Identity.of("rollout", "uid", "3")
    assert one == Identity.of("rollout", "uid", "3") != Identity.of("rollout", "uid", "4")
    assert Identity.read(one.traceparent) == one


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        f"00-{'0' * 32}-{'1' * 16}-01",
        f"00-{'1' * 32}-{'0' * 16}-01",
        f"00-{'1' * 32}-{'1' * 16}-00",
        f"01-{'1' * 32}-{'1' * 16}-01",
        f"00-{'A' * 32}-{'1' * 16}-01",
    ],
)
def test_what_is_no_sampled_traceparent_is_none(header: str) -> None:
    assert Identity.read(header) is None


def test_parts_lie_below_their_span_and_in_its_time() -> None:
    sent = Sent()
    span = Tracing(sent, Sampler()).begin("request", traceparent=f"00-{TRACE}-{PARENT}-01")
    now_s = time.monotonic()
    span.note({"segue.voice": "a/b"})
    span.stages([Stage("queue", now_s - 2.0, now_s - 1.0), Stage("synthesis", now_s - 1.0, None)])
    span.end(error="it broke")
    queue, synthesis, root = sent.spans
    assert {part.parent for part in (queue, synthesis)} == {root.span}
    assert {each.trace for each in sent.spans} == {int(TRACE, 16)}
    assert len({each.span for each in sent.spans}) == 3
    assert (root.parent, root.parent_is_remote, root.kind) == (int(PARENT, 16), True, Kind.SERVER)
    assert (root.attributes, root.error) == ({"segue.voice": "a/b"}, "it broke")
    assert span.traceparent == f"00-{TRACE}-{root.span:016x}-01"
    assert abs(queue.end_ns - queue.start_ns - 1_000_000_000) < 1_000
    assert queue.end_ns <= synthesis.start_ns + 1_000
    assert synthesis.end_ns <= time.time_ns()


@pytest.mark.parametrize(
    "header", [None, "", "00-nonsense", f"ff-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-01-more", f"00-{TRACE}-01"]
)
def test_without_a_traceparent_that_can_be_read_a_trace_begins(header: str | None) -> None:
    sent = Sent()
    Tracing(sent, Sampler()).begin("request", traceparent=header).end()
    (root,) = sent.spans
    assert (root.parent, root.parent_is_remote) == (0, False)
    assert root.trace != int(TRACE, 16)


def test_a_later_version_of_the_header_is_read_as_far_as_it_is_known() -> None:
    sent = Sent()
    Tracing(sent, Sampler()).begin("request", traceparent=f"01-{TRACE}-{PARENT}-03-more").end()
    assert sent.spans[0].parent == int(PARENT, 16)


def test_what_the_caller_does_not_sample_is_not_told_and_says_so_further_on() -> None:
    sent = Sent()
    span = Tracing(sent, Sampler()).begin("request", traceparent=f"00-{TRACE}-{PARENT}-00")
    span.stages([Stage("queue", 1.0, 2.0)])
    span.end()
    assert sent.spans == []
    assert span.traceparent.startswith(f"00-{TRACE}-")
    assert span.traceparent.endswith("-00")


def test_a_rollout_is_told_whole_whatever_share_of_requests_is() -> None:
    sent, identity = Sent(), Identity.of("rollout", "uid", "1")
    tracing = Tracing(sent, Sampler(0.0))
    tracing.begin("request").end()
    tracing.tell("Flipping", identity, start_ns=1, end_ns=2, attributes={})
    tracing.tell("rollout", identity, start_ns=1, end_ns=3, attributes={}, is_root=True, error="gone back")
    part, root = sent.spans
    assert (root.trace, root.span, root.parent, root.error) == (identity.trace, identity.span, 0, "gone back")
    assert (part.trace, part.parent) == (identity.trace, identity.span)
