"""One HTTP request a batch: what it says, and what is made of each answer."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.support.otlp_settings import settings
from tests.support.web import QuietHandler, web_server

from segue.otlp.posting import NotTaken, Post
from segue.otlp.settings import EndpointRejected


@dataclass(slots=True)
class Collector:
    address: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    seen: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.seen.append((self.command, self.path, dict(self.headers), body))
            self.send_response(collector.status)
            for name, value in {**collector.headers, "Content-Length": "0"}.items():
                self.send_header(name, value)
            self.end_headers()

        do_GET = do_POST

    with web_server(Handler) as collector.address:
        yield collector


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with collecting() as made:
        yield made


def post(collector: Collector, body: bytes = b"spans", **environment: str) -> None:
    Post(settings(OTEL_EXPORTER_OTLP_ENDPOINT=collector.address, **environment))(body, 5.0)


def test_a_batch_is_posted_with_the_headers_that_are_configured(collector: Collector) -> None:
    post(collector, OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20x")
    ((method, path, headers, body),) = collector.seen
    assert (method, path, body) == ("POST", "/v1/traces", b"spans")
    assert headers["Authorization"] == "Bearer x"
    assert headers["Content-Type"] == "application/x-protobuf"
    assert "Content-Encoding" not in headers


def test_it_is_compressed_where_that_is_asked_for(collector: Collector) -> None:
    post(collector, OTEL_EXPORTER_OTLP_COMPRESSION="gzip")
    post(collector, OTEL_EXPORTER_OTLP_COMPRESSION="deflate")
    assert [headers["Content-Encoding"] for _, _, headers, _ in collector.seen] == ["gzip", "deflate"]
    assert gzip.decompress(collector.seen[0][3]) == zlib.decompress(collector.seen[1][3]) == b"spans"


@pytest.mark.parametrize(("status", "again"), [(400, False), (404, False), (500, False), (429, True), (503, True)])
def test_an_answer_says_whether_to_try_again(collector: Collector, status: int, again: bool) -> None:
    collector.status = status
    collector.headers["Retry-After"] = "7"
    with pytest.raises(NotTaken, match=f"answered {status}") as caught:
        post(collector)
    assert (caught.value.again, caught.value.after_s) == (again, 7.0)


def test_a_receiver_that_moved_is_not_followed(collector: Collector) -> None:
    collector.status = 302
    collector.headers["Location"] = "/elsewhere"
    with pytest.raises(NotTaken, match="answered 302"):
        post(collector)
    assert len(collector.seen) == 1


def test_nobody_there_may_be_there_later() -> None:
    with pytest.raises(NotTaken) as caught:
        Post(settings(NO_PROXY="127.0.0.1"))(b"spans", 5.0)
    assert caught.value.again


def test_a_certificate_that_cannot_be_read_is_named_at_the_start(tmp_path: Path) -> None:
    missing = str(tmp_path / "ca.pem")
    with pytest.raises(EndpointRejected, match=r"ca\.pem"):
        Post(settings(OTEL_EXPORTER_OTLP_ENDPOINT="https://c", OTEL_EXPORTER_OTLP_CERTIFICATE=missing))
