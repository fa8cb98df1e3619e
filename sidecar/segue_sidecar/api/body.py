"""No body larger than any command needs, whether it says its length or not."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException

from segue_sidecar.api.errors import error_response

_Scope = dict[str, Any]


class _TooLarge(HTTPException):
    """Raised inside `receive`, so that whoever reads the body stops; FastAPI lets nothing else through."""

    def __init__(self, most_bytes: int) -> None:
        super().__init__(413, f"the body has more than {most_bytes} bytes, which no command needs")


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
            await _refuse(_TooLarge(self._most_bytes), scope, receive, send)
            return
        seen = 0

        async def counted() -> Any:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._most_bytes:
                raise _TooLarge(self._most_bytes)
            return message

        try:
            await self.app(scope, counted, send)
        except _TooLarge as error:
            await _refuse(error, scope, receive, send)


async def _refuse(error: _TooLarge, scope: _Scope, receive: Any, send: Any) -> None:
    answer = error_response(413, reason="BodyTooLarge", message=error.detail)
    answer.headers["connection"] = "close"
    await answer(scope, receive, send)


def _announced(scope: _Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0
