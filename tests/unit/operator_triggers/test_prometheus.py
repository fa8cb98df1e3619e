"""What an answer of Prometheus means, and how it is got: over real HTTP and TLS, on loopback."""

from __future__ import annotations

import asyncio
import json
import math
import ssl
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.support.prometheus import Prometheus, vector

from segue.rollout import Verdict
from segue.tls import Authority
from segue_operator.triggers.config import PrometheusConfig
from segue_operator.triggers.prometheus import Answer, PrometheusAway, PrometheusClient, PrometheusUnusable, judge
from segue_operator.triggers.token_file import NoToken


def judged(answer: Any, status: int = 200) -> Answer:
    return judge(status, json.dumps(answer).encode())


def test_no_result_passes() -> None:
    assert judged(vector()) == Answer(Verdict.PASSING)


def test_a_result_fails_with_its_value_and_labels() -> None:
    answer = judged(vector("0.25", "0.5", voice="default/narrator", pod="a"))
    assert answer.verdict is Verdict.FAILING
    assert answer.message == '0.25 for {pod="a", voice="default/narrator"} (2 series)'


@pytest.mark.parametrize("value", ["0", "+Inf", "-Inf", "1e-9"])
def test_every_number_is_a_result(value: str) -> None:
    assert judged(vector(value)).verdict is Verdict.FAILING


def test_nan_is_inconclusive() -> None:
    answer = judged(vector("NaN", "NaN"))
    assert (answer.verdict, answer.message) == (Verdict.INCONCLUSIVE, "the result is NaN (2 series)")


def test_a_number_beside_nan_is_a_result() -> None:
    answer = judged(vector("NaN", "3"))
    assert answer.verdict is Verdict.FAILING
    assert answer.message.startswith("3 for ")


def test_a_histogram_is_a_result() -> None:
    series = [{"metric": {}, "histogram": [1.0, {"count": "3", "sum": "1", "buckets": []}]}]
    answer = judged({"status": "success", "data": {"resultType": "vector", "result": series}})
    assert answer.verdict is Verdict.FAILING


def test_warnings_are_inconclusive_even_with_a_result() -> None:
    answer = judged(vector("7") | {"warnings": ["store-1 did not answer"]})
    assert (answer.verdict, answer.message) == (Verdict.INCONCLUSIVE, "Prometheus warns: store-1 did not answer")


def test_remarks_are_no_warnings() -> None:
    assert judged(vector("7") | {"infos": ["metric might not be a counter"]}).verdict is Verdict.FAILING


@pytest.mark.parametrize(
    "data",
    [
        {"resultType": "scalar", "result": [1.0, "1"]},
        {"resultType": "matrix", "result": [{"metric": {}, "values": [[1.0, "1"]]}]},
        {"resultType": "string", "result": [1.0, "x"]},
    ],
    ids=lambda data: str(data["resultType"]),
)
def test_what_could_never_be_empty_is_inconclusive(data: dict[str, Any]) -> None:
    answer = judged({"status": "success", "data": data})
    assert answer.verdict is Verdict.INCONCLUSIVE
    assert "write a comparison" in answer.message


def test_an_error_says_what_prometheus_says() -> None:
    answer = judged({"status": "error", "errorType": "bad_data", "error": "1:4: parse error\x1b[2J"}, status=400)
    assert answer.verdict is Verdict.INCONCLUSIVE
    assert "1:4: parse error" in answer.message
    assert answer.message.isprintable()


@pytest.mark.parametrize("content", [b"", b"<html>502</html>", b"null", b"[]", b'{"status": "success"}', b"[" * 10_000])
def test_what_is_no_answer_is_inconclusive(content: bytes) -> None:
    answer = judge(502, content)
    assert answer.verdict is Verdict.INCONCLUSIVE
    assert "HTTP 502" in answer.message


NUMBERS = st.floats().map(lambda value: "NaN" if math.isnan(value) else repr(value))
VALUES = st.lists(NUMBERS | st.text(max_size=5), max_size=3)


@given(content=st.binary(max_size=100) | VALUES.map(lambda values: json.dumps(vector(*values)).encode()))
def test_no_answer_breaks_it_and_only_numbers_fail(content: bytes) -> None:
    answer = judge(200, content)
    if answer.verdict is Verdict.FAILING:
        values = [each["value"][1] for each in json.loads(content)["data"]["result"]]
        assert any(is_number(value) for value in values)


def is_number(text: str) -> bool:
    try:
        return not math.isnan(float(text))
    except ValueError:
        return False


# --- over the network -----------------------------------------------------------------------------------------------


def new_client(**config: Any) -> PrometheusClient:
    return PrometheusClient(PrometheusConfig(**config))


def ask(prometheus: Prometheus, *, tls: ssl.SSLContext | None = None, query: str = "up == 0", **config: Any) -> Answer:
    async def story() -> Answer:
        async with prometheus.serving(tls) as url, new_client(**{"url": url, **config}) as client:
            return await client.ask(query)

    return asyncio.run(story())


def test_a_query_is_asked_as_it_is() -> None:
    prometheus = Prometheus(answer=vector("1"))
    query = 'sum(rate(x{a="ü&+%"}[5m])) > 0 # ' + "x" * 4000
    assert ask(prometheus, query=query).verdict is Verdict.FAILING
    assert prometheus.asked == [(query, "")]


def test_a_token_is_presented_and_read_again_when_it_changes(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n", encoding="utf-8")
    prometheus = Prometheus()

    async def story() -> None:
        async with prometheus.serving() as url, new_client(url=url + "/", token_file=token) as client:
            await client.ask("a")
            token.write_text("second one\n", encoding="utf-8")
            await client.ask("b")

    asyncio.run(story())
    assert prometheus.asked == [("a", "Bearer first"), ("b", "Bearer second one")]


def test_without_its_token_nothing_is_asked(tmp_path: Path) -> None:
    prometheus = Prometheus()
    with pytest.raises(PrometheusAway, match="token") as caught:
        ask(prometheus, token_file=tmp_path / "none")
    assert isinstance(caught.value.__cause__, NoToken)
    assert prometheus.asked == []


def test_silence_is_given_up_on() -> None:
    with pytest.raises(PrometheusAway, match=r"no answer within 0\.1 s"):
        ask(Prometheus(hang=True), timeout_s=0.1)


def test_nobody_there_is_said() -> None:
    with pytest.raises(PrometheusAway, match="cannot be asked"):
        ask(Prometheus(), url="http://127.0.0.1:1")


def test_an_endless_answer_is_cut() -> None:
    answer = ask(Prometheus(answer=b" " * (2 << 20)))
    assert answer.verdict is Verdict.INCONCLUSIVE
    assert "longer than" in answer.message


def test_a_redirect_is_not_followed() -> None:
    answer = ask(Prometheus(answer=b"", status=302))
    assert answer.verdict is Verdict.INCONCLUSIVE


def test_its_certificate_is_checked_against_the_file(tmp_path: Path) -> None:
    server, authority = server_tls(tmp_path / "right")
    _, other = server_tls(tmp_path / "other")
    assert ask(Prometheus(), tls=server, ca_file=authority).verdict is Verdict.PASSING
    with pytest.raises(PrometheusAway, match=r"(?i)certificate"):
        ask(Prometheus(), tls=server, ca_file=other)


def test_an_authority_that_is_added_to_the_file_is_trusted(tmp_path: Path) -> None:
    server, authority = server_tls(tmp_path / "right")
    _, other = server_tls(tmp_path / "other")
    trusted = tmp_path / "ca.pem"
    trusted.write_bytes(other.read_bytes())

    async def story() -> Answer:
        async with Prometheus().serving(server) as url, new_client(url=url, ca_file=trusted) as client:
            with pytest.raises(PrometheusAway):
                await client.ask("a")
            trusted.write_bytes(other.read_bytes() + authority.read_bytes())
            return await client.ask("a")

    assert asyncio.run(story()).verdict is Verdict.PASSING


def test_a_ca_file_without_certificates_is_refused_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("nothing", encoding="utf-8")
    with pytest.raises(PrometheusUnusable, match="caFile"):
        PrometheusClient(PrometheusConfig(url="https://prometheus", ca_file=file))


@pytest.mark.parametrize("url", ["prometheus:9090", "ftp://p", "http://", "http://me:secret@p", "http://p?x=1"])
def test_a_url_that_cannot_be_a_base_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        PrometheusConfig(url=url)


def server_tls(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's context for `localhost`, and the authority that vouches for it."""
    files = Authority.create(folder / "ca").issue("localhost", server=True, directory=folder / "server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    return context, files.ca
