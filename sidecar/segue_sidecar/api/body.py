"""No body larger than any command needs, whether it says its length or not."""

from __future__ import annotations

from typing import Any

from segue_sidecar.api.errors import error_response

_Scope = dict[str, Any]


class _TooLarge(Exception):
    """Raised inside `receive`, so that whoever reads the body stops."""


class BodyLimit:
    """ASGI middleware that answers 413."""

    def __init__(self, app: Any, *, most_bytes: int) -> None:
        self.app = app
        self._most_bytes = most_bytes

    async def __call__(self, scope: _Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if _announced(scope) > self._most_bytes:
            await self._refuse(scope, receive, send)
            return
        seen = 0

        async def counted() -> Any:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._most_bytes:
                raise _TooLarge
            return message

        try:
            await self.app(scope, counted, send)
        except _TooLarge:
            await self._refuse(scope, receive, send)

    async def _refuse(self, scope: _Scope, receive: Any, send: Any) -> None:
        answer = error_response(
            413,
            reason="BodyTooLarge",
            message=f"the body has more than {self._most_bytes} bytes, which no command needs",
        )
        answer.headers["connection"] = "close"
        await answer(scope, receive, send)


def _announced(scope: _Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0
