"""The application: routes, their OpenAPI description, and the error shape of everything that Starlette answers itself.

Separate from the endpoints because the description must be exact: schemathesis reads it and believes it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from typing_extensions import override

from segue import __version__
from segue.memory.messages import VoiceName
from segue.memory.stats import StatsPage
from segue.memory.stats_layout import WorkerCell
from segue_server.api.compat import commands
from segue_server.api.compat.dialect import CompatDialect
from segue_server.api.compat.parameters import CompatError
from segue_server.api.dialect import Dialect
from segue_server.api.errors import ApiError
from segue_server.api.keys import KeyRing, authorized
from segue_server.api.openai import OpenAiDialect
from segue_server.api.schema import ErrorBody, ModelItem, ModelList, VoiceItem, VoiceList
from segue_server.api.speech import SpeechApi
from segue_server.api.voices import resolve_alias
from segue_server.audio.formats import AudioFormat
from segue_server.config import ServerConfig
from segue_server.revisions.roster import Roster

_REFUSALS = {
    400: "A field that cannot be, or a text that the voice cannot read (`text_rejected`, with its span).",
    401: "No valid API key.",
    403: "This server takes no recordings from requests (`options.reference`).",
    404: "No such voice (or revision, with `Segue-Pin`) in your namespace.",
    408: "The body did not come in time.",
    413: "The body is too large.",
    429: "The queue is full: come again after `Retry-After` seconds.",
    500: "The voice failed at this text.",
    503: "Not available now: a cold voice, or a server that starts. `Retry-After` says when to try again.",
    504: "No audio in time.",
}
_SPEECH_HEADERS = {
    "Segue-Revision": "The revision that speaks, from the first byte to the last.",
    "Segue-Voice": "namespace/name.",
    "Segue-Request-Id": "Name it when you report a problem.",
    "Segue-Cache": "hit, miss or bypass.",
    "Segue-Shielded": "The revision that failed at this request before another one answered it.",
}
_SERVER_SENT_EVENT = {
    "type": "object",
    "description": "One event of the stream.",
    "required": ["data"],
    "properties": {
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "description": "`speech.audio.delta` with `audio` in base64; at the end `speech.audio.done` with `usage`.",
        }
    },
}


def make_app(speech: SpeechApi, *, roster: Roster, keys: KeyRing, config: ServerConfig, started_s: int) -> FastAPI:
    """The application of one worker."""
    app = FastAPI(title="Segue speech API", version=__version__, docs_url=None, redoc_url=None)
    app.add_exception_handler(HTTPException, _on_http_exception)  # type: ignore[arg-type]
    app.add_exception_handler(ApiError, _on_api_error)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, _on_exception)
    openai = OpenAiDialect(keys=keys, roster=roster, config=config)
    app.add_api_route(
        "/v1/audio/speech",
        _speech_endpoint(speech, openai),
        methods=["POST"],
        status_code=200,  # FastAPI would read it off the response class, which decides it later
        operation_id="speak",
        summary="Speak a text",
        response_class=_SpeechResponse,
        responses=_speech_responses(),
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": {}}}}},
    )
    _add_listings(app, roster=roster, keys=keys, config=config, started_s=started_s)
    _add_compat(app, speech, keys=keys, roster=roster, config=config)
    _describe(app, openai, keys)
    return app


class Counted:
    """Around the application: counts what is answered, and says goodbye while the worker drains."""

    def __init__(self, app: ASGIApp, *, stats: StatsPage) -> None:
        self._app = app
        self._stats = stats
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._count(message["status"])
                if self.draining:
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
            else:
                self._stats.count(WorkerCell.BYTES_SENT, len(message.get("body", b"")))
            await send(message)

        await self._app(scope, receive, counting)

    def _count(self, status: int) -> None:
        if status < 400:
            self._stats.count(WorkerCell.RESPONSES_2XX)
        elif status < 500:
            self._stats.count(WorkerCell.RESPONSES_4XX)
        else:
            self._stats.count(WorkerCell.RESPONSES_5XX)
        if status == 429:
            self._stats.count(WorkerCell.REFUSED_FULL)


class _SpeechResponse(Response):
    """Hands the exchange to `SpeechApi`, which decides status and headers when the first audio is there."""

    media_type = None  # of speech it depends on the request, and of errors it is JSON: see `_speech_responses`

    def __init__(self, speech: SpeechApi, dialect: Dialect) -> None:
        self._speech = speech
        self._dialect = dialect
        self.background = None

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._speech.answer(scope, receive, send, dialect=self._dialect)


def _speech_endpoint(speech: SpeechApi, dialect: Dialect) -> Callable[[], Awaitable[Response]]:
    async def speak() -> Response:
        """Speak a text, streaming: the first audio comes before the last is made.

        Send `Segue-Session` to keep a listener on one version of the voice while an update is tried out, `Segue-Pin`
        to ask for one revision (its digest, or ten digits of it and more), `Segue-Cache: no-store` to have it made
        anew.
        """
        return _SpeechResponse(speech, dialect)

    return speak


def _add_listings(app: FastAPI, *, roster: Roster, keys: KeyRing, config: ServerConfig, started_s: int) -> None:
    refusals: dict[int | str, dict[str, Any]] = {401: {"model": ErrorBody, "description": _REFUSALS[401]}}
    unknown: dict[int | str, dict[str, Any]] = {404: {"model": ErrorBody, "description": "No such model."}}
    models = [ModelItem(id=name, created=started_s, owned_by="segue") for name in config.models]

    async def voices(request: Request) -> Response:
        """The voices of your namespace."""
        caller = authorized(keys, request.headers.get("authorization"))
        names = [known.said.voice.name for known in roster.voices(caller.namespace)]
        return JSONResponse({"voices": [VoiceItem(id=name, name=name).model_dump() for name in names]})

    async def list_models(request: Request) -> Response:
        """Names that clients may send as `model`; any other is accepted as well."""
        authorized(keys, request.headers.get("authorization"))
        return JSONResponse(ModelList(data=models).model_dump())

    async def one_model(request: Request, model: str) -> Response:
        """One of them."""
        authorized(keys, request.headers.get("authorization"))
        for item in models:
            if item.id == model:
                return JSONResponse(item.model_dump())
        raise ApiError(404, f"there is no model {model!r}; GET /v1/models lists them", code="model_not_found")

    app.add_api_route(
        "/v1/audio/voices",
        voices,
        methods=["GET"],
        operation_id="list_voices",
        responses={200: {"model": VoiceList}, **refusals},
    )
    app.add_api_route(
        "/v1/models",
        list_models,
        methods=["GET"],
        operation_id="list_models",
        responses={200: {"model": ModelList}, **refusals},
    )
    app.add_api_route(
        "/v1/models/{model}",
        one_model,
        methods=["GET"],
        operation_id="get_model",
        responses={200: {"model": ModelItem}, **refusals, **unknown},
    )


def _add_compat(app: FastAPI, speech: SpeechApi, *, keys: KeyRing, roster: Roster, config: ServerConfig) -> None:
    """GPT-SoVITS' API. Not part of the description: its parameters are somebody else's, and laxer than OpenAPI says."""
    speak = _speech_endpoint(speech, CompatDialect(keys=keys, roster=roster, config=config))
    app.add_api_route("/compat/{voice}/tts", speak, methods=["GET", "POST"], include_in_schema=False)

    async def answer(request: Request) -> Response:
        voice, action = str(request.path_params["voice"]), str(request.path_params["action"])
        try:
            namespace = authorized(keys, request.headers.get("authorization")).namespace
        except ApiError as refused:
            error: ApiError = CompatError(refused.status, refused.message)
        else:
            name = resolve_alias(voice, namespace=namespace, roster=roster, aliases=config.aliases)
            error = _unchangeable(action, VoiceName(namespace, name), request)
        headers = {name.decode(): value.decode() for name, value in error.headers}
        return Response(error.body, status_code=error.status, headers=headers)

    app.add_api_route("/compat/{voice}/{action}", answer, methods=["GET", "POST"], include_in_schema=False)


def _unchangeable(action: str, voice: VoiceName, request: Request) -> ApiError:
    match action:
        case "set_gpt_weights":
            return commands.weights(voice, "gpt", request.query_params.get("weights_path"))
        case "set_sovits_weights":
            return commands.weights(voice, "sovits", request.query_params.get("weights_path"))
        case "set_refer_audio":
            return commands.reference(voice, request.query_params.get("refer_audio_path"))
        case "control":
            posted = "command" if request.method == "POST" else None  # in a body, which changes nothing of the answer
            return commands.control(request.query_params.get("command") or posted)
        case _:
            return CompatError(404, f"there is no /{action}; GPT-SoVITS' clients have /tts")


def _speech_responses() -> dict[int | str, dict[str, Any]]:
    audio = {AudioFormat(f).media_type: {"schema": {"type": "string", "format": "binary"}} for f in AudioFormat}
    events = {"text/event-stream": {"schema": _SERVER_SENT_EVENT}}
    described = {
        name: {"description": text, "schema": {"type": "string"}, "required": name != "Segue-Shielded"}
        for name, text in _SPEECH_HEADERS.items()
    }
    answers: dict[int | str, dict[str, Any]] = {
        200: {"description": "Speech.", "content": {**audio, **events}, "headers": described}
    }
    answers |= {status: {"model": ErrorBody, "description": text} for status, text in _REFUSALS.items()}
    return answers


def _describe(app: FastAPI, openai: OpenAiDialect, keys: KeyRing) -> None:
    """Complete what FastAPI makes of the routes: the body that is parsed by hand, and the keys."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema:
            return app.openapi_schema
        document = generate()
        schema = openai.model.model_json_schema(ref_template="#/components/schemas/{model}")
        components = document.setdefault("components", {})
        components.setdefault("schemas", {}).update(schema.pop("$defs", {}))
        components["schemas"]["SpeechRequest"] = schema
        body = document["paths"]["/v1/audio/speech"]["post"]["requestBody"]["content"]["application/json"]
        body["schema"] = {"$ref": "#/components/schemas/SpeechRequest"}
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)  # answered as 400, in OpenAI's shape
        for unused in ("HTTPValidationError", "ValidationError"):
            components["schemas"].pop(unused, None)
        if keys.required:
            components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            document["security"] = [{"key": []}]
        app.openapi_schema = document
        return document

    app.openapi = openapi  # type: ignore[method-assign]


async def _on_api_error(request: Request, error: ApiError) -> Response:
    headers = {name.decode(): value.decode() for name, value in error.headers}
    return Response(error.body, status_code=error.status, headers=headers)


async def _on_http_exception(request: Request, error: HTTPException) -> Response:
    answer = ApiError(error.status_code, f"{error.detail}: {request.method} {request.url.path}", code="not_found")
    if error.status_code == 405:
        answer = ApiError(405, f"{request.method} is not possible for {request.url.path}", code="method_not_allowed")
    response = await _on_api_error(request, answer)
    response.headers.update(error.headers or {})
    return response


async def _on_exception(request: Request, error: Exception) -> Response:
    """A bug of ours; Starlette logs it with its traceback."""
    answer = ApiError(500, "an internal error; see the server's log", type="server_error", code="internal_error")
    return await _on_api_error(request, answer)
