"""The adapter before an API server that misbehaves: what an error means, and that every gap in a watch is closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kmock
import pytest
from tests.support.faulty_api_server import FaultyApiServer, kubeconfig_for, status
from tests.support.kubernetes_bodies import spec, voice_body

from segue_operator.kubernetes import listing, wiring
from segue_operator.kubernetes.api import (
    Api,
    ApiRefused,
    ApiUnavailable,
    InvalidCredentials,
    ListExpired,
    ObjectConflict,
    ObjectNotFound,
    connected,
    voice_path,
)
from segue_operator.kubernetes.listing import Lister
from segue_operator.kubernetes.pods import PodBook
from segue_operator.kubernetes.scope import Watch
from segue_operator.kubernetes.voices import KubernetesCluster
from segue_operator.kubernetes.wiring import Watching

VOICES = Watch(name="voices", group="segue.dev", version="v1alpha1", plural="voicemodels")
WITHIN_S = 20.0


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses are for API servers that need one."""
    monkeypatch.setattr(wiring, "BACKOFFS_S", (0.01, 0.01))
    for module in (wiring, listing):
        monkeypatch.setattr(module, "FIRST_RETRY_S", 0.01)
        monkeypatch.setattr(module, "LONGEST_RETRY_S", 0.05)
    monkeypatch.setattr(listing, "SETTLE_S", 0.01)


# --- what an error means ------------------------------------------------------------------------------------------


@asynccontextmanager
async def answering(answer: Any, tmp_path: Path) -> AsyncIterator[Api]:
    async with kmock.KubernetesScaffold() as handler, kmock.Server(handler):
        handler["get", voice_path("voices/narrator")] << answer
        config = kubeconfig_for(str(handler.url), tmp_path / "kubeconfig")
        async with connected(kubeconfig=config, context=None) as api:
            yield api


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        (status(404, name="narrator"), ObjectNotFound),
        (status(404, "the server could not find the requested resource"), ApiUnavailable),
        (404, ApiUnavailable),
        (status(409), ObjectConflict),
        (status(410), ListExpired),
        (status(403), ApiRefused),
        (status(422), ApiRefused),
        (status(429), ApiUnavailable),
        (status(500), ApiUnavailable),
        (503, ApiUnavailable),
        (b"<html>", ApiUnavailable),
        ([1, 2], ApiUnavailable),
    ],
)
def test_what_an_answer_means(answer: object, meaning: type[Exception], tmp_path: Path) -> None:
    async def main() -> None:
        async with answering(answer, tmp_path) as api:
            with pytest.raises(meaning):
                await api.call("GET", voice_path("voices/narrator"))

    asyncio.run(main())


def test_no_answer_means_that_nothing_is_known(tmp_path: Path) -> None:
    async def main() -> None:
        async with answering(lambda: asyncio.sleep(5), tmp_path) as api:
            with pytest.raises(ApiUnavailable):
                await api.call("GET", voice_path("voices/narrator"), answer_s=0.05)
            assert api.requests == {("GET", 0): 1}
        async with connected(kubeconfig=tmp_path / "kubeconfig", context=None) as api:
            with pytest.raises(ApiUnavailable):  # nobody listens there any more
                await api.call("GET", voice_path("voices/narrator"))

    asyncio.run(main())


def test_a_token_that_was_replaced_is_read_again(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")
    body = voice_body()

    async def main() -> None:
        async with kmock.KubernetesScaffold() as handler, kmock.Server(handler):
            handler["get", voice_path("voices/narrator"), {"Authorization": "Bearer new"}] << body
            handler["get", voice_path("voices/narrator")] << status(401)
            config = kubeconfig_for(str(handler.url), tmp_path / "kubeconfig", token_file=token)
            async with connected(kubeconfig=config, context=None) as api:
                with pytest.raises(ApiRefused):
                    await api.call("GET", voice_path("voices/narrator"))
                token.write_text("new")
                assert await api.call("GET", voice_path("voices/narrator")) == body

    asyncio.run(main())


@pytest.mark.parametrize("content", ["", "clusters: 7\n", "{", None])
def test_a_kubeconfig_that_cannot_be_used_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)

    async def main() -> None:
        async with connected(kubeconfig=path, context=None):
            pass

    with pytest.raises(InvalidCredentials, match=str(path)):
        asyncio.run(main())


# --- watches ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Followed:
    """An adapter that follows a server."""

    server: FaultyApiServer
    api: Api
    cluster: KubernetesCluster
    watching: Watching

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for what must come."""
        async with asyncio.timeout(WITHIN_S):
            while not holds():  # noqa: ASYNC110 - threads and sockets are between the cause and what is waited for
                await asyncio.sleep(0.01)

    async def woken(self, *keys: str) -> None:
        """Wait until these were woken."""
        missing = set(keys)
        async with asyncio.timeout(WITHIN_S):
            while missing:
                missing -= await self.cluster.seen.changed()


@asynccontextmanager
async def following(server: FaultyApiServer, tmp_path: Path) -> AsyncIterator[Followed]:
    """List, watch, and close gaps, as the operator's process does."""
    async with server.serving() as url:
        config = kubeconfig_for(url, tmp_path / "kubeconfig")
        async with connected(kubeconfig=config, context=None) as api:
            cluster = KubernetesCluster(api=api, require_allowed=lambda _: None, tell=lambda _key, _event: None)
            pods = PodBook(fleet_of=lambda _namespace, _labels: None, control_port=8443)
            lister = Lister(api=api, cluster=cluster, pods=pods, watches=(VOICES,), held=tuple)
            watching = Watching(api=api, watches=(VOICES,), deliver=lister.take, on_gap=lister.request)
            await lister.first()
            tasks = [asyncio.create_task(watching.run()), asyncio.create_task(lister.run())]
            try:
                followed = Followed(server, api, cluster, watching)
                await followed.until(lambda: server.watched == 1)
                yield followed
            finally:
                for task in tasks:
                    task.cancel()
                outcomes = await asyncio.gather(*tasks, return_exceptions=True)
                assert all(isinstance(each, asyncio.CancelledError) for each in outcomes), outcomes


def run_following(story: Callable[[Followed], object], tmp_path: Path, *names: str) -> None:
    server = FaultyApiServer()
    for name in names:
        server.put(voice_body(name))

    async def main() -> None:
        async with following(server, tmp_path) as followed:
            await story(followed)  # type: ignore[misc]

    asyncio.run(main())


def test_what_is_there_is_listed_and_what_happens_is_seen(tmp_path: Path) -> None:
    async def story(followed: Followed) -> None:
        assert followed.cluster.keys() == {"voices/one"}
        await followed.woken("voices/one")
        followed.server.put(voice_body("two"))
        await followed.woken("voices/two")
        followed.server.put(voice_body("two", generation=2, spec_=spec("b")))
        await followed.woken("voices/two")
        followed.server.delete("voices/two")
        await followed.woken("voices/two")
        assert await followed.cluster.read("voices/two") is None

    run_following(story, tmp_path, "one")


def test_a_cut_watch_is_taken_up_again(tmp_path: Path) -> None:
    async def story(followed: Followed) -> None:
        for number in range(3):
            seen = followed.server.asked["watch"]
            followed.server.cut_watches()
            await followed.until(lambda seen=seen: followed.server.asked["watch"] > seen)  # type: ignore[misc]
            await followed.until(lambda: followed.server.watched == 1)
            followed.server.put(voice_body(f"voice-{number}"))
            await followed.woken(f"voices/voice-{number}")
        assert followed.watching.restarts["voices"] == 0, "kopf goes on where it was"

    run_following(story, tmp_path)


@pytest.mark.parametrize("code", [410, 500])
def test_what_happened_in_a_gap_is_found_out(code: int, tmp_path: Path) -> None:
    async def story(followed: Followed) -> None:
        await followed.woken("voices/kept", "voices/gone", "voices/changed")
        followed.server.delete("voices/gone", tell=False)
        followed.server.put(voice_body("changed", generation=2, spec_=spec("b")), tell=False)
        followed.server.put(voice_body("new"), tell=False)
        followed.server.end_watches_with(code)
        await followed.woken("voices/gone", "voices/changed", "voices/new")
        assert "voices/gone" in followed.cluster.keys(), "looked at, and not taken for gone"  # noqa: SIM118
        assert await followed.cluster.read("voices/gone") is None
        assert await followed.cluster.deleted("voices/gone") is not None
        await followed.until(lambda: followed.server.watched == 1)

    run_following(story, tmp_path, "kept", "gone", "changed")


@pytest.mark.parametrize("code", [403, 404, 410, 500])
def test_a_watch_that_is_refused_is_begun_anew(code: int, tmp_path: Path) -> None:
    async def story(followed: Followed) -> None:
        followed.server.faults["watch"].extend(status(code) for _ in range(4))
        followed.server.cut_watches()
        await followed.until(lambda: followed.watching.restarts["voices"] > 0)
        await followed.until(lambda: followed.server.watched == 1)
        followed.server.put(voice_body("new"))
        await followed.woken("voices/new")

    run_following(story, tmp_path)


def test_a_list_that_is_refused_is_asked_for_again(tmp_path: Path) -> None:
    server = FaultyApiServer()
    server.put(voice_body())
    server.faults["list"].extend([status(500), status(403), status(410), status(410), status(410), status(503)])

    async def main() -> None:
        async with following(server, tmp_path) as followed:
            assert followed.cluster.keys() == {"voices/narrator"}

    asyncio.run(main())


def test_a_kind_that_is_not_served_yet_is_waited_for(tmp_path: Path) -> None:
    server = FaultyApiServer()
    server.put(voice_body())
    server.faults["list"].extend(status(404, "the server could not find the requested resource") for _ in range(3))

    async def main() -> None:
        async with following(server, tmp_path) as followed:
            assert followed.cluster.keys() == {"voices/narrator"}

    asyncio.run(main())


def test_a_question_that_is_answered_with_an_error_says_nothing_of_the_voice(tmp_path: Path) -> None:
    async def story(followed: Followed) -> None:
        for error in (status(500), status(404), status(403)):
            followed.server.faults["get"].append(error)
            with pytest.raises((ApiUnavailable, ApiRefused)):
                await followed.cluster.read("voices/narrator")
            assert await followed.cluster.deleted("voices/narrator") is None
        assert await followed.cluster.read("voices/narrator") is not None

    run_following(story, tmp_path, "narrator")
