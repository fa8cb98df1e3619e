"""Variables are read as the specification has them; nonsense is told of and left out."""

from __future__ import annotations

import pytest
from tests.support.otlp_settings import settings

from segue.otlp.settings import EndpointRejected, Sampler, read_settings


def test_the_endpoint_of_all_signals_gets_the_path_of_traces_and_that_of_traces_does_not() -> None:
    assert settings().url == "http://127.0.0.1:9/v1/traces"
    assert settings(OTEL_EXPORTER_OTLP_ENDPOINT="http://c:4318/otlp/").url == "http://c:4318/otlp/v1/traces"
    assert settings(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="https://c/here").url == "https://c/here"


@pytest.mark.parametrize("url", ["collector:4317", "file:///etc/passwd", "http://", "unix:/x"])
def test_what_is_no_http_url_is_refused_by_name(url: str) -> None:
    with pytest.raises(EndpointRejected, match="traces cannot be sent to"):
        read_settings("x", {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": url})


def test_what_is_said_for_traces_goes_before_what_is_said_for_all() -> None:
    found = settings(
        OTEL_EXPORTER_OTLP_HEADERS="a=1,b=x%20y",
        OTEL_EXPORTER_OTLP_TIMEOUT="3",
        OTEL_EXPORTER_OTLP_TRACES_TIMEOUT="4.5",
        OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
    )
    assert found.headers == {"a": "1", "b": "x y"}
    assert found.timeout_s == 4.5
    assert found.compression == "gzip"


def test_the_resource_names_the_service_and_what_else_is_told_of_it() -> None:
    told = settings(OTEL_RESOURCE_ATTRIBUTES="deployment.environment=test,service.name=other").resource
    assert (told["service.name"], told["deployment.environment"]) == ("other", "test")
    named = settings(OTEL_SERVICE_NAME="mine", OTEL_RESOURCE_ATTRIBUTES="service.name=other").resource
    assert named["service.name"] == "mine"
    assert settings().resource["service.name"] == "segue-test"


def test_a_batch_is_no_larger_than_the_queue() -> None:
    found = settings(OTEL_BSP_MAX_QUEUE_SIZE="100", OTEL_BSP_SCHEDULE_DELAY="50")
    assert (found.queue_spans, found.batch_spans, found.delay_s) == (100, 100, 0.05)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "nan"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "inf"),
        ("OTEL_TRACES_SAMPLER", "often"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "lzw"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "secret"),
    ],
)
def test_nonsense_is_told_of_and_the_default_stays(name: str, value: str, caplog: pytest.LogCaptureFixture) -> None:
    assert settings(**{name: value}) == settings()
    (record,) = caplog.records
    assert "secret" not in record.getMessage()


@pytest.mark.parametrize(
    ("name", "sampler"),
    [
        ("", Sampler(1.0, follows_parent=True)),
        ("always_on", Sampler(1.0, follows_parent=False)),
        ("parentbased_always_off", Sampler(0.0, follows_parent=True)),
        ("traceidratio", Sampler(0.25, follows_parent=False)),
        ("parentbased_traceidratio", Sampler(0.25, follows_parent=True)),
    ],
)
def test_samplers_by_their_names(name: str, sampler: Sampler) -> None:
    assert settings(OTEL_TRACES_SAMPLER=name, OTEL_TRACES_SAMPLER_ARG="0.25").sampler == sampler


def test_a_share_is_chosen_by_the_low_half_of_the_trace_and_a_parent_decides_for_its_children() -> None:
    quarter = Sampler(0.25)
    low, high = (1 << 100) | (1 << 61), (1 << 63)
    assert quarter.takes(low, parent_is_sampled=None)
    assert not quarter.takes(high, parent_is_sampled=None)
    assert quarter.takes(high, parent_is_sampled=True)
    assert not quarter.takes(low, parent_is_sampled=False)
    assert Sampler(0.25, follows_parent=False).takes(low, parent_is_sampled=False)
    assert Sampler().takes((1 << 128) - 1, parent_is_sampled=None)
    assert not Sampler(0.0).takes(1 << 64, parent_is_sampled=None)
