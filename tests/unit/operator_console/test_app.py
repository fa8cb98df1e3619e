"""The console as browsers, strangers and people with and without a token meet it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.console import NEW, OLD, FakeSource, rolling, voice_document

from segue.errors import EditConflict
from segue_operator.console.app import build_console, make_app
from segue_operator.console.config import ConsoleConfig, SpeechAccess
from segue_operator.console.guard import HEADERS
from segue_operator.console.news import News
from segue_operator.console.ranking import Ranking

TOKEN = "correct horse battery staple"
ACT = "/api/voices/default/narrator/actions"
SAY = "/api/voices/default/narrator/speech"


class Page:
    """A console, and a browser before it."""

    def __init__(self, folder: Path, *, config: dict[str, Any] | None = None, ranking: Ranking | None = None) -> None:
        token_file = folder / "token"
        token_file.write_text(TOKEN, encoding="utf-8")
        self.source = FakeSource().put(voice_document())
        self.config = ConsoleConfig(**{"token_file": token_file, "speech": SpeechAccess(), **(config or {})})
        self.console = build_console(self.config, source=self.source, editor=self.source, news=News(), ranking=ranking)
        self.app = make_app(self.console, self.config)

    def ask(self, method: str, path: str, *, host: str = "localhost:8090", **more: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
                return await client.request(method, path, **more)

        return asyncio.run(ask())

    def act(self, action: str, *, token: str | None = TOKEN, **more: Any) -> httpx.Response:
        headers = {"Segue-Console": "1"} | ({"Authorization": f"Bearer {token}"} if token else {})
        wish = {"action": action, "uid": "uid-narrator", "generation": 1, "target": OLD, **more}
        return self.ask("POST", ACT, json=wish, headers=headers)


@pytest.fixture
def page(tmp_path: Path) -> Page:
    return Page(tmp_path)


def reason(response: httpx.Response) -> str:
    return str(response.json()["error"]["message"])


# --- what is served -------------------------------------------------------------------------------------------------


def test_every_answer_forbids_frames_inline_scripts_and_foreign_content(page: Page) -> None:
    for path in ("/", "/console.js", "/nothing.js", "/api/ranking"):
        response = page.ask("GET", path)
        assert {name: response.headers[name] for name in HEADERS} == HEADERS
        assert "unsafe" not in response.headers["content-security-policy"]


def test_the_page_names_only_files_that_are_served_and_nothing_remote(page: Page) -> None:
    text = page.ask("GET", "/").text
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "<style" not in text
    assert " style=" not in text
    import re

    for name in re.findall(r'(?:src|href)="([^"#]+)"', text):
        assert page.ask("GET", f"/{name}").status_code == 200, name


def test_no_secret_is_in_what_is_served(page: Page) -> None:
    from segue_operator.console.static import assets

    assert all(TOKEN.encode() not in asset.content for asset in assets().values())


def test_files_outside_the_page_are_not_served(page: Page) -> None:
    for path in ("/../app.py", "/%2e%2e/app.py", "/app.py", "/etc/passwd"):
        assert page.ask("GET", path).status_code == 404


def test_an_unchanged_file_is_not_sent_again(page: Page) -> None:
    tag = page.ask("GET", "/console.css").headers["etag"]
    assert page.ask("GET", "/console.css", headers={"If-None-Match": tag}).status_code == 304


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8090", "127.0.0.1.evil.example", "10.0.0.7:8090"])
def test_a_name_that_a_stranger_points_at_us_is_refused(page: Page, host: str) -> None:
    assert page.ask("GET", "/api/ranking", host=host).status_code == 421


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8090", "[::1]:8090", "console.example.org", "LOCALHOST"])
def test_loopback_and_configured_names_are_ours(tmp_path: Path, host: str) -> None:
    page = Page(tmp_path, config={"hosts": ("console.example.org",)})
    assert page.ask("GET", "/", host=host).status_code == 200


# --- acting ---------------------------------------------------------------------------------------------------------


def test_a_pause_is_written_where_the_command_line_writes_it(page: Page) -> None:
    assert page.act("pause").json() == {"done": "pause", "where": "voices/narrator.yaml"}
    assert page.source.edits == [("default/narrator", {"spec.rollout.paused": True})]
    assert page.source.told == [("default/narrator", "pause was asked for in the console")]


@pytest.mark.parametrize("action", ["promote", "rollback"])
def test_a_wish_is_a_token_that_was_never_used_before(page: Page, action: str) -> None:
    page.source.put(rolling("Canary"))
    for _ in range(2):
        assert page.act(action, target=NEW).status_code == 200
    values = [changes["metadata", "annotations", f"segue.dev/{action}"] for _, changes in page.source.edits]
    assert len(set(values)) == 2


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN + "x", TOKEN[:-1]])
def test_nobody_acts_without_the_token(page: Page, token: str | None) -> None:
    response = page.act("pause", token=token)
    assert response.status_code == 401
    assert page.source.edits == []


def test_without_a_token_file_the_console_only_shows(tmp_path: Path) -> None:
    page = Page(tmp_path, config={"token_file": None})
    response = page.act("pause")
    assert response.status_code == 403
    assert "only shows" in reason(response)


def test_an_emptied_token_file_opens_for_nobody(page: Page) -> None:
    assert page.config.token_file is not None
    page.config.token_file.write_text("", encoding="utf-8")
    assert page.act("pause", token="").status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {TOKEN}"},
        {"Authorization": f"Bearer {TOKEN}", "Segue-Console": "1", "Sec-Fetch-Site": "cross-site"},
        {"Authorization": f"Bearer {TOKEN}", "Segue-Console": "1", "Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_page_cannot_act_for_a_person(page: Page, headers: dict[str, str]) -> None:
    wish = {"action": "pause", "uid": "uid-narrator", "generation": 1, "target": OLD}
    assert page.ask("POST", ACT, json=wish, headers=headers).status_code == 403
    assert page.source.edits == []


def test_a_form_cannot_act(page: Page) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Segue-Console": "1", "Content-Type": "text/plain"}
    assert page.ask("POST", ACT, content=b"{}", headers=headers).status_code == 415


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ({"uid": "uid-of-another"}, "made anew"),
        ({"generation": 0}, "somebody changed"),
        ({"target": NEW}, "turn by now"),
        ({"target": None}, "turn by now"),
    ],
)
def test_nobody_acts_on_what_they_did_not_see(page: Page, seen: dict[str, Any], words: str) -> None:
    response = page.act("pause", **seen)
    assert response.status_code == 409
    assert words in reason(response)


@pytest.mark.parametrize(
    ("action", "voice", "words"),
    [
        ("promote", voice_document(), "nothing waits"),
        ("promote", rolling("Verifying"), "has not passed"),
        ("resume", voice_document(), "not paused"),
        ("pause", voice_document(spec={"rollout": {"paused": True}}), "paused already"),
        ("rollback", voice_document(), "no earlier version"),
        ("rollback", rolling("Watching", history=[]), "first version"),
        ("rollback", rolling("RollingBack"), "under way"),
        ("retry", voice_document(), "has not failed"),
    ],
)
def test_a_wish_that_would_do_nothing_is_refused_in_words(
    page: Page, action: str, voice: dict[str, Any], words: str
) -> None:
    page.source.put(voice)
    target = voice["status"].get("targetRevision") or OLD
    response = page.act(action, target=target)
    assert (response.status_code, page.source.edits) == (409, [])
    assert words in reason(response)


def test_an_edit_that_somebody_else_won_is_a_conflict_in_words(page: Page) -> None:
    page.source.fails = EditConflict("voices/narrator.yaml was changed since it was read; look at it again")
    response = page.act("pause")
    assert response.status_code == 409
    assert "changed since it was read" in reason(response)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"action": "delete"}', b'{"action": "pause", "more": 1}'])
def test_a_body_that_is_no_wish_is_refused(page: Page, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Segue-Console": "1", "Content-Type": "application/json"}
    assert page.ask("POST", ACT, content=body, headers=headers).status_code == 400
    assert page.ask("POST", ACT, content=b" " * 20_000, headers=headers).status_code == 413


def test_a_token_can_be_tried_before_it_is_needed(page: Page) -> None:
    headers = {"Segue-Console": "1", "Authorization": f"Bearer {TOKEN}"}
    assert page.ask("POST", "/api/token", headers=headers).json() == {"opens": True}
    assert page.ask("POST", "/api/token", headers={"Segue-Console": "1"}).status_code == 401


# --- the stream -----------------------------------------------------------------------------------------------------


def frames(page: Page, count: int, *, voice: str | None = None, between: Any = lambda: None) -> list[dict[str, Any]]:
    async def read() -> list[dict[str, Any]]:
        page.console.streams.tick_s = 0.001
        found: list[dict[str, Any]] = []
        async with asyncio.timeout(10):
            async for frame in page.console.streams.follow(voice=voice, since=None, epoch=""):
                if frame.startswith("data: "):
                    found.append(json.loads(frame.removeprefix("data: ")))
                    if len(found) == count:
                        page.console.streams.closing.set()
                    between()
        return found

    return asyncio.run(read())


def test_a_page_is_told_everything_once_and_then_differences(page: Page) -> None:
    first, second = frames(page, 2, between=lambda: page.source.put(rolling("Canary")))
    assert first.keys() == {"list", "about", "problems", "pods"}
    assert first["list"]["whole"]
    assert second.keys() == {"list"}
    assert [row["phase"] for row in second["list"]["rows"]] == ["Canary"]


def test_the_voice_that_is_looked_at_comes_in_full_and_again_when_it_changed(page: Page) -> None:
    first, second = frames(
        page,
        2,
        voice="default/narrator",
        between=lambda: page.source.put(rolling("Verifying", reason="AwaitingApproval")),
    )
    assert first["voice"]["refused"]["promote"] == "nothing waits for it"
    assert second["voice"]["refused"]["promote"] is None
    assert [step["state"] for step in second["voice"]["timeline"]] == ["done", "current", "ahead", "ahead", "ahead"]


def test_nothing_is_drawn_when_nobody_looks(page: Page) -> None:
    frames(page, 1)
    assert page.console.streams.open == 0
    drawn = page.console.streams.rows.drawn
    page.source.put(rolling("Canary"))
    assert page.console.streams.rows.drawn == drawn == 1


def test_counts_are_kept_only_of_a_voice_that_is_looked_at() -> None:
    from segue.wire import Bucket, RevisionWindows, WindowsDocument

    news = News()
    bucket = Bucket(start_s=0, successes=3, errors={"exception": 1})
    windows = WindowsDocument(voice="default/narrator", now_s=0, revisions={OLD: RevisionWindows(buckets=(bucket,))})
    news.saw_windows("pod", windows)
    assert news.counts("default/narrator") == {}
    news.look_at("default/narrator")
    news.saw_windows("pod", windows)
    news.saw_windows("other", windows)
    assert news.counts("default/narrator") == {OLD: {"successes": 6, "errors": 2, "shielded": 0}}
    news.look_away("default/narrator")
    assert news.counts("default/narrator") == {}


# --- ranking --------------------------------------------------------------------------------------------------------

METRICS = """\
# TYPE segue_requests_total counter
segue_requests_total{voice="default/aria",revision="1",outcome="success"} 3
segue_requests_total{voice="default/aria",revision="past",outcome="success"} 4
segue_requests_total{voice="default/bert",revision="1",outcome="success"} 1
segue_audio_seconds_total{voice="default/aria",revision="1"} 12.5
segue_latency_seconds_bucket{voice="default/aria",le="1"} 9
"""


def test_the_ranking_is_counted_from_the_server_and_not_more_often_than_it_is_looked_at(tmp_path: Path) -> None:
    calls, now_s = [], [0.0]

    def answer(request: httpx.Request) -> httpx.Response:
        calls.append(request.url.path)
        return httpx.Response(200, text=METRICS)

    ranking = Ranking(metrics_url="http://server", transport=httpx.MockTransport(answer), monotonic=lambda: now_s[0])
    page = Page(tmp_path, ranking=ranking)
    found = page.ask("GET", "/api/ranking").json()
    assert found == {"from": "server", "voices": {"default/aria": [7.0, 12.5], "default/bert": [1.0, 0.0]}}
    page.ask("GET", "/api/ranking")
    assert len(calls) == 1
    now_s[0] = 11.0
    page.ask("GET", "/api/ranking")
    assert len(calls) == 2


def test_a_server_that_is_away_is_no_reason_to_fail(tmp_path: Path) -> None:
    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    ranking = Ranking(metrics_url="http://server", transport=httpx.MockTransport(away))
    found = Page(tmp_path, ranking=ranking).ask("GET", "/api/ranking").json()
    assert found == {"from": "", "voices": {}, "error": "refused"}
