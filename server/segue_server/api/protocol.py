"""uvicorn's HTTP protocol with bounds: on how long a head may take, on how large it may be, and on goodbyes.

Separate because this is the one place that knows uvicorn's inside. Without it a client that sends half a request holds
a connection for ever, and a client that reads nothing keeps its transport open after it was cut off.
"""

from __future__ import annotations

import asyncio
from typing import Any

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

MAX_HEAD_BYTES = 64 * 1024
SCOPE_KEY = "segue.connection"
LINGER_S = 5.0


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    head_timeout_s: float = 10.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_alarm: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._in_head = True

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._arm()
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The request's head is too large.")

    @override
    def send_400_response(self, msg: str) -> None:
        self._disarm()
        super().send_400_response(msg)

    @override
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[SCOPE_KEY] = self  # type: ignore[literal-required]

    @override
    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        self._disarm()
        super().on_headers_complete()

    @override
    def on_message_complete(self) -> None:
        self._in_head = True
        super().on_message_complete()

    @property
    def idle(self) -> bool:
        """Whether no request is being answered."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete

    def cut(self) -> None:
        """End the connection without the end of the response; what is not sent in a while is thrown away."""
        self._quiet()
        if self.transport.is_closing():
            self.transport.abort()
            return
        self.transport.close()
        self.loop.call_later(LINGER_S, self.transport.abort)

    def abort(self) -> None:
        """End the connection now; the client takes nothing anyway."""
        self._quiet()
        self.transport.abort()

    def _quiet(self) -> None:
        """The end is ours: uvicorn need not complain about an incomplete response."""
        if self.cycle is not None:
            self.cycle.disconnected = True

    def _arm(self) -> None:
        if self._head_alarm is None:
            self._head_alarm = self.loop.call_later(self.head_timeout_s, self._head_late)

    def _disarm(self) -> None:
        if self._head_alarm is not None:
            self._head_alarm.cancel()
            self._head_alarm = None

    def _head_late(self) -> None:
        self._head_alarm = None
        if self._in_head and self.idle:
            self.transport.abort()
