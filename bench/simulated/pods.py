"""The process that stands for thousands of pods: `python -m bench.simulated.pods`, a JSON description on its stdin.

Every pod has a loopback address of its own on one port, and answers for its own uid only. TLS is real, with the fleet's
certificate. After each line on stdin it says on stdout what was commanded since the last one: for the first command for
each (voice, revision) when it came in, and for each round of pointers the first and the last of its pods. Times are
CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from bench.simulated.lines import read_lines
from bench.simulated.sidecar import SimulatedPod
from bench.simulated.tls_server import Call, Reply, TlsServer
from segue.control import REFUSALS
from segue.errors import CommandRefused, WrongPod
from segue.garbage import settle_garbage
from segue.tls import OPERATOR_NAME, KeyPairFiles, server_context
from segue.wire import (
    HEADER_FENCE,
    HEADER_NOW,
    HEADER_POD,
    HEADER_VOICE_UID,
    Fence,
    PointerRequest,
    PointerResult,
    ProbeRequest,
    RevisionRequest,
    WindowsDocument,
)

_POD, _FENCE, _UID = HEADER_POD.lower(), HEADER_FENCE.lower(), HEADER_VOICE_UID.lower()


@dataclass(slots=True)
class Round:
    """Pointer commands for one voice that say the same."""

    first_ns: int
    last_ns: int = 0
    pods: int = 0


@dataclass(slots=True)
class Noted:
    """What was commanded."""

    first: dict[str, int] = field(default_factory=dict)
    rounds: dict[str, Round] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    refused: int = 0

    def command(self, what: str) -> None:
        """A command came in; the first of its kind counts."""
        self.first.setdefault(what, time.monotonic_ns())

    def pointer(self, what: str) -> Callable[[], None]:
        """A pointer came in; call what is returned once it was answered."""
        found = self.rounds.setdefault(what, Round(time.monotonic_ns()))

        def answered() -> None:
            found.last_ns = time.monotonic_ns()
            found.pods += 1

        return answered

    def told(self) -> dict[str, Any]:
        """All of it."""
        rounds = {name: [each.first_ns, each.last_ns, each.pods] for name, each in self.rounds.items()}
        return {"first": self.first, "rounds": rounds, "calls": self.calls, "refused": self.refused}


class Pods:
    """All of them, by address."""

    def __init__(self) -> None:
        self.by_address: dict[str, SimulatedPod] = {}
        self.noted = Noted()

    async def answer(self, call: Call) -> Reply:
        """One call of the control API."""
        self.noted.calls[call.method] = self.noted.calls.get(call.method, 0) + 1
        pod = self.by_address[call.address]
        try:
            if call.headers.get(_POD) != pod.uid:
                raise WrongPod(f"this is pod {pod.uid}, not {call.headers.get(_POD)}")
            reply = await (self._read(call, pod) if call.method == "GET" else self._write(call, pod))
        except CommandRefused as error:
            self.noted.refused += 1
            reason = type(error).__name__
            content = json.dumps({"error": {"reason": reason, "message": str(error)}}).encode()
            reply = Reply(REFUSALS.get(reason, (error, 409))[1], content)
        now = (HEADER_NOW, str(time.time_ns()))
        return Reply(reply.status, reply.content, (now,), reply.then)

    async def _read(self, call: Call, pod: SimulatedPod) -> Reply:
        if call.path == "/v1/windows":
            windows = WindowsDocument(voice=call.query["voice"][0], now_s=int(time.time()))
            return Reply(200, windows.model_dump_json(by_alias=True).encode())
        since = call.query.get("since", [""])[0]
        wait_s = float(call.query.get("wait", ["0s"])[0].removesuffix("s"))
        if since and not await pod.wait_for_other(since, wait_s=wait_s, more=call.more):
            return Reply(304)
        return Reply(200, pod.document(call.query.get("voice", [])))

    async def _write(self, call: Call, pod: SimulatedPod) -> Reply:
        parts = [unquote(part) for part in call.path.strip("/").split("/")]
        key, fence, uid = f"{parts[2]}/{parts[3]}", Fence.parse(call.headers[_FENCE]), call.headers[_UID]
        match call.method, parts[4:]:
            case "PUT", ["revisions", revision]:
                request = RevisionRequest.model_validate_json(call.body)
                self.noted.command(f"{key} {revision}")
                state = pod.ensure(key, uid, fence, revision, resident=request.resident)
                return Reply(202, state.model_dump_json(by_alias=True).encode())
            case "POST", ["revisions", revision, "probe"]:
                report = pod.probe(key, uid, fence, revision, ProbeRequest.model_validate_json(call.body))
                return Reply(202, report.model_dump_json(by_alias=True).encode())
            case "PUT", ["pointer"]:
                return self._point(pod, key, uid, fence, PointerRequest.model_validate_json(call.body))
            case "POST", ["confirm"]:
                return Reply(200, pod.confirm(key, uid, fence))
            case "DELETE", ["revisions", revision]:
                pod.drop(key, uid, fence, revision)
                return Reply(204)
            case "DELETE", []:
                pod.release(key, uid, fence)
                return Reply(204)
            case _:
                return Reply(404)

    def _point(self, pod: SimulatedPod, key: str, uid: str, fence: Fence, request: PointerRequest) -> Reply:
        answered = self.noted.pointer(f"{key} {request.active} {request.candidate} {request.weight}")
        received_ns = time.monotonic_ns()
        pointer = pod.point(key, uid, fence, request)
        result = PointerResult(
            pointer=pointer, received_monotonic_ns=received_ns, stored_monotonic_ns=time.monotonic_ns()
        )
        return Reply(200, result.model_dump_json(by_alias=True).encode(), then=answered)


async def serve() -> None:
    """Until stdin ends."""
    lines = read_lines(sys.stdin)
    description = json.loads(await anext(lines))
    pods = Pods()
    for each in description["pods"]:
        pod = SimulatedPod(each["uid"], each["name"])
        for key, uid, revision in each["voices"]:
            pod.seed(key, uid=uid, revision=revision)
        for key, uid, revision in each["atRest"]:
            pod.seed_at_rest(key, uid=uid, revision=revision)
        pods.by_address[each["address"]] = pod
    server = TlsServer(
        server_context(KeyPairFiles.of(Path(description["tls"])), client_name=OPERATOR_NAME), pods.answer
    )
    settle_garbage()  # thousands of pods stand still together in no fleet
    _say({"port": server.open()})
    async for _ in lines:
        _say({**pods.noted.told(), "connections": server.connections, "handshakes": server.handshakes})
        pods.noted = Noted()
    server.close()


def _say(document: dict[str, Any]) -> None:
    print(json.dumps(document), flush=True)


if __name__ == "__main__":
    asyncio.run(serve())
