"""The alert webhook as strangers and Alertmanager meet it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from tests.fakes.clock import FakeClock
from tests.support.alerts import webhook_alert, webhook_call

from segue_operator.triggers.alert_book import AlertBook
from segue_operator.triggers.config import HooksConfig
from segue_operator.triggers.hooks import PATH, AlertReceiver, ByteBudget

TOKEN = "correct horse battery staple"
KEY = "default/narrator"
VOICES = {KEY, "default/other"}


class Post:
    """A receiver, and calls to it."""

    def __init__(self, folder: Path, *, token: str | None = TOKEN, config: HooksConfig | None = None, **more: Any):
        self.clock = FakeClock()
        self.token_file = folder / "token"
        if token is not None:
            self.token_file.write_text(token, encoding="utf-8")
        self.book = AlertBook(now=self.clock.now, ttl=timedelta(hours=1))
        self.woken: list[str] = []
        options: dict[str, Any] = {
            "config": config or HooksConfig(token_file=self.token_file, max_body_bytes=64 * 1024),
            "voice_exists": VOICES.__contains__,
            "wake": lambda keys: self.woken.extend(sorted(keys)),
            **more,
        }
        self.receiver = AlertReceiver(book=self.book, **options)
        self.app = Starlette(routes=self.receiver.routes())

    def alert(self, **more: Any) -> dict[str, Any]:
        return webhook_alert(**{"starts_at": self.clock.now(), **more})

    async def asend(self, content: Any, *, token: str | None = TOKEN, **headers: str) -> httpx.Response:
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://operator") as client:
            return await client.post(PATH, content=content, headers=headers)

    def send(self, content: Any, **more: Any) -> httpx.Response:
        if isinstance(content, dict):
            content = json.dumps(content)
        return asyncio.run(self.asend(content, **more))

    def firing(self, key: str = KEY) -> list[str]:
        return [alert.name for alert in self.book.firing(key)]


@pytest.fixture
def post(tmp_path: Path) -> Post:
    return Post(tmp_path)


def reason(response: httpx.Response) -> str:
    return str(response.json()["error"]["message"])


# --- who may call ---------------------------------------------------------------------------------------------------


def test_without_configuration_the_answer_says_what_to_configure(tmp_path: Path) -> None:
    post = Post(tmp_path)
    post.receiver = AlertReceiver(config=None, book=post.book, voice_exists=VOICES.__contains__, wake=lambda _: None)
    post.app = Starlette(routes=post.receiver.routes())
    response = post.send(webhook_call())
    assert response.status_code == 404
    assert "hooks.tokenFile" in reason(response)


@pytest.mark.parametrize("content", [None, "", "  \n \n"], ids=["missing", "empty", "blank"])
def test_without_a_token_in_the_file_nobody_is_let_in_and_the_call_is_sent_again(
    tmp_path: Path, content: str | None
) -> None:
    post = Post(tmp_path, token=content)
    for token in (None, "", "anything"):
        response = post.send(webhook_call(post.alert()), token=token)
        assert response.status_code == 503
        assert "tokenFile" in reason(response)
    assert post.firing() == []


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", f"Basic {TOKEN}", "Bearer wrong", TOKEN, f"Bearer {TOKEN}x"]
)
def test_a_wrong_token_is_refused_before_the_body_is_read(post: Post, header: str) -> None:
    read: list[bytes] = []

    async def body() -> AsyncIterator[bytes]:
        read.append(b"x")
        yield b"x"

    response = asyncio.run(post.asend(body(), token=None, Authorization=header))
    assert response.status_code == 401
    assert not read
    assert response.headers["www-authenticate"] == "Bearer"
    assert post.woken == []


def test_a_rotated_token_counts_at_once(post: Post) -> None:
    post.send(webhook_call())
    post.token_file.write_text("another", encoding="utf-8")
    assert post.send(webhook_call()).status_code == 401
    assert post.send(webhook_call(), token="another").status_code == 200


def test_old_and_new_token_are_good_while_both_are_in_the_file(post: Post) -> None:
    post.token_file.write_text(f"another\n{TOKEN}\n", encoding="utf-8")
    assert post.send(webhook_call()).status_code == 200
    assert post.send(webhook_call(), token="another").status_code == 200


def test_a_token_that_is_swapped_by_a_symbolic_link_is_noticed(tmp_path: Path) -> None:
    for name, text in (("v1", TOKEN), ("v2", "b" * len(TOKEN))):
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "token").symlink_to("v1")
    post = Post(tmp_path, token=None)
    assert post.send(webhook_call()).status_code == 200
    (tmp_path / "next").symlink_to("v2")
    (tmp_path / "next").rename(tmp_path / "token")
    assert post.send(webhook_call()).status_code == 401


def test_an_operator_that_does_not_lead_asks_to_be_called_again(tmp_path: Path) -> None:
    response = Post(tmp_path, is_ready=lambda: False).send(webhook_call())
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert response.headers["connection"] == "close", "the next call may reach the replica that leads"


# --- what counts ----------------------------------------------------------------------------------------------------


def test_an_alert_wakes_the_voice_it_names_and_no_other(post: Post) -> None:
    response = post.send(webhook_call(post.alert()))
    assert response.json() == {"taken": 1, "ignored": 0, "reasons": []}
    assert post.woken == [KEY]
    assert (post.firing(), post.firing("default/other")) == (["VoiceSilent"], [])


def test_a_call_may_name_several_voices(post: Post) -> None:
    post.send(webhook_call(post.alert(), post.alert(voice="other")))
    assert sorted(post.woken) == [KEY, "default/other"]


def test_the_same_call_again_wakes_nobody(post: Post) -> None:
    call = webhook_call(post.alert())
    for _ in range(3):
        assert post.send(call).json()["taken"] == 1
    assert post.woken == [KEY]


def test_a_resolved_alert_is_gone(post: Post) -> None:
    post.send(webhook_call(post.alert()))
    post.send(webhook_call(post.alert(status="resolved")))
    assert post.firing() == []


def test_an_alert_that_ended_already_does_not_fire(post: Post) -> None:
    over = post.alert() | {"endsAt": post.clock.now().isoformat()}
    post.send(webhook_call(over))
    assert post.firing() == []


def test_alerts_that_concern_no_voice_are_counted_with_the_reason(post: Post) -> None:
    unlabelled = post.alert()
    del unlabelled["labels"]["segue_voice"]
    future = post.alert(starts_at=post.clock.now() + timedelta(hours=1))
    response = post.send(webhook_call(unlabelled, post.alert(voice="nobody"), future, post.alert(namespace="other")))
    assert response.status_code == 200
    answer = response.json()
    assert (answer["taken"], answer["ignored"]) == (0, 4)
    said = [each["reason"] for each in answer["reasons"]]
    assert "segue_voice" in said[0]
    assert "'default/nobody', which does not exist" in said[1]
    assert "in the future" in said[2]
    assert post.woken == []


def test_names_of_alerts_cannot_move_a_cursor(post: Post) -> None:
    post.send(webhook_call(post.alert(name="\x1b[2J" + "x" * 5000)))
    (name,) = post.firing()
    assert name.isprintable()
    assert len(name) == 100


# --- what is malformed ----------------------------------------------------------------------------------------------


def broken(**changes: Any) -> dict[str, Any]:
    return webhook_call(webhook_alert() | changes)


MALFORMED: dict[str, Any] = {
    "nothing": b"",
    "no JSON": b"{",
    "no UTF-8": b'{"version": "\xff"}',
    "null": b"null",
    "a list": b"[]",
    "deep": b"[" * 30_000,
    "a surrogate": b'{"version": "\\ud800"}',
    "another version": json.dumps(webhook_call() | {"version": "3"}),
    "a number as version": json.dumps(webhook_call() | {"version": 4}),
    "no alerts": json.dumps({"version": "4"}),
    "alerts by name": json.dumps({"version": "4", "alerts": {"a": 1}}),
    "a status of its own": json.dumps(broken(status="pending")),
    "a number as label": json.dumps(broken(labels={"segue_voice": 7})),
    "no labels": json.dumps(broken(labels=None)),
    "a time without a zone": json.dumps(broken(startsAt="2026-11-22T10:00:00")),
    "a number as time": json.dumps(broken(startsAt=1_795_000_000)),
    "a time that is none": json.dumps(broken(startsAt="now")),
    "no beginning": json.dumps(broken(startsAt="0001-01-01T00:00:00Z")),
    "a beginning before time": json.dumps(broken(startsAt="0001-01-01T00:00:00+23:59")),
    "no fingerprint": json.dumps(broken(fingerprint="")),
    "compressed": b"\x1f\x8b\x08\x00",
}


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_call_is_the_callers_mistake(post: Post, content: Any) -> None:
    response = post.send(content)
    assert response.status_code == 400
    assert "Alertmanager" in reason(response)
    assert post.woken == []


def test_the_mistake_is_named(post: Post) -> None:
    assert "alerts.0.startsAt" in reason(post.send(broken(startsAt="now")))


def test_the_end_of_time_is_taken_for_an_end(post: Post) -> None:
    assert post.send(broken(endsAt="9999-12-31T23:59:59.999999999-23:59")).status_code == 200


def test_nanoseconds_are_read(post: Post) -> None:
    assert post.send(broken(startsAt="2026-11-22T09:59:59.123456789+02:00")).json()["taken"] == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
TIMES = st.datetimes().map(lambda time: time.isoformat() + "Z") | st.text(max_size=24)
ALERTS = st.fixed_dictionaries(
    {"status": st.sampled_from(["firing", "resolved", "other"]) | JSON, "startsAt": TIMES | JSON},
    optional={
        "endsAt": TIMES | JSON,
        "labels": JSON | st.dictionaries(st.sampled_from(["segue_namespace", "segue_voice"]), st.text(max_size=8)),
        "fingerprint": st.text(max_size=20) | JSON,
    },
)
BODIES = st.one_of(
    st.binary(max_size=200),
    JSON.map(json.dumps),
    st.lists(ALERTS | JSON, max_size=4).map(lambda alerts: json.dumps({"version": "4", "alerts": alerts})),
    st.tuples(st.integers(0, 900), st.binary(max_size=3)).map(
        lambda cut: json.dumps(webhook_call(webhook_alert())).encode()[: cut[0]] + cut[1]
    ),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODIES)
def test_no_body_makes_the_server_fail(post: Post, body: bytes | str) -> None:
    assert post.send(body).status_code in (200, 400)


@given(header=st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=60))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_header_opens_or_breaks(post: Post, header: str) -> None:
    async def call() -> httpx.Response:
        transport = httpx.ASGITransport(app=post.app)
        raw = [(b"authorization", header.encode("latin-1"))]
        async with httpx.AsyncClient(transport=transport, base_url="http://operator") as client:
            return await client.post(PATH, content=b"{}", headers=raw)

    assert asyncio.run(call()).status_code == 401


# --- what is too much -----------------------------------------------------------------------------------------------


def test_a_call_that_announces_too_much_is_not_read(post: Post) -> None:
    response = post.send(b"{}", **{"Content-Length": "9" * 5000})
    assert response.status_code == 413


def test_a_call_that_grows_too_long_is_cut(post: Post) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 1024

    response = asyncio.run(post.asend(endless()))
    assert response.status_code == 413
    assert "max_alerts" in reason(response)


def test_a_body_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    async def stuck() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    post = Post(tmp_path, body_within_s=0.05)
    assert asyncio.run(post.asend(stuck())).status_code == 408


def test_more_bytes_than_can_be_parsed_are_sent_again_later(tmp_path: Path) -> None:
    now_s = 0.0
    call = json.dumps(webhook_call(webhook_alert()))
    budget = ByteBudget(per_s_bytes=len(call), burst_bytes=2 * len(call), monotonic=lambda: now_s)
    post = Post(tmp_path, budget=budget)
    assert [post.send(call).status_code for _ in range(4)] == [200, 200, 503, 503]
    now_s = 1.0
    assert post.send(call).status_code == 200


def test_a_storm_is_answered_and_wakes_once(post: Post, caplog: pytest.LogCaptureFixture) -> None:
    true, unknown = webhook_call(post.alert()), webhook_call(post.alert(voice="nobody"))

    async def storm() -> list[int]:
        calls = []
        for number in range(250):
            calls.append(post.asend(json.dumps(true)))
            calls.append(post.asend(json.dumps(true), token=f"forged{number}"))
            calls.append(post.asend(b'{"version": "4", "alerts": [{]}'))
            calls.append(post.asend(json.dumps(unknown)))
        return [response.status_code for response in await asyncio.gather(*calls)]

    with caplog.at_level(logging.INFO, logger="segue_operator"):
        answers = asyncio.run(storm())
    assert {status: answers.count(status) for status in set(answers)} == {200: 500, 401: 250, 400: 250}
    assert post.woken == [KEY]
    said = [record for record in caplog.records if record.name.startswith("segue_operator")]
    assert len(said) == 3, "each kind of complaint once: forged, malformed, unknown voice"
    registry = CollectorRegistry()
    registry.register(post.receiver.calls)
    assert registry.get_sample_value("segue_operator_alert_calls_total", {"status": "401"}) == 250
