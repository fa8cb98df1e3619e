"""The control API in front of a `FakeSidecar`: the real client, the real wire, no network.

A transport, because that is the seam of `SidecarClient`; writes go through the crash switch, so that an operator can
die before or after any of them.
"""

from __future__ import annotations

import json
from functools import partial
from urllib.parse import unquote

import httpx
from tests.fakes.cluster import CrashSwitch
from tests.fakes.sidecar import FakeSidecar, Unreachable
from typing_extensions import override

from segue.control import REFUSALS
from segue.errors import CommandRefused
from segue.wire import (
    HEADER_FENCE,
    HEADER_VOICE_UID,
    Fence,
    PointerRequest,
    PointerResult,
    ProbeRequest,
    RevisionRequest,
    WireModel,
)


class FakeControl(httpx.AsyncBaseTransport):
    """Answers for one sidecar.

    Attributes
    ----------
    refused
        What was refused, for assertions.
    accepted
        How many commands had an effect: each would wake the loop.
    """

    def __init__(self, sidecar: FakeSidecar, crash: CrashSwitch) -> None:
        self.sidecar = sidecar
        self.crash = crash
        self.refused: list[CommandRefused] = []
        self.accepted = 0

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            if request.method == "GET":
                return self._read(request)
            answer = _json(self.crash.wrap(partial(self._write, request)))
            self.accepted += 1
            return answer
        except Unreachable as error:
            raise httpx.ConnectError(f"unreachable: {error}") from error
        except CommandRefused as error:
            self.refused.append(error)
            reason = type(error).__name__
            status = REFUSALS[reason][1] if reason in REFUSALS else 409
            return httpx.Response(status, json={"error": {"reason": reason, "message": str(error)}})

    def _read(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/state":
            return _json(self.sidecar.state())
        return _json(self.sidecar.windows(request.url.params["voice"]))

    def _write(self, request: httpx.Request) -> WireModel | None:
        parts = [unquote(part) for part in request.url.path.strip("/").split("/")]
        key = f"{parts[2]}/{parts[3]}"
        fence, uid = Fence.parse(request.headers[HEADER_FENCE]), request.headers[HEADER_VOICE_UID]
        sidecar, body = self.sidecar, request.content
        match request.method, parts[4:]:
            case "PUT", ["revisions", revision]:
                sidecar.ensure(key, uid, fence, revision, RevisionRequest.model_validate_json(body))
                return sidecar.state().voices[key].revisions[revision]
            case "POST", ["revisions", revision, "probe"]:
                sidecar.probe(key, uid, fence, revision, ProbeRequest.model_validate_json(body))
                return sidecar.reports(key)[revision]
            case "PUT", ["pointer"]:
                sidecar.point(key, uid, fence, PointerRequest.model_validate_json(body))
                return PointerResult(pointer=sidecar.pointer(key))
            case "POST", ["confirm"]:
                sidecar.confirm(key, uid, fence)
                return sidecar.state().voices[key]
            case "DELETE", ["revisions", revision]:
                sidecar.drop(key, uid, fence, revision)
                return None
            case "DELETE", []:
                sidecar.release(key, uid, fence)
                return None
            case _:
                raise AssertionError(f"no such call: {request.method} {request.url.path}")


def _json(document: WireModel | None) -> httpx.Response:
    content = document.model_dump(mode="json", by_alias=True) if document is not None else {}
    return httpx.Response(200, content=json.dumps(content))
