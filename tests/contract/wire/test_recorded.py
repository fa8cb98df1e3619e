"""Wire versions that are one apart understand each other, both ways; held against what version 1 really said.

Four pairings: our client reads the answers of a version 1 sidecar; a version 1 sidecar takes our client's commands; our
sidecar takes the commands of a version 1 client, byte for byte; a version 1 client reads our sidecar's answers. The
peers of version 1 are the recordings, and the schemas that its sidecar published of itself.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jsonschema_rs
import pytest
from tests.contract.wire.exchanges import VOICES_URI, Exchange, Scene, read_openapi, read_scene
from tests.support.sidecar import POD, VOICE, World, running, until
from typing_extensions import override

from segue.control import REFUSALS, SidecarClient
from segue.errors import CommandRefused, SegueError
from segue.tls import client_context, sidecar_name
from segue.wire import (
    HEADER_WIRE,
    WIRE_VERSION,
    Fence,
    PointerRequest,
    ProbePhase,
    ProbeRequest,
    RevisionPhase,
    RevisionRequest,
    WireModel,
)

OLD = 1
ETAG = r'"[0-9a-f]{32}"'
SCENES = ("life", "refusals", "deadman")
BY_HAND = frozenset(
    {
        "another pod", "no pod", "no such path", "no such method", "no fence", "broken fence", "broken body",
        "field that does not hold", "unknown enum", "unknown field", "query of a newer client", "next wire version",
        "wire version too new", "body too large",
    }
)  # fmt: skip
"""Recorded, but not said by any `SidecarClient`."""


def exchanges() -> Iterator[Any]:
    """All of them, by name."""
    for name in SCENES:
        for each in read_scene(OLD, name).exchanges:
            yield pytest.param(each, id=f"{name}: {each.name}")


# --- our client, a sidecar of version 1 -------------------------------------------------------------------------------


class Replay(httpx.AsyncBaseTransport):
    """Answers with one recorded answer; keeps what it was asked."""

    def __init__(self, exchange: Exchange) -> None:
        self._answer = exchange.answer
        self.asked: httpx.Request | None = None

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.asked = request
        content = json.dumps(self._answer.body).encode() if self._answer.body is not None else b""
        return httpx.Response(self._answer.status, headers=self._answer.headers, content=content)


def call_of(exchange: Exchange) -> Callable[[SidecarClient], Awaitable[Any]]:
    """The call of `SidecarClient` that the recorded one was."""
    request = exchange.request
    parts = urlsplit(request.target)
    query, path = parse_qs(parts.query), parts.path.strip("/").split("/")
    term = int(request.headers["segue-term"]) if "segue-term" in request.headers else None
    if path == ["v1", "state"]:
        since = query.get("since", [None])[0]
        return lambda client: client.state(since=since, term=term)
    if path == ["v1", "windows"]:
        return lambda client: client.windows(query["voice"][0], since_s=int(query["since"][0]), term=term)
    voice, rest, body = f"{path[2]}/{path[3]}", path[4:], json.dumps(request.body)
    if request.method == "GET" and rest[2:] == ["report"]:
        return lambda client: client.report(voice, rest[1], term=term)
    if request.method == "GET":
        return lambda client: client.audio(voice, rest[1], case=int(rest[3]), seed=int(rest[4]), term=term)
    command: dict[str, Any] = {
        "fence": Fence.parse(request.headers["segue-fence"]),
        "voice_uid": request.headers["segue-voice-uid"],
    }
    match request.method, rest:
        case "PUT", ["revisions", revision]:
            wanted = RevisionRequest.model_validate_json(body)
            return lambda client: client.ensure_revision(voice, revision, wanted, **command)
        case "POST", ["revisions", revision, "probe"]:
            probe = ProbeRequest.model_validate_json(body)
            return lambda client: client.probe(voice, revision, probe, **command)
        case "PUT", ["pointer"]:
            pointer = PointerRequest.model_validate_json(body)
            return lambda client: client.set_pointer(voice, pointer, **command)
        case "POST", ["confirm"]:
            return lambda client: client.confirm(voice, **command)
        case "DELETE", ["revisions", revision]:
            return lambda client: client.drop_revision(voice, revision, **command)
        case "DELETE", []:
            return lambda client: client.release_voice(voice, **command)
        case _:
            raise AssertionError(f"no such call: {request.method} {request.target}")


@pytest.mark.parametrize("exchange", [case for case in exchanges() if case.values[0].name not in BY_HAND])
def test_our_client_reads_what_a_sidecar_of_version_1_answers(exchange: Exchange) -> None:
    async def story() -> None:
        async with SidecarClient("http://pod", pod_uid=POD, transport=Replay(exchange)) as client:
            if exchange.answer.status >= 400:
                reason = exchange.answer.body["error"]["reason"]
                with pytest.raises(REFUSALS[reason][0], match=r"."):
                    await call_of(exchange)(client)
                return
            read = await call_of(exchange)(client)
            if isinstance(read, WireModel):
                ours = read.model_dump(mode="json", by_alias=True)
                assert lost(exchange.answer.body, ours) == []
            else:
                assert read is None or isinstance(read, bytes)

    asyncio.run(story())


def lost(theirs: Any, ours: Any, place: str = "") -> list[str]:
    """What `theirs` says and `ours` does not."""
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        return [
            found
            for key, value in theirs.items()
            for found in ([f"{place}.{key}"] if key not in ours else lost(value, ours[key], f"{place}.{key}"))
        ]
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        return [
            found
            for index, (one, other) in enumerate(zip(theirs, ours, strict=True))
            for found in lost(one, other, f"{place}[{index}]")
        ]
    return [] if theirs == ours else [f"{place}: {theirs!r} became {ours!r}"]


@pytest.mark.parametrize("exchange", [case for case in exchanges() if case.values[0].name not in BY_HAND])
def test_a_sidecar_of_version_1_takes_what_our_client_asks(exchange: Exchange) -> None:
    async def story() -> None:
        replay = Replay(exchange)
        async with SidecarClient("http://pod", pod_uid=POD, transport=replay) as client:
            try:
                await call_of(exchange)(client)
            except CommandRefused:
                assert exchange.answer.status >= 400
        assert replay.asked is not None
        asked, recorded = replay.asked, exchange.request
        assert (asked.method, asked.url.raw_path.decode()) == (recorded.method, recorded.target)
        headers = {name: asked.headers[name] for name in recorded.headers}
        assert headers == {**recorded.headers, HEADER_WIRE.lower(): str(WIRE_VERSION)}
        assert lost(recorded.body, json.loads(asked.content) if asked.content else None) == []

    asyncio.run(story())


def test_a_sidecar_of_version_1_takes_our_version_in_the_header() -> None:
    """It published the greatest version that it takes."""
    operation = read_openapi(OLD)["paths"]["/v1/state"]["get"]
    (header,) = [one for one in operation["parameters"] if one["name"] == HEADER_WIRE]
    assert header["schema"]["minimum"] <= WIRE_VERSION <= header["schema"]["maximum"]


# --- our sidecar, a client of version 1 -------------------------------------------------------------------------------


class OldReader:
    """What version 1 reads: the schemas that its sidecar published of its answers."""

    def __init__(self) -> None:
        self._openapi = read_openapi(OLD)

    def mistakes(self, exchange: Exchange, status: int, body: Any) -> list[str]:
        """What it could not read in an answer to a recorded request."""
        path = urlsplit(exchange.request.target).path.strip("/").split("/")
        operation = self._operation(path)[exchange.request.method.lower()]
        content = operation["responses"][str(status)].get("content", {}).get("application/json")
        if content is None:
            return []
        schema = {"components": self._openapi["components"], **content["schema"]}
        return [f"{error.instance_path}: {error.message}" for error in jsonschema_rs.iter_errors(schema, body)]

    def _operation(self, path: list[str]) -> Any:
        for template, operations in self._openapi["paths"].items():
            parts = template.strip("/").split("/")
            if len(parts) == len(path) and all(a == b or a.startswith("{") for a, b in zip(parts, path, strict=True)):
                return operations
        raise AssertionError(f"version 1 knew no {'/'.join(path)}")


def test_the_reader_of_version_1_stumbles_over_what_version_1_did_not_say() -> None:
    """Or the tests below would prove nothing."""
    (exchange,) = [each for each in read_scene(OLD, "life").exchanges if each.name == "first flip"]
    body = exchange.answer.body
    assert OldReader().mistakes(exchange, 200, body) == []
    assert OldReader().mistakes(exchange, 200, {**body, "pointer": {**body["pointer"], "mode": "whisper"}})
    assert OldReader().mistakes(exchange, 200, {key: each for key, each in body.items() if key != "pointer"})
    assert missing(body, {**body, "pointer": {}})


class Player:
    """Says a recorded scene again, byte for byte but for times and files, to a sidecar of today."""

    def __init__(self, world: World, scene: Scene) -> None:
        self._world = world
        self._scene = scene
        self._digests = {old: self._weights(name) for name, old in scene.weights.items() if len(set(old)) > 2}
        tls = client_context(world.operator, server_name=sidecar_name(fleet="default", namespace="default"))
        self.http = httpx.AsyncClient(base_url=world.ready["control"], verify=tls, trust_env=False)

    def _weights(self, name: str) -> str:
        if name.isdigit():
            return self._world.version(int(name))[1].weights["tone"].sha256
        return self._world.write(name, b"no engine of these tests reads it").sha256

    async def say(self, exchange: Exchange) -> httpx.Response:
        """One request."""
        body = json.dumps(exchange.request.body).replace(VOICES_URI, self._world.voices.as_uri())
        for old, new in self._digests.items():
            body = body.replace(old, new)
        document = json.loads(body)
        if isinstance(document, dict) and document.get("atNs"):
            shift_ns = document["atNs"] - exchange.request.sent_ns
            document["atNs"] = time.time_ns() + shift_ns
        target = exchange.request.target
        if "since=" in target and "/state" in target:
            etag = (await self.http.get("/v1/state", headers=exchange.request.headers)).json()["etag"]
            target = f"/v1/state?wait=0s&since={etag}"
        return await self.http.request(
            exchange.request.method,
            target,
            headers=exchange.request.headers,
            content=json.dumps(document).encode() if document is not None else b"",
        )


@pytest.mark.process
def test_our_sidecar_takes_what_a_client_of_version_1_says_and_is_read_by_it() -> None:
    async def story() -> None:
        async with running() as (world, client):
            scene = read_scene(OLD, "life")
            player, reader = Player(world, scene), OldReader()
            async with player.http:
                for exchange in scene.exchanges:
                    answer = await player.say(exchange)
                    assert answer.status_code == exchange.answer.status, (exchange.name, answer.text)
                    if answer.headers.get("content-type") == "application/json":
                        assert reader.mistakes(exchange, answer.status_code, answer.json()) == [], exchange.name
                        assert missing(exchange.answer.body, answer.json()) == [], exchange.name
                    if "etag" in exchange.answer.headers:
                        assert re.fullmatch(ETAG, answer.headers["etag"])
                        assert re.fullmatch(ETAG, exchange.answer.headers["etag"])
                    await settle(client)

    asyncio.run(story())


@pytest.mark.process
def test_our_sidecar_refuses_a_client_of_version_1_in_words_that_it_reads() -> None:
    async def story() -> None:
        async with running() as (world, client):
            scene = read_scene(OLD, "refusals")
            player, reader = Player(world, scene), OldReader()
            async with player.http:
                for exchange in scene.exchanges:
                    if exchange.name in ("broken body", "body too large", "wire version too new"):
                        continue
                    answer = await player.say(exchange)
                    assert answer.status_code == exchange.answer.status, (exchange.name, answer.text)
                    if answer.is_error:
                        assert answer.json()["error"]["reason"] == exchange.answer.body["error"]["reason"]
                    if not answer.is_error:
                        assert reader.mistakes(exchange, answer.status_code, answer.json()) == [], exchange.name
                    await settle(client)

    asyncio.run(story())


async def settle(client: SidecarClient) -> None:
    """Let go on what goes on behind the answers: loading, probing, retiring."""
    moving = (RevisionPhase.READY, RevisionPhase.FAILED)

    def at_rest(state: Any) -> bool:
        revisions = [one for voice in state.voices.values() for one in voice.revisions.values()]
        probing = any(one.report and one.report.phase is ProbePhase.RUNNING for one in revisions)
        return not probing and all(one.phase in moving for one in revisions)

    await until(client, at_rest, what="the sidecar to rest")


def missing(theirs: Any, ours: Any, place: str = "") -> list[str]:
    """Fields that version 1 said and ours does not, or says as another kind of thing; names of revisions are data."""
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        if place.endswith((".details", ".errors", ".figures", ".revisions", ".engineBuilds")):
            return []
        return [
            found
            for key, value in theirs.items()
            for found in ([f"{place}.{key}"] if key not in ours else missing(value, ours[key], f"{place}.{key}"))
        ]
    alike = (
        theirs is None or ours is None or isinstance(ours, type(theirs)) or {type(theirs), type(ours)} <= {int, float}
    )
    return [] if alike else [f"{place}: {type(theirs).__name__} became {type(ours).__name__}"]


# --- who understands whom ---------------------------------------------------------------------------------------------


@pytest.mark.process
def test_a_sidecar_refuses_whoever_is_more_than_one_version_away_and_says_so() -> None:
    async def story() -> None:
        async with running() as (world, _):
            player = Player(world, read_scene(OLD, "refusals"))
            async with player.http:
                for version, status in ((0, 400), (1, 200), (2, 200), (3, 200), (4, 400), (99, 400)):
                    headers = {"segue-pod": POD, "segue-wire": str(version)}
                    answer = await player.http.get("/v1/state", headers=headers)
                    assert answer.status_code == status, version
                    if status == 400:
                        detail = answer.json()["error"]
                        assert detail["reason"] == "UnsupportedWire"
                        assert "understands 1 to 3" in detail["message"]
                        assert str(version) in detail["message"]
                flip = {"segue-pod": POD, "segue-wire": "4", "segue-fence": "9.9", "segue-voice-uid": "u"}
                refused = await player.http.put(f"/v1/voices/{VOICE}/pointer", headers=flip, content=b"{}")
                assert (refused.status_code, refused.json()["error"]["reason"]) == (400, "UnsupportedWire")

    asyncio.run(story())


def test_a_client_of_version_1_reads_that_refusal_as_a_refusal() -> None:
    """To it the reason is unknown: it raises `CommandRefused` with reason and message, and takes it for no silence."""
    recorded = read_openapi(OLD)["components"]["schemas"]["ErrorBody"]
    body = {"error": {"reason": "UnsupportedWire", "message": "…", "figures": {}}}
    schema = {"components": read_openapi(OLD)["components"], **recorded}
    assert list(jsonschema_rs.iter_errors(schema, body)) == []
    assert 400 <= REFUSALS["UnsupportedWire"][1] < 500
    assert issubclass(REFUSALS["UnsupportedWire"][0], SegueError)
