"""Records what today's client and today's sidecar say to each other: `python -m tests.contract.wire.record`.

Run it once before `WIRE_VERSION` is raised, and commit what it writes to `recorded/v<WIRE_VERSION>/`: from then on the
tests hold newer clients and newer sidecars to it. A real sidecar process with a real worker answers the real
`SidecarClient`; only what that client would never send (a wrong header, a broken body) is written by hand.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from tests.contract.wire.exchanges import RECORDED, VOICES_URI
from tests.support.sidecar import POD, UID, VOICE, World, load, running, until, until_phase
from typing_extensions import override

from segue.control import SidecarClient
from segue.errors import CommandRefused
from segue.tls import client_context, sidecar_name
from segue.wire import (
    WIRE_VERSION,
    Consistency,
    Expected,
    Fence,
    FileSource,
    PointerRequest,
    ProbeCase,
    ProbeKind,
    ProbePhase,
    ProbeRequest,
    ProbeTerms,
    ReferenceSource,
    RevisionPhase,
    RevisionState,
    WatchTerms,
)

_KEPT_HEADERS = ("content-type", "etag", "allow")
_UNKNOWN = "ab" * 32


class Recorder(httpx.AsyncBaseTransport):
    """Passes everything on, and keeps what is asked for while it is told a name."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner
        self._name: str | None = None
        self.exchanges: list[dict[str, Any]] = []

    @contextlib.contextmanager
    def keeping(self, name: str) -> Any:
        """Keep what is said meanwhile."""
        self._name = name
        try:
            yield
        finally:
            self._name = None

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        sent_ns = time.time_ns()
        content = await request.aread()
        response = await self._inner.handle_async_request(request)
        body = await response.aread()
        if self._name is not None:
            self.exchanges.append(
                {
                    "name": self._name,
                    "request": {
                        "method": request.method,
                        "target": request.url.raw_path.decode(),
                        "headers": {name: value for name, value in request.headers.items() if _says_something(name)},
                        "body": _document(content),
                        "sent_ns": sent_ns,
                    },
                    "answer": {
                        "status": response.status_code,
                        "headers": {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers},
                        "body": _document(body),
                    },
                }
            )
        return response

    @override
    async def aclose(self) -> None:
        await self._inner.aclose()


def _says_something(name: str) -> bool:
    return name.startswith("segue-") or name == "content-type"


def _document(content: bytes) -> Any:
    try:
        return json.loads(content) if content else None
    except ValueError:
        return None


class Stage:
    """One sidecar with a recorded client."""

    def __init__(self, world: World) -> None:
        tls = client_context(world.operator, server_name=sidecar_name(fleet="default", namespace="default"))
        self.world = world
        self.recorder = Recorder(httpx.AsyncHTTPTransport(verify=tls))
        self.client = SidecarClient(world.ready["control"], pod_uid=POD, transport=self.recorder)
        self.weights: dict[str, str] = {}

    async def say(self, name: str, call: Callable[[SidecarClient], Awaitable[Any]]) -> Any:
        """Keep one call of the real client; a refusal is as good as an answer."""
        with self.recorder.keeping(name):
            try:
                return await call(self.client)
            except CommandRefused as error:
                return error

    async def say_by_hand(
        self, name: str, method: str, path: str, *, headers: dict[str, str], body: bytes = b""
    ) -> None:
        """Keep one call that the client would not make."""
        async with httpx.AsyncClient(transport=_Unclosed(self.recorder), base_url=self.world.ready["control"]) as raw:
            with self.recorder.keeping(name):
                await raw.request(method, path, headers=headers, content=body)

    def command(self) -> dict[str, Any]:
        """The next fence of this leader."""
        return {"fence": self.world.fence(), "voice_uid": UID}

    async def have(self, name: str, number: int, *, extra: dict[str, Any] | None = None, **settings: Any) -> str:
        """Bring a version up; keeps the command."""
        revision, request = self.world.version(number, **settings)
        request = request.model_copy(update=extra or {})
        self.weights[str(number)] = request.weights["tone"].sha256
        await self.say(name, lambda client: client.ensure_revision(VOICE, revision, request, **self.command()))
        await until_phase(self.client, revision, RevisionPhase.READY, RevisionPhase.FAILED)
        return revision

    def write(self, scene: str) -> None:
        """Keep the scene."""
        document = {"weights": self.weights, "exchanges": self.recorder.exchanges}
        text = json.dumps(document, indent=1, ensure_ascii=False)
        text = text.replace(self.world.voices.as_uri(), VOICES_URI).replace(str(self.world.directory), "/srv/segue")
        _write(f"{scene}.json", text)


class _Unclosed(httpx.AsyncBaseTransport):
    """A transport that somebody else closes."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._inner.handle_async_request(request)


def _write(name: str, text: str) -> None:
    path = RECORDED / f"v{WIRE_VERSION}" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


# --- scenes ---------------------------------------------------------------------------------------------------------


async def life(stage: Stage) -> None:
    """A voice from its first revision to its end."""
    say, command = stage.say, stage.command
    document = await say("empty state", lambda client: client.state(term=1))
    await say("state, nothing new", lambda client: client.state(since=document.etag, term=1))
    first = await stage.have("first revision", 1)
    await say("state with a shadow", lambda client: client.state(term=1))
    request = PointerRequest(active=first, expected=Expected(), consistency=Consistency.UTTERANCE)
    await say("first flip", lambda client: client.set_pointer(VOICE, request, **command()))
    second = await _verified(stage)
    await _let_out(stage, first, second)
    await _armed(stage, first, second)
    await say("drop", lambda client: client.drop_revision(VOICE, first, **command()))
    await until(stage.client, lambda state: first not in state.voices[VOICE].revisions)
    await say("release", lambda client: client.release_voice(VOICE, **command()))


async def _verified(stage: Stage) -> str:
    """A second revision, probed in both ways."""
    say, command = stage.say, stage.command
    source = stage.world.write("reference.wav", b"no engine of these tests reads it")
    reference = ReferenceSource(**source.model_dump(), text="Good evening.")
    stage.weights["reference.wav"] = source.sha256
    second = await stage.have("second revision", 2)
    terms = ProbeTerms(key="k1", cases=(ProbeCase(text="One, two, three."),), seeds=1, min_similarity=0)
    sentence = ProbeRequest(kind=ProbeKind.SENTENCE, terms=terms)
    await say("probe by a sentence", lambda client: client.probe(VOICE, second, sentence, **command()))
    await say("report of a sentence", lambda client: client.report(VOICE, second, term=1))
    full = ProbeRequest(kind=ProbeKind.FULL, terms=terms)
    await say("probe in full", lambda client: client.probe(VOICE, second, full, **command()))
    await until(stage.client, lambda state: _is_probed(state.voices[VOICE].revisions[second]))
    await say("report in full", lambda client: client.report(VOICE, second, term=1))
    await say("audio of a probe", lambda client: client.audio(VOICE, second, case=0, seed=1, term=1))
    wrong = stage.world.version(3)[1]
    weights = {"tone": wrong.weights["tone"].model_copy(update={"sha256": _UNKNOWN})}
    await stage.have("revision with a wrong digest", 3, extra={"weights": weights, "reference": reference})
    await say("state with a failed revision", lambda client: client.state(term=1))
    return second


def _is_probed(state: RevisionState) -> bool:
    return state.report is not None and state.report.phase is not ProbePhase.RUNNING


async def _let_out(stage: Stage, first: str, second: str) -> None:
    """Canary, flip, watch, evidence."""
    say, command = stage.say, stage.command
    canary = PointerRequest(active=first, candidate=second, weight=500, expected=Expected(active=first))
    await say("canary", lambda client: client.set_pointer(VOICE, canary, **command()))
    await say("state with a canary", lambda client: client.state(term=1))
    watch = WatchTerms(previous=first, max_error_rate=0.5, sustained_for_s=300, min_requests=50, min_errors=3)
    flip = PointerRequest(active=second, expected=Expected(active=first, candidate=second), watch=watch)
    await say("flip with a watch", lambda client: client.set_pointer(VOICE, flip, **command()))
    await say("state with a watch", lambda client: client.state(term=1))
    await _heard(stage)
    await say("windows", lambda client: client.windows(VOICE, since_s=0, term=1))
    await say("drop of the way back", lambda client: client.drop_revision(VOICE, first, **command()))
    await say("confirm", lambda client: client.confirm(VOICE, **command()))


async def _heard(stage: Stage) -> None:
    """Wait until somebody's request was counted."""
    ends_s = time.monotonic() + 30
    heard = False
    while not heard and time.monotonic() < ends_s:
        heard = bool((await stage.client.windows(VOICE)).revisions)
        await asyncio.sleep(0.05)


async def _armed(stage: Stage, first: str, second: str) -> None:
    """A flip at an instant, disarmed; one that comes too late; one that takes a revision back."""
    say, command = stage.say, stage.command
    later = PointerRequest(active=first, expected=Expected(active=second), at_ns=time.time_ns() + 60_000_000_000)
    await say("armed flip", lambda client: client.set_pointer(VOICE, later, **command()))
    await say("state with an armed flip", lambda client: client.state(term=1))
    await say("confirm disarms", lambda client: client.confirm(VOICE, **command()))
    late = PointerRequest(active=first, at_ns=time.time_ns() - 3_000_000_000)
    await say("flip that is too late", lambda client: client.set_pointer(VOICE, late, **command()))
    back = PointerRequest(active=first, withdrawn=second)
    await say("back", lambda client: client.set_pointer(VOICE, back, **command()))
    await say("state after going back", lambda client: client.state(term=1))
    again = PointerRequest(active=second)
    await say("forward again", lambda client: client.set_pointer(VOICE, again, **command()))


async def refusals(stage: Stage) -> None:
    """What is no success."""
    say, command = stage.say, stage.command
    first = await stage.have("a revision", 1)
    pointer = PointerRequest(active=first)
    await say("flip", lambda client: client.set_pointer(VOICE, pointer, **command()))
    stale: dict[str, Any] = {"fence": Fence(1, 1), "voice_uid": UID}
    await say("stale fence", lambda client: client.set_pointer(VOICE, pointer, **stale))
    other: dict[str, Any] = {"fence": Fence(1, stage.world.sequence), "voice_uid": "uid-2"}
    _, request = stage.world.version(1)
    await say("another uid, same fence", lambda client: client.ensure_revision(VOICE, first, request, **other))
    unknown = PointerRequest(active=_UNKNOWN)
    await say("not ready", lambda client: client.set_pointer(VOICE, unknown, **command()))
    expected = PointerRequest(expected=Expected(active=_UNKNOWN))
    await say("not as expected", lambda client: client.set_pointer(VOICE, expected, **command()))
    weight = PointerRequest(active=first, weight=5)
    await say("means nothing", lambda client: client.set_pointer(VOICE, weight, **command()))
    await say("unknown voice", lambda client: client.windows("default/nobody"))
    engine = request.model_copy(update={"engine": "nonesuch"})
    await say("unknown engine", lambda client: client.ensure_revision(VOICE, _UNKNOWN, engine, **command()))
    outside = request.model_copy(update={"weights": {"tone": FileSource(uri="file:///etc/passwd", sha256=_UNKNOWN)}})
    await say("forbidden source", lambda client: client.ensure_revision(VOICE, _UNKNOWN, outside, **command()))
    await _by_hand(stage, first)


async def _by_hand(stage: Stage, revision: str) -> None:
    """What only another client would send."""
    ours = {"segue-pod": POD, "segue-wire": str(WIRE_VERSION)}
    commanding = {**ours, "segue-fence": "1.900", "segue-voice-uid": UID, "content-type": "application/json"}
    pointer = f"/v1/voices/{VOICE}/pointer"
    say = stage.say_by_hand
    await say("another pod", "GET", "/v1/state", headers={**ours, "segue-pod": "pod-2"})
    await say("no pod", "GET", "/v1/state", headers={})
    await say("no such path", "GET", "/v1/nothing", headers=ours)
    await say("no such method", "PATCH", pointer, headers=commanding)
    await say("no fence", "PUT", pointer, headers={**ours, "content-type": "application/json"}, body=b"{}")
    await say("broken fence", "PUT", pointer, headers={**commanding, "segue-fence": "1"}, body=b"{}")
    await say("broken body", "PUT", pointer, headers=commanding, body=b"{")
    await say("field that does not hold", "PUT", pointer, headers=commanding, body=b'{"weight":20000}')
    await say("unknown enum", "PUT", pointer, headers=commanding, body=b'{"mode":"shout"}')
    unknown = json.dumps({"active": revision, "novelty": 1}).encode()
    await say("unknown field", "PUT", pointer, headers=commanding, body=unknown)
    newer = f"/v1/state?wait=0s&voice={VOICE}&novelty=1"
    await say("query of a newer client", "GET", newer, headers={**ours, "segue-wire": str(WIRE_VERSION + 1)})
    await say("next wire version", "GET", "/v1/state", headers={**ours, "segue-wire": str(WIRE_VERSION + 1)})
    await say("wire version too new", "GET", "/v1/state", headers={**ours, "segue-wire": str(WIRE_VERSION + 2)})
    await say("body too large", "PUT", pointer, headers=commanding, body=b" " * (2 << 20))


async def deadman(stage: Stage) -> None:
    """The sidecar goes back by itself."""
    first = await stage.have("the good revision", 1)
    good, bad = PointerRequest(active=first), await load(stage.world, stage.client, 2, fails=True)
    await stage.say("flip", lambda client: client.set_pointer(VOICE, good, **stage.command()))
    watch = WatchTerms(previous=first, max_error_rate=0.01, sustained_for_s=1, min_requests=5, min_errors=3)
    flip = PointerRequest(active=bad, watch=watch)
    await stage.client.set_pointer(VOICE, flip, **stage.command())
    await until(stage.client, lambda state: state.voices[VOICE].self_reverted)
    await stage.say("state after a self-revert", lambda client: client.state())


async def record() -> None:
    """All scenes, each with a sidecar of its own, and the sidecar's own description."""
    scenes: dict[str, tuple[Callable[[Stage], Awaitable[None]], dict[str, Any]]] = {
        "life": (life, {}),
        "refusals": (refusals, {}),
        "deadman": (deadman, {"outOfReachS": 0.5}),
    }
    for name, (play, settings) in scenes.items():
        async with running(**settings) as (world, _):
            stage = Stage(world)
            async with stage.client:
                await play(stage)
                stage.write(name)
                if name == "life":
                    await _describe(stage)


async def _describe(stage: Stage) -> None:
    transport = _Unclosed(stage.recorder)
    async with httpx.AsyncClient(transport=transport, base_url=stage.world.ready["control"]) as raw:
        document = (await raw.get("/openapi.json", headers={"segue-pod": POD})).json()
    _write("openapi.json", json.dumps(document, indent=1))


if __name__ == "__main__":
    asyncio.run(record())
