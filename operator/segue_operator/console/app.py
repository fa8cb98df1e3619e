"""The console's application: the page, what it shows, and the few things that it may do.

Separate from the operator's other listeners: the local API answers whoever owns the machine, the plain listener answers
Prometheus and Alertmanager over the network. This one answers browsers, which is why `guard.py` is around it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from segue.errors import EditConflict, SegueError
from segue_operator.console import static
from segue_operator.console.actions import Refused, Wish, changes_for
from segue_operator.console.config import ConsoleConfig
from segue_operator.console.guard import Forbidden, Gate, Shielded
from segue_operator.console.news import News
from segue_operator.console.ranking import Ranking
from segue_operator.console.rows import Rows
from segue_operator.console.source import Editor, Source
from segue_operator.console.speech import NotSaid, Sentence, Speaker
from segue_operator.console.stream import MOST_STREAMS, Streams
from segue_operator.ports import WriteConflict
from segue_operator.triggers.token_file import TokenFile

LARGEST_BODY = 16 << 10
BODY_WITHIN_S = 5.0
SPEECH_KEY = "segue-speech-key"
"""Carries the person's own key of the speech API: `Authorization` is the console's."""

Body = TypeVar("Body", bound=BaseModel)
Endpoint = Callable[[Request], Awaitable[Response]]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """Everything behind the page."""

    source: Source
    editor: Editor
    gate: Gate
    streams: Streams
    ranking: Ranking
    speaker: Speaker | None


def build_console(
    config: ConsoleConfig, *, source: Source, editor: Editor, news: News, ranking: Ranking | None = None
) -> Console:
    """Put it together."""
    speech = config.speech
    gate = Gate(TokenFile(config.token_file) if config.token_file is not None else None)
    about = {"canAct": gate.token is not None, "canListen": speech is not None}
    return Console(
        source=source,
        editor=editor,
        gate=gate,
        streams=Streams(source=source, rows=Rows(source), news=news, about=lambda: about),
        ranking=ranking or Ranking(metrics_url=speech.metrics_url if speech is not None else None),
        speaker=Speaker(speech, source) if speech is not None else None,
    )


def make_app(console: Console, config: ConsoleConfig) -> ASGIApp:
    """The application."""
    host = config.listen.rpartition(":")[0].strip("[]")
    routes = _Routes(console)
    app = Starlette(
        routes=[
            Route("/", routes.page),
            Route("/{name:str}", routes.file),
            Route("/api/stream", routes.stream),
            Route("/api/ranking", routes.ranking),
            Route("/api/token", routes.token, methods=["POST"]),
            Route("/api/voices/{namespace}/{name}/actions", routes.act, methods=["POST"]),
            Route("/api/voices/{namespace}/{name}/speech", routes.speak, methods=["POST"]),
        ],
        exception_handlers={HTTPException: _refuse},
    )
    return Shielded(app, hosts=(host, *config.hosts))


class _Routes:
    """The endpoints."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.act = _answering(self._act)
        self.speak = _answering(self._speak)
        self.token = _answering(self._token)

    async def page(self, request: Request) -> Response:
        return static.serve(request, "index.html") or Response(status_code=404)

    async def file(self, request: Request) -> Response:
        found = static.serve(request, request.path_params["name"])
        if found is None:
            raise HTTPException(404, "there is no such page")
        return found

    async def stream(self, request: Request) -> Response:
        streams, query = self._console.streams, request.query_params
        if streams.open >= MOST_STREAMS:
            raise HTTPException(503, f"{MOST_STREAMS} pages are open already; close one")
        since = query.get("since", "")
        frames = streams.follow(
            voice=query.get("voice") or None,
            since=int(since) if since.isdecimal() and len(since) < 16 else None,
            epoch=query.get("epoch", "")[:32],
        )
        return StreamingResponse(frames, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    async def ranking(self, _: Request) -> Response:
        return JSONResponse(await self._console.ranking.read())

    async def _token(self, request: Request) -> Response:
        """Whether a token opens, so that a wrong one is noticed before it is needed."""
        self._console.gate.require_token(request)
        return JSONResponse({"opens": True})

    async def _act(self, request: Request) -> Response:
        self._console.gate.require_token(request)
        key, wish = _key(request), await _body(request, Wish)
        voice = self._console.source.document(key)
        if voice is None:
            raise HTTPException(404, f"there is no voice {key}")
        changes = changes_for(wish, voice)
        where = await self._console.editor.edit(key, changes, seen=voice)
        self._console.editor.tell(key, f"{wish.action} was asked for in the console")
        logger.info("%s: %s was asked for in the console (%s)", key, wish.action, where, extra={"voice": key})
        return JSONResponse({"done": wish.action, "where": where})

    async def _speak(self, request: Request) -> Response:
        self._console.gate.require_own(request)
        if self._console.speaker is None:
            raise HTTPException(404, "nothing can be listened to: no console.speech is configured")
        key, sentence = _key(request), await _body(request, Sentence)
        own = request.headers.get(SPEECH_KEY, "")
        spoken = await self._console.speaker.say(key, sentence, authorization=f"Bearer {own}" if own else None)
        return Response(spoken.audio, media_type="audio/wav", headers={"Segue-Revision": spoken.revision})


def _answering(endpoint: Endpoint) -> Endpoint:
    """Errors become answers in words."""

    @wraps(endpoint)
    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except SegueError as error:
            status, headers = _status_of(error), {}
            if status == 401:
                headers["WWW-Authenticate"] = "Bearer"
            return JSONResponse({"error": {"message": str(error)}}, status_code=status, headers=headers)

    return answer


def _status_of(error: SegueError) -> int:
    match error:
        case Forbidden() | NotSaid():
            return error.status
        case Refused() | WriteConflict() | EditConflict():
            return 409
        case _:
            return 502


def _key(request: Request) -> str:
    return f"{request.path_params['namespace']}/{request.path_params['name']}"


async def _body(request: Request, model: type[Body]) -> Body:
    """The body, if it is JSON, short enough, and comes in time."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise HTTPException(415, "send application/json")
    content = bytearray()
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            async for chunk in request.stream():
                content += chunk
                if len(content) > LARGEST_BODY:
                    raise HTTPException(413, f"is longer than {LARGEST_BODY} bytes")
        return model.model_validate_json(bytes(content))
    except TimeoutError as error:
        raise HTTPException(408, f"did not come within {BODY_WITHIN_S:g} s") from error
    except ClientDisconnect as error:
        raise HTTPException(400, "ended in the middle") from error
    except ValidationError as error:
        first: Any = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the body"
        raise HTTPException(400, f"{field}: {first['msg']}") from error


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": {"message": error.detail}}, status_code=error.status_code)
