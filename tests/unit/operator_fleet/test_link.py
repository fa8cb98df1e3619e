"""The lean line to a sidecar, over real TLS to the sidecar's own listener: reuse, one connection for two, identity."""

from __future__ import annotations

import asyncio
import gc
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from segue.control import Request
from segue.errors import ControlUnreachable
from segue.tls import OPERATOR_NAME, Authority, KeyPairFiles, client_context, server_context
from segue_operator.fleet.link import ENDS_WAITS, Link
from segue_operator.fleet.lull import Lull
from segue_sidecar.config import Address
from segue_sidecar.hurry import STATE_KEY, Hurry
from segue_sidecar.listener import HttpListener

NAME = "default.default.sidecar.segue.dev"


@dataclass
class Peer:
    """An application that echoes, waits and dies on demand.

    Attributes
    ----------
    connections
        Client ports that were seen.
    """

    connections: list[int] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    heard: list[str] = field(default_factory=list)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self.connections.append(scope["client"][1])
        self.heard.append(scope["path"])
        body = b""
        while (message := await receive()).get("more_body"):
            body += message["body"]
        body += message.get("body", b"")
        status = 200
        if scope["path"] == "/wait":
            status = await self._wait(scope["state"][STATE_KEY])
        if scope["path"] == "/mute":
            await asyncio.sleep(60)
        headers = [(b"content-length", str(len(body)).encode()), (b"X-Path", scope["path"].encode())]
        if scope["path"] == "/last":
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _wait(self, hurry: Hurry) -> int:
        """200 with news, 304 where a call behind it ended the wait."""
        try:
            async with asyncio.timeout(30) as deadline:
                hurry.ends(deadline)
                self.waiting.set()
                await self.news.wait()
        except TimeoutError:
            assert hurry.asked
            return 304
        else:
            return 200
        finally:
            self.waiting.clear()


@asynccontextmanager
async def served(directory: Path, peer: Peer, *, name: str = NAME) -> AsyncIterator[str]:
    authority = Authority.create(directory / "ca")
    files = authority.issue(name, server=True, directory=directory / "sidecar")
    authority.issue(OPERATOR_NAME, server=False, directory=directory / "operator")
    listener = HttpListener(peer, tls=server_context(files, client_name=OPERATOR_NAME), request_s=5)
    host, port = await listener.open(Address(host="127.0.0.1"))
    try:
        yield f"https://{host}:{port}"
    finally:
        await listener.close(deadline_s=0)


@asynccontextmanager
async def linked(url: str, directory: Path, *, kept: int = 2, lull: Lull | None = None) -> AsyncIterator[Link]:
    link = Link(url, dialling(directory), kept=kept, lull=lull or Lull())
    try:
        yield link
    finally:
        await link.aclose()


def dialling(directory: Path) -> ssl.SSLContext:
    return client_context(KeyPairFiles.of(directory / "operator"), server_name=NAME)


def call(path: str, *, content: bytes | None = None, extra_s: float = 0.0, timeout_s: float = 5.0) -> Request:
    method = "GET" if content is None else "PUT"
    return Request(
        method=method, target=path, headers={"x-any": "1"}, content=content, timeout_s=timeout_s, extra_s=extra_s
    )


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the peer tells nobody
            await asyncio.sleep(0.005)


def test_calls_one_after_the_other_share_a_connection(tmp_path: Path) -> None:
    async def story() -> None:
        peer = Peer()
        async with served(tmp_path, peer) as url, linked(url, tmp_path) as link:
            answers = [await link.exchange(call("/echo", content=bytes([65 + index]) * 70_000)) for index in range(3)]
            assert [(answer.status, answer.content[:1], len(answer.content)) for answer in answers] == [
                (200, b"A", 70_000),
                (200, b"B", 70_000),
                (200, b"C", 70_000),
            ]
            assert answers[0].headers["x-path"] == "/echo"
            assert 0 < answers[0].sent_ns <= answers[0].received_ns
            assert len(set(peer.connections)) == 1

    asyncio.run(story())


def test_a_command_does_not_wait_for_the_long_poll_but_takes_a_connection_of_its_own(tmp_path: Path) -> None:
    async def story() -> None:
        peer = Peer()
        async with served(tmp_path, peer) as url, linked(url, tmp_path) as link:
            poll = asyncio.create_task(link.exchange(call("/wait", extra_s=30)))
            await peer.waiting.wait()
            await link.exchange(call("/echo"))
            assert not poll.done()
            peer.news.set()
            assert (await poll).status == 200
            assert len(set(peer.connections)) == 2

    asyncio.run(story())


def test_where_connections_are_dear_a_command_behind_the_long_poll_ends_its_wait(tmp_path: Path) -> None:
    async def story() -> None:
        peer = Peer()
        async with served(tmp_path, peer) as url, linked(url, tmp_path, kept=1) as link:
            link.hears(ENDS_WAITS)
            poll = asyncio.create_task(link.exchange(call("/wait", extra_s=30)))
            await peer.waiting.wait()
            answer = await link.exchange(call("/echo", content=b"now"))
            assert answer.content == b"now"
            assert (await poll).headers["x-path"] == "/wait"
            assert peer.heard == ["/wait", "/echo"]
            assert len(set(peer.connections)) == 1

    asyncio.run(story())


def test_who_was_cut_short_is_told_when_the_commands_are_over(tmp_path: Path) -> None:
    async def story() -> None:
        peer, lull = Peer(), Lull()
        async with served(tmp_path, peer) as url, linked(url, tmp_path, kept=1, lull=lull) as link:
            link.hears(ENDS_WAITS)
            poll = asyncio.create_task(link.exchange(call("/wait", extra_s=30)))
            await peer.waiting.wait()
            with lull.broken():
                await link.exchange(call("/echo"))
                await asyncio.sleep(0.05)
                assert not poll.done(), "the next of many commands comes first"
            assert (await poll).status == 304

    asyncio.run(story())


def test_news_is_told_at_once_whatever_is_commanded(tmp_path: Path) -> None:
    async def story() -> None:
        peer, lull = Peer(), Lull()
        async with served(tmp_path, peer) as url, linked(url, tmp_path, kept=1, lull=lull) as link:
            link.hears(ENDS_WAITS)
            with lull.broken():
                poll = asyncio.create_task(link.exchange(call("/wait", extra_s=30)))
                await peer.waiting.wait()
                peer.news.set()
                assert (await poll).status == 200

    asyncio.run(story())


def test_the_next_long_poll_waits_for_the_command_and_not_for_another_connection(tmp_path: Path) -> None:
    async def story() -> None:
        peer = Peer()
        async with served(tmp_path, peer) as url, linked(url, tmp_path, kept=1) as link:
            link.hears(ENDS_WAITS)
            for _ in range(5):
                poll = asyncio.create_task(link.exchange(call("/wait", extra_s=30)))
                await until(peer.waiting.is_set)
                commands = asyncio.create_task(link.exchange(call("/echo")))
                await poll
                again = asyncio.create_task(link.exchange(call("/wait", extra_s=30)))
                await commands
                await until(peer.waiting.is_set)
                peer.news.set()
                await again
                peer.news.clear()
            assert len(set(peer.connections)) == 1

    asyncio.run(story())


def test_a_sidecar_of_the_version_before_is_never_asked_behind_a_long_poll(tmp_path: Path) -> None:
    async def story() -> None:
        peer = Peer()
        async with served(tmp_path, peer) as url, linked(url, tmp_path, kept=1) as link:
            link.hears(ENDS_WAITS - 1)
            poll = asyncio.create_task(link.exchange(call("/wait", extra_s=30)))
            await peer.waiting.wait()
            await link.exchange(call("/echo"))
            assert not poll.done()
            peer.news.set()
            await poll

    asyncio.run(story())


def test_a_connection_that_the_sidecar_closed_is_replaced(tmp_path: Path) -> None:
    async def story() -> None:
        peer = Peer()
        async with served(tmp_path, peer) as url, linked(url, tmp_path) as link:
            await link.exchange(call("/last"))
            assert (await link.exchange(call("/echo", content=b"x"))).content == b"x"
            assert len(set(peer.connections)) == 2

    asyncio.run(story())


def test_a_closed_connection_is_freed_without_a_collection(tmp_path: Path) -> None:
    async def story() -> None:
        async with served(tmp_path, Peer()) as url, linked(url, tmp_path) as link:
            gc.collect()
            gc.disable()
            try:
                for _ in range(3):
                    await link.exchange(call("/echo"))
                    link.rest()
                await asyncio.sleep(0.05)
                assert not [each for each in gc.get_objects() if type(each).__name__ == "_Connection"]
            finally:
                gc.enable()

    asyncio.run(story())


def test_an_answer_that_does_not_come_in_time_is_out_of_reach(tmp_path: Path) -> None:
    async def story() -> None:
        peer = Peer()
        async with served(tmp_path, peer) as url, linked(url, tmp_path) as link:
            with pytest.raises(ControlUnreachable, match="no answer in time"):
                await link.exchange(call("/mute", timeout_s=0.2))
            assert (await link.exchange(call("/echo", content=b"x"))).content == b"x"

    asyncio.run(story())


def test_the_certificate_of_another_fleet_is_refused(tmp_path: Path) -> None:
    async def story() -> None:
        peer = Peer()
        async with served(tmp_path, peer, name="other.default.sidecar.segue.dev") as url, linked(url, tmp_path) as link:
            with pytest.raises(ControlUnreachable, match="is for other"):
                await link.exchange(call("/echo"))
            assert peer.heard == []

    asyncio.run(story())


def test_nobody_listening_is_out_of_reach() -> None:
    async def story() -> None:
        link = Link("http://127.0.0.1:1")
        with pytest.raises(ControlUnreachable, match="ConnectionRefused"):
            await link.exchange(call("/echo"))

    asyncio.run(story())


def test_closing_lets_go_of_whoever_waits_and_of_whoever_comes_later(tmp_path: Path) -> None:
    async def story() -> None:
        peer = Peer()
        async with served(tmp_path, peer) as url, linked(url, tmp_path) as link:
            poll = asyncio.create_task(link.exchange(call("/wait", extra_s=30)))
            await peer.waiting.wait()
            await link.aclose()
            with pytest.raises(ControlUnreachable):
                await poll
            with pytest.raises(ControlUnreachable, match="closed"):
                await link.exchange(call("/echo"))

    asyncio.run(story())
