"""Every answer that is no success, in one form.

Separate so that the table of what a caller can meet is in one place, for the handlers and for the OpenAPI document.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Route

from segue.control import REFUSALS
from segue.errors import MemoryError_, PoolExhausted, SegueError
from segue.wire import ErrorBody
from segue_sidecar.journal import JournalError

logger = logging.getLogger(__name__)

_MEANINGS = {
    400: "UnsupportedWire: more than one version away; or no HTTP that can be understood.",
    404: "NotFound: this pod does not have it.",
    405: "MethodNotAllowed.",
    409: "StaleFence, Conflict or NotReady: refused, nothing was changed.",
    413: "BodyTooLarge.",
    421: "WrongPod: another pod is meant.",
    422: "InvalidCommand: a field, header or path that does not hold.",
    507: "PoolExhausted or JournalError: no memory or disk, nothing was changed.",
}


def error_response(status: int, *, reason: str, message: str, figures: dict[str, Any] | None = None) -> Response:
    """An `ErrorBody` as an answer."""
    body = ErrorBody(error=ErrorBody.Detail(reason=reason, message=message, figures=figures or {}))
    return Response(body.model_dump_json(by_alias=True), status_code=status, media_type="application/json")


def refusal(error: SegueError) -> Response:
    """What a refused command answers."""
    reason = type(error).__name__
    if reason in REFUSALS:
        return error_response(REFUSALS[reason][1], reason=reason, message=str(error))
    if isinstance(error, PoolExhausted):
        figures = {
            "neededBytes": error.needed_bytes,
            "freeBytes": error.free_bytes,
            "budgetBytes": error.budget_bytes,
        }
        return error_response(507, reason=reason, message=str(error), figures=figures)
    if isinstance(error, JournalError | MemoryError_):
        return error_response(507, reason=reason.rstrip("_"), message=str(error))
    logger.error("a command ended in an error that no command should: %s", error, exc_info=error)
    return error_response(500, reason=reason, message=str(error))


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route may answer beside its success, for the OpenAPI document."""
    return {status: {"model": ErrorBody, "description": _MEANINGS[status]} for status in sorted(statuses)}


def install(app: FastAPI, *, on_refusal: Callable[[str], None]) -> None:
    """Have every error of `app` answered as an `ErrorBody`; `on_refusal` counts refused commands by reason."""

    @app.exception_handler(SegueError)
    async def on_error(_request: Request, error: SegueError) -> Response:
        on_refusal(type(error).__name__)
        return refusal(error)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(_request: Request, error: RequestValidationError) -> Response:
        return error_response(422, reason="InvalidCommand", message=sentence(error.errors()))

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        reason = {404: "NotFound", 405: "MethodNotAllowed", 413: "BodyTooLarge"}.get(
            error.status_code, "InvalidRequest"
        )
        answer = error_response(error.status_code, reason=reason, message=str(error.detail))
        if error.status_code == 405:
            answer.headers["allow"] = ", ".join(_methods(app, request.url.path))
        return answer


def _methods(app: FastAPI, path: str) -> list[str]:
    """What a path supports over all its routes; the router itself names those of the first."""
    routes = [route for route in app.routes if isinstance(route, Route) and route.path_regex.fullmatch(path)]
    return sorted({method for route in routes for method in route.methods or ()})


def sentence(mistakes: Any) -> str:
    """Pydantic's list of mistakes as one line: `weights.timbre.sha256: String should match …`."""
    parts = []
    for mistake in list(mistakes)[:5]:
        place = [str(part) for part in mistake["loc"] if part not in ("body", "query", "header", "path")]
        parts.append(f"{'.'.join(place) or 'body'}: {mistake['msg']}")
    return "; ".join(parts)
