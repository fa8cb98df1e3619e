"""Every answer says what time it is here, so that a flip can be asked for at an instant of this pod's clock.

Separate because it must not matter who answers: the fast lane, a route, or the refusal of either.
"""

from __future__ import annotations

import time
from typing import Any

from segue.wire import HEADER_NOW

_NAME = HEADER_NOW.lower().encode()


class Dated:
    """ASGI middleware around everything."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def dated(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (_NAME, str(time.time_ns()).encode())]
            await send(message)

        await self.app(scope, receive, dated)
