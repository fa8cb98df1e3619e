"""A fleet whose pods are scripts: what they hold, whether they answer, and what they were asked.

Over the real client, without a network; long-polls wait as real ones do, so that the adapter's own polling can run.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
from tests.support.voices import voice
from typing_extensions import override

from segue.control import REFUSALS, SidecarClient
from segue.errors import CommandRefused, StaleFence, WrongPod
from segue.model import VoiceModel
from segue.rollout import Event, PodFacts
from segue.wire import (
    HEADER_FENCE,
    HEADER_NOW,
    HEADER_POD,
    WIRE_VERSION,
    ArmedOutcome,
    Fence,
    PodIdentity,
    Pointer,
    PointerResult,
    RevisionPhase,
    RevisionState,
    StateDocument,
    VoiceState,
    WindowsDocument,
)
from segue_operator.fleet.records import FleetKey, PodRecord
from segue_operator.fleet.sidecars import SidecarFleet

FLEET = FleetKey(namespace="voices", name="default")
STARTED = datetime(2026, 1, 1, tzinfo=UTC)
UID = "uid-narrator"


def narrator(*, tier: str = "hot", uid: str = UID) -> VoiceModel:
    """A voice that exists."""
    found = voice("v1", residency={"tier": tier})
    return found.model_copy(update={"metadata": found.metadata.model_copy(update={"uid": uid})})


def holding(active: str | None = "a" * 64, *, fence: str = "1.1", uid: str = UID, **more: Any) -> VoiceState:
    """How a voice stands on a pod."""
    revisions = {active: RevisionState(revision=active, phase=RevisionPhase.READY)} if active else {}
    return VoiceState(uid=uid, fence=fence, pointer=Pointer(active=active), revisions=revisions, **more)


class ScriptedSidecar(httpx.AsyncBaseTransport):
    """One pod.

    Attributes
    ----------
    asked
        Every request: method, path and query.
    refuses
        Raised instead of the next answers to commands.
    silent
        It does not answer.
    ahead_ns, slow_s
        Its clock, and how long an answer takes on its way.
    holds_up
        Commands wait for this, where given.
    """

    def __init__(self, uid: str, **voices: VoiceState) -> None:
        self.uid = uid
        self.voices: dict[str, VoiceState] = {f"default/{name}": state for name, state in voices.items()}
        self.asked: list[str] = []
        self.fences: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.refuses: CommandRefused | None = None
        self.silent = False
        self.closed = False
        self.ahead_ns = 0
        self.slow_s = 0.0
        self.holds_up: asyncio.Event | None = None
        self.under_way = 0
        self.most_under_way = 0
        self.version = 1
        self._changed = asyncio.Event()

    def put(self, key: str, state: VoiceState | None) -> None:
        """Something happened."""
        if state is None:
            self.voices.pop(key, None)
        else:
            self.voices[key] = state
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def cut_short(self) -> None:
        """Long-polls end without news, as they do when a command comes behind them on their connection."""
        self._changed.set()
        self._changed = asyncio.Event()

    @override
    async def aclose(self) -> None:
        self.closed = True

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.method} {request.url.raw_path.decode()}")
        if self.silent:
            raise httpx.ConnectError("nobody there")
        try:
            if request.headers[HEADER_POD] != self.uid:
                raise WrongPod(f"this is {self.uid}")
            status, content = await (self._read(request) if request.method == "GET" else self._write(request))
        except CommandRefused as error:
            reason = type(error).__name__
            status, content = REFUSALS[reason][1], json.dumps({"error": {"reason": reason, "message": str(error)}})
        if self.slow_s:
            await asyncio.sleep(self.slow_s)
        now_ns = int(datetime.now(UTC).timestamp() * 1e9) + self.ahead_ns
        return httpx.Response(status, content=content, headers={HEADER_NOW: str(now_ns)})

    async def _read(self, request: httpx.Request) -> tuple[int, str]:
        if request.url.path == "/v1/windows":
            return 200, WindowsDocument(voice=request.url.params["voice"], now_s=0).model_dump_json(by_alias=True)
        wait_s = float(request.url.params["wait"].removesuffix("s"))
        if request.url.params.get("since") == str(self.version):
            changed = self._changed
            if wait_s == 0.0:
                return 304, ""
            async with asyncio.timeout(wait_s):
                await changed.wait()
            if request.url.params["since"] == str(self.version):
                return 304, ""
        return 200, self.document(request.url.params.get_list("voice")).model_dump_json(by_alias=True)

    def document(self, only: list[str]) -> StateDocument:
        """The state now."""
        shown = {key: state for key, state in self.voices.items() if not only or key in only}
        identity = PodIdentity(uid=self.uid, name=self.uid, engine_builds={"demo": "b1"})
        now_ns = int(datetime.now(UTC).timestamp() * 1e9) + self.ahead_ns
        return StateDocument(wire=WIRE_VERSION, etag=str(self.version), now_ns=now_ns, pod=identity, voices=shown)

    async def _write(self, request: httpx.Request) -> tuple[int, str]:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if self.holds_up is not None:
                await self.holds_up.wait()
        finally:
            self.under_way -= 1
        if self.refuses is not None:
            raise self.refuses
        fence = request.headers[HEADER_FENCE]
        self.fences.append(fence)
        self.bodies.append(json.loads(request.content) if request.content else {})
        _, _, _, namespace, name, *rest = request.url.path.split("/")
        key = f"{namespace}/{name}"
        return self._obey(key, request.method, rest, fence)

    def _obey(self, key: str, method: str, rest: list[str], fence: str) -> tuple[int, str]:
        known = self.voices.get(key) or holding(None)
        if Fence.parse(fence) < Fence.parse(known.fence):
            raise StaleFence(f"{fence} is lower than {known.fence}")
        match method, rest:
            case "PUT", ["pointer"]:
                pointer = Pointer(active=self.bodies[-1].get("active"))
                self.put(key, known.model_copy(update={"pointer": pointer, "fence": fence}))
                return 200, PointerResult(pointer=pointer).model_dump_json(by_alias=True)
            case "PUT", ["revisions", revision]:
                state = RevisionState(revision=revision, phase=RevisionPhase.FETCHING)
                revisions = {**known.revisions, revision: state}
                self.put(key, known.model_copy(update={"revisions": revisions, "fence": fence}))
                return 202, state.model_dump_json(by_alias=True)
            case "DELETE", []:
                self.put(key, None)
                return 204, ""
            case "DELETE", ["revisions", revision]:
                revisions = {name: each for name, each in known.revisions.items() if name != revision}
                self.put(key, known.model_copy(update={"revisions": revisions, "fence": fence}))
                return 204, ""
            case _:
                raise AssertionError(f"no such call: {method} {rest}")

    def drop_armed(self, key: str, *, reason: str, message: str) -> None:
        """An armed flip was not carried out."""
        known = self.voices[key]
        outcome = ArmedOutcome(fence=known.fence, at_ns=1, reason=reason, message=message)
        armed_for = known.model_copy(update={"armed_outcome": outcome, "fence": f"{known.fence}0"})
        self.put(key, armed_for)


@dataclass
class Fleets:
    """The adapter, and the pods by URL.

    Attributes
    ----------
    woken
        What was told to `on_change`.
    """

    pods: dict[str, ScriptedSidecar] = field(default_factory=dict)
    woken: list[frozenset[str] | None] = field(default_factory=list)
    told: list[tuple[str | None, Event]] = field(default_factory=list)
    idle_poll_s: float = 60.0
    commands_at_a_time: int = 256
    sequence: int = 0
    clients: list[SidecarClient] = field(default_factory=list)
    fleet: SidecarFleet = field(init=False)

    def __post_init__(self) -> None:
        self.fleet = SidecarFleet(
            select=lambda _voice: FLEET,
            connect=self._connect,
            term=lambda: 7,
            on_change=self.woken.append,
            report=lambda voice, event: self.told.append((voice, event)),
            idle_poll_s=self.idle_poll_s,
            commands_at_a_time=self.commands_at_a_time,
        )

    def pod(self, uid: str, *, at: str | None = None, **voices: VoiceState) -> ScriptedSidecar:
        """A pod that answers at this address."""
        made = self.pods[at or f"https://{uid}"] = ScriptedSidecar(uid, **voices)
        return made

    def next_fence(self) -> Fence:
        """The next fence of this leader."""
        self.sequence += 1
        return Fence(7, self.sequence)

    def _connect(self, record: PodRecord) -> SidecarClient:
        client = SidecarClient(record.url, pod_uid=record.facts.uid, transport=self.pods[record.url], timeout_s=2)
        self.clients.append(client)
        return client


def record(
    uid: str, *, at: str | None = None, fleet: FleetKey = FLEET, name: str | None = None, **facts: Any
) -> PodRecord:
    """What the cluster says of a pod."""
    facts = {"created_at": STARTED, "ready_since": STARTED, **facts}
    url = f"https://{uid}" if at is None else at
    return PodRecord(facts=PodFacts(uid=uid, name=name or uid, **facts), fleet=fleet, url=url)


def polled(story: Callable[[Fleets], Any], **settings: Any) -> None:
    """Run a story while the fleet polls."""

    async def run() -> None:
        fleets = Fleets(**settings)
        polling = asyncio.create_task(fleets.fleet.run())
        try:
            async with asyncio.timeout(20):
                await story(fleets)
        finally:
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)

    asyncio.run(run())


async def until(condition: Callable[[], Any]) -> None:
    """Look until it is so; the story's deadline ends it."""
    while not condition():  # noqa: ASYNC110 - many different things are waited for
        await asyncio.sleep(0.005)
