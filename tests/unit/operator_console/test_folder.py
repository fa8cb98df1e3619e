"""The console over a real folder and the real loop: what it shows of pods, and what its wishes lead to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.folder_world import KEY, FolderWorld

from segue.errors import EditConflict
from segue.model import Phase
from segue_operator.console.actions import Wish, changes_for
from segue_operator.console.config import SpeechAccess
from segue_operator.console.detail import detail_of
from segue_operator.console.news import News
from segue_operator.console.speech import AT_A_TIME, MOST_WAITING, NotSaid, Sentence, Speaker
from segue_operator.folder.console import FolderConsole
from segue_operator.reports import ReportBook

QUICK: dict[str, Any] = {
    "rollout": {"canary": {"mode": "Skip"}, "approval": "Manual"},
    "watch": {
        "duration": "20s",
        "sustainedFor": "10s",
        "minRequests": 5,
        "minErrors": 2,
        "insufficientTraffic": "Proceed",
    },
}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[FolderWorld]:
    made = FolderWorld(tmp_path)
    yield made
    made.close()


def shown(world: FolderWorld) -> FolderConsole:
    kept = ReportBook(world.state / "reports")
    return FolderConsole(
        cluster=world.cluster, fleet=world.fleet, log=world.events, kept=kept, edit_file=world.cluster.edit
    )


def wish(world: FolderWorld, action: str) -> None:
    """What a click does."""
    console = shown(world)
    detail = detail_of(KEY, console, News())
    assert detail is not None
    target = detail.get("target") or detail.get("active")
    said = Wish(action=action, uid=detail["uid"], generation=detail["generation"], target=target)
    document = console.document(KEY)
    assert document is not None
    asyncio.run(console.edit(KEY, changes_for(said, document), seen=document))


def live(world: FolderWorld, *, seconds: float = 60) -> None:
    asyncio.run(world.run(seconds=seconds, every=2))


def test_a_version_waits_for_approval_until_somebody_promotes_it_on_the_page(world: FolderWorld) -> None:
    world.write_voice("v1", **QUICK)
    live(world)
    detail = detail_of(KEY, shown(world), News())
    assert detail is not None
    assert (detail["code"], detail["refused"]["promote"]) == ("AwaitingApproval", None)
    assert [step["phase"] for step in detail["timeline"] if step["state"] == "current"] == ["Verifying"]
    wish(world, "promote")
    live(world)
    assert world.status.phase is Phase.IDLE
    assert world.status.stable_revision == world.revision_of_file()


def test_a_rollback_on_the_page_goes_back_and_reverts_the_file(world: FolderWorld) -> None:
    world.write_voice("v1", **{**QUICK, "rollout": {"canary": {"mode": "Skip"}}})
    live(world)
    first = world.status.stable_revision
    world.write_voice("v2", **{**QUICK, "rollout": {"canary": {"mode": "Skip"}}})
    live(world)
    assert world.status.stable_revision != first
    wish(world, "rollback")
    live(world)
    assert world.status.active_revision == first


def test_a_file_that_was_saved_meanwhile_is_not_overwritten(world: FolderWorld) -> None:
    file = world.write_voice("v1", **QUICK)
    live(world)
    console = shown(world)
    document = console.document(KEY)
    assert document is not None
    file.write_text(file.read_text(encoding="utf-8") + "# mine\n", encoding="utf-8")
    with pytest.raises(EditConflict, match="changed since it was read"):
        asyncio.run(console.edit(KEY, {"spec.rollout.paused": True}, seen=document))
    assert file.read_text(encoding="utf-8").endswith("# mine\n")


def test_pods_and_probe_figures_are_shown(world: FolderWorld) -> None:
    world.write_voice("v1", **QUICK)
    live(world)
    detail = detail_of(KEY, shown(world), News())
    assert detail is not None
    revision = world.revision_of_file()
    assert detail["resident"] == {revision: 1}
    assert [pod["name"] for pod in detail["podsOfVoice"]] == ["local"]
    assert detail["reports"][revision]["phase"] == "Passed"


# --- listening ------------------------------------------------------------------------------------------------------


def said(world: FolderWorld, answer: Any, *, revision: str | None = None, key: str | None = None) -> Any:
    speaker = Speaker(SpeechAccess(url="http://server"), shown(world), transport=httpx.MockTransport(answer))
    sentence = Sentence(revision=revision or world.revision_of_file(), text="Hello.", seed=1)
    return asyncio.run(speaker.say(KEY, sentence, authorization=f"Bearer {key}" if key else None))


def test_a_sentence_is_asked_of_the_server_with_the_revision_pinned_and_the_persons_own_key(
    world: FolderWorld,
) -> None:
    world.write_voice("v1", **QUICK)
    live(world)
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, content=b"RIFF", headers={"Segue-Revision": "r", "Segue-Voice": KEY})

    spoken = said(world, answer, key="mine")
    assert (spoken.audio, spoken.revision) == (b"RIFF", "r")
    assert asked[0].headers["segue-pin"] == world.revision_of_file()
    assert asked[0].headers["authorization"] == "Bearer mine"
    assert b'"voice":"narrator"' in asked[0].content


def test_without_a_key_of_the_person_none_is_sent(world: FolderWorld) -> None:
    world.write_voice("v1", **QUICK)
    live(world)
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(401, json={"error": {"message": "no"}})

    with pytest.raises(NotSaid, match="asks for a key") as refused:
        said(world, answer)
    assert "authorization" not in asked[0].headers
    assert refused.value.status == 424


@pytest.mark.parametrize(
    ("access", "url"),
    [
        (SpeechAccess(), "http://sidecar:8000"),
        (SpeechAccess(port=9000, ports={"gpu": 7000}), "http://sidecar:9000"),
        (SpeechAccess(ports={"default": 9001}), "http://sidecar:9001"),
    ],
)
def test_without_one_speech_api_the_server_of_a_pod_that_has_the_revision_is_asked(
    world: FolderWorld, access: SpeechAccess, url: str
) -> None:
    world.write_voice("v1", **QUICK)
    live(world)
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, content=b"RIFF", headers={"Segue-Voice": KEY})

    speaker = Speaker(access, shown(world), transport=httpx.MockTransport(answer))
    asyncio.run(speaker.say(KEY, Sentence(revision=world.revision_of_file(), text="Hello."), authorization=None))
    assert asked == [f"{url}/v1/audio/speech"]


def test_more_sentences_than_can_wait_are_refused_at_once(world: FolderWorld) -> None:
    world.write_voice("v1", **QUICK)
    live(world)
    at_once, most = 0, 0

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        at_once -= 1
        return httpx.Response(200, content=b"RIFF", headers={"Segue-Voice": KEY})

    speaker = Speaker(SpeechAccess(url="http://server"), shown(world), transport=httpx.MockTransport(answer))
    sentence = Sentence(revision=world.revision_of_file(), text="Hello.")

    async def crowd() -> list[object]:
        calls = (speaker.say(KEY, sentence, authorization=None) for _ in range(MOST_WAITING + 3))
        return await asyncio.gather(*calls, return_exceptions=True)

    outcomes = asyncio.run(crowd())
    refused = [each for each in outcomes if isinstance(each, NotSaid)]
    assert [each.status for each in refused] == [429] * 3
    assert most <= AT_A_TIME


def test_a_revision_that_no_pod_has_ready_is_not_asked_for(world: FolderWorld) -> None:
    world.write_voice("v1", **QUICK)
    live(world)

    def answer(request: httpx.Request) -> httpx.Response:
        raise AssertionError("nobody is to be asked")

    with pytest.raises(NotSaid, match="no pod in reach has ffffffffff"):
        said(world, answer, revision="f" * 64)


def test_a_voice_of_the_same_name_in_another_namespace_is_not_taken_for_this_one(world: FolderWorld) -> None:
    world.write_voice("v1", **QUICK)
    live(world)

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=b"RIFF", headers={"Segue-Voice": "other/narrator"})

    with pytest.raises(NotSaid, match="spoke as other/narrator"):
        said(world, answer)
