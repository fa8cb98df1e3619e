"""The flip, without the framework in between.

Separate because this one call is measured in single milliseconds at saturation, and dependency injection, routing and
response models cost as much as everything else together. Only a well-formed command is handled here; whatever looks
unusual goes to the documented route with the same body, which finds the words for what is wrong.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from segue.errors import SegueError
from segue.memory.messages import VoiceName
from segue.wire import (
    HEADER_FENCE,
    HEADER_POD,
    HEADER_TERM,
    HEADER_VOICE_UID,
    HEADER_WIRE,
    WIRE_VERSION,
    Fence,
    PointerRequest,
)
from segue_sidecar.api.errors import refusal
from segue_sidecar.api.services import Services
from segue_sidecar.fences import Command

_PATH = re.compile(r"/v1/voices/([a-z0-9][-a-z0-9]{0,62})/([a-z0-9][-a-z0-9.]{0,252})/pointer")
_FENCE, _POD, _TERM, _UID, _WIRE = (
    name.lower().encode() for name in (HEADER_FENCE, HEADER_POD, HEADER_TERM, HEADER_VOICE_UID, HEADER_WIRE)
)
_MOST_BYTES = 16 * 1024


class FastLane:
    """ASGI middleware in front of the application."""

    def __init__(self, app: Any, services: Services) -> None:
        self.app = app
        self._services = services
        self._pod = services.pod_uid.encode()
        self._wires = frozenset(str(WIRE_VERSION + step).encode() for step in (-1, 0, 1))

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        received_ns = time.monotonic_ns()
        match = _PATH.fullmatch(scope["path"]) if scope["type"] == "http" and scope["method"] == "PUT" else None
        command = self._command(scope["headers"]) if match else None
        if match is None or command is None or match[1].endswith("-") or match[2].endswith(("-", ".")):
            await self.app(scope, receive, send)
            return
        first = await receive()
        body = first.get("body", b"")
        if first.get("more_body") or len(body) > _MOST_BYTES:
            await self.app(scope, _replayed(first, receive), send)
            return
        try:
            request = PointerRequest.model_validate_json(body)
        except ValidationError:
            await self.app(scope, _replayed(first, receive), send)
            return
        await self._answer(VoiceName(match[1], match[2]), request, command, received_ns, scope, receive, send)

    async def _answer(
        self,
        name: VoiceName,
        request: PointerRequest,
        command: Command,
        received_ns: int,
        scope: dict[str, Any],
        receive: Any,
        send: Any,
    ) -> None:
        try:
            result = self._services.flip(name, request, command, received_ns=received_ns)
        except SegueError as error:
            self._services.refused(type(error).__name__)
            await refusal(error)(scope, receive, send)
            return
        content = result.model_dump_json(by_alias=True).encode()
        length = str(len(content)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def _command(self, headers: Iterable[tuple[bytes, bytes]]) -> Command | None:
        """The command, where the headers are exactly as they should be; counts as contact."""
        said = dict(headers)
        uid = said.get(_UID, b"")
        if said.get(_POD) != self._pod or said.get(_WIRE) not in self._wires or not 0 < len(uid) <= 253:
            return None
        try:
            fence = Fence.parse(said.get(_FENCE, b"").decode("ascii"))
            term = int(said.get(_TERM, b"0"))
            command = Command(fence, uid.decode("ascii"))
        except ValueError:
            return None
        if not 0 <= term < 10**18:
            return None
        self._services.contact.heard(term)
        return command


def _replayed(first: dict[str, Any], receive: Any) -> Any:
    """A `receive` that begins with a message that was read already."""
    waiting = [first]

    async def again() -> Any:
        return waiting.pop() if waiting else await receive()

    return again
