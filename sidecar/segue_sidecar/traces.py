"""What a pod did for a rollout, as spans of the operator's trace.

Separate from everything that does it. A command that carries a `traceparent` is a span; a revision that was asked for
by one is remembered with it, and each phase of its loading becomes a span when it is over.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from segue.tracing import TRACEPARENT, Identity, Tracing
from segue.wire import RevisionPhase
from segue_sidecar.entries import RevisionEntry

REMEMBERED = 512
COMMANDS = frozenset({"PUT", "POST", "DELETE"})
_PATH = re.compile(r"/v1/voices/([^/]+/[^/]+)(?:/(?:(pointer|confirm)|revisions/([0-9a-f]{64})(?:/(probe))?))?")
_AT_REST = frozenset({RevisionPhase.READY, RevisionPhase.FAILED})


class CommandTraces:
    """ASGI around the control API, and what `Books` tells of phases."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._asked: OrderedDict[tuple[str, str], Identity] = OrderedDict()

    def around(self, app: ASGIApp) -> ASGIApp:
        """The same application, traced."""

        async def traced(scope: Scope, receive: Receive, send: Send) -> None:
            sent = Headers(scope=scope).get(TRACEPARENT, "") if scope["type"] == "http" else ""
            parent = Identity.read(sent)
            if parent is None or scope["method"] not in COMMANDS:
                await app(scope, receive, send)
                return
            await self._carried_out(parent, app, scope, receive, send)

        return traced

    async def _carried_out(self, parent: Identity, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        start_ns, status = time.time_ns(), 500
        found = _PATH.fullmatch(scope["path"])
        voice, short, revision, probe = found.groups() if found is not None else ("", "", "", "")
        if revision and not probe and scope["method"] == "PUT":
            self._remember(voice, revision, parent)

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await app(scope, receive, noted)
        finally:
            self._tracing.tell(
                f"{scope['method']} {probe or short or ('revision' if revision else 'voice')}",
                parent,
                start_ns=start_ns,
                end_ns=time.time_ns(),
                attributes={
                    "segue.voice": voice,
                    "segue.revision": revision or "",
                    "http.response.status_code": status,
                },
                error=f"answered {status}" if status >= 400 else "",
            )

    def _remember(self, voice: str, revision: str, parent: Identity) -> None:
        self._asked[voice, revision] = parent
        self._asked.move_to_end((voice, revision))
        if len(self._asked) > REMEMBERED:
            self._asked.popitem(last=False)

    def left(self, entry: RevisionEntry, now_ns: int) -> None:
        """A revision leaves the phase that it is in."""
        parent = self._asked.get((str(entry.voice), entry.revision))
        if parent is None or entry.phase in _AT_REST or not entry.since_ns:
            return
        self._tracing.tell(
            entry.phase.value,
            parent,
            start_ns=entry.since_ns,
            end_ns=now_ns,
            attributes={"segue.voice": str(entry.voice), "segue.revision": entry.revision},
        )
