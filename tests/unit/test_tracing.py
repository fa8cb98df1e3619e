"""Off unless somebody says where to; identities that need not be told."""

from __future__ import annotations

import subprocess
import sys

import pytest

from segue.tracing import Identity, make_tracing


def test_without_an_endpoint_there_is_none() -> None:
    assert make_tracing("x", environment={}) is None
    assert make_tracing("x", environment={"OTEL_EXPORTER_OTLP_ENDPOINT": ""}) is None
    off = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"}
    assert make_tracing("x", environment=off) is None


@pytest.mark.process
def test_without_an_endpoint_nothing_of_opentelemetry_is_imported() -> None:
    code = (
        "import sys; import segue.tracing, segue_server.worker.main, segue_sidecar.sidecar, segue_operator.run; "
        "segue.tracing.make_tracing('x', environment={}); "
        "print([name for name in sys.modules if name.startswith('opentelemetry.sdk')])"
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
