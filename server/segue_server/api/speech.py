"""`POST /v1/audio/speech`: from a request's bytes to speech on the wire.

An ASGI response rather than an endpoint that returns one, because status and headers are decided by the first audio:
200 is sent with it and not before, and what fails later is cut, never padded.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import secrets
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from segue.errors import SegueError
from segue.memory.messages import VoiceName
from segue.tracing import TRACEPARENT, Tracing
from segue_server.api.errors import ApiError, explain
from segue_server.api.keys import Caller, KeyRing
from segue_server.api.protocol import SCOPE_KEY, BoundedProtocol
from segue_server.api.request_trace import RequestTrace
from segue_server.api.schema import SpeechRequest, StreamFormat, VoiceRef, parse_speech, request_model, to_spec
from segue_server.config import ServerConfig
from segue_server.revisions.roster import Roster
from segue_server.synthesis.cold import ColdStart
from segue_server.synthesis.failures import VoiceCold
from segue_server.synthesis.flight import ReaderLeft
from segue_server.synthesis.spec import Listener, SpeechSpec
from segue_server.synthesis.studio import Answer, Hit, Joined, Studio

MAX_OVERHEAD_BYTES = 64 * 1024
"""Of a body beside its input; a character of the input may take 12 bytes as JSON escapes."""

MOST_DISCARDED_BYTES = 16 << 20
"""A body that is too large is read up to here and thrown away, so that its sender hears why it is refused."""

Header = tuple[bytes, bytes]

log = logging.getLogger(__name__)


class ClientGone(SegueError):
    """The client left before anything was sent."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One HTTP request on its way."""

    scope: Scope
    receive: Receive
    send: Send
    request_id: str
    trace: RequestTrace | None = None

    @property
    def connection(self) -> BoundedProtocol | None:
        """The connection, where the server is ours."""
        found = self.scope.get(SCOPE_KEY)
        return found if isinstance(found, BoundedProtocol) else None


class SpeechApi:
    """The endpoint."""

    def __init__(
        self,
        studio: Studio,
        *,
        roster: Roster,
        cold: ColdStart,
        keys: KeyRing,
        config: ServerConfig,
        tracing: Tracing | None = None,
    ) -> None:
        """Answers by `studio`, for callers whom `keys` knows."""
        self._tracing = tracing
        self._studio = studio
        self._roster = roster
        self._cold = cold
        self._keys = keys
        self._config = config
        self._max_body_bytes = config.max_input_chars * 12 + MAX_OVERHEAD_BYTES
        self.model: type[SpeechRequest] = request_model(config.max_input_chars)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        trace = self._begin_trace(scope) if self._tracing is not None else None
        exchange = Exchange(scope, receive, send, f"req_{secrets.token_hex(12)}", trace)
        try:
            await self._answer(exchange)
        except (ClientGone, ReaderLeft):
            return
        finally:
            if trace is not None:
                trace.end(request_id=exchange.request_id)

    def _begin_trace(self, scope: Scope) -> RequestTrace:
        assert self._tracing is not None
        return RequestTrace(self._tracing, traceparent=Headers(scope=scope).get(TRACEPARENT))

    async def _answer(self, exchange: Exchange) -> None:
        headers: list[Header] = [
            (b"segue-request-id", exchange.request_id.encode()),
            (b"x-request-id", exchange.request_id.encode()),
        ]
        if exchange.trace is not None:
            headers.append((b"traceparent", exchange.trace.traceparent.encode()))
        try:
            request, spec, listener = await self._understand(exchange)
            headers.append((b"segue-voice", _header_value(str(spec.voice))))
            answer = await self._admit(spec, listener)
        except ClientGone:
            raise
        except SegueError as error:
            await _send_error(exchange, explain(error), headers)
            return
        if exchange.trace is not None:
            exchange.trace.admitted(answer, spec)
        match answer:
            case Hit():
                headers.append((b"segue-cache", b"hit"))
                await self._send_hit(exchange, request, spec, answer, headers)
            case Joined():
                label = b"bypass" if not spec.use_cache else b"miss" if answer.fresh else b"hit"
                headers.append((b"segue-cache", label))
                await self._send_flight(exchange, request, spec, answer, headers)

    # --- what is asked ----------------------------------------------------------------------------------------------

    async def _understand(self, exchange: Exchange) -> tuple[SpeechRequest, SpeechSpec, Listener]:
        headers = Headers(scope=exchange.scope)
        caller = authorized(self._keys, headers)
        request = parse_speech(await self._read_body(exchange), self.model)
        spec = to_spec(
            request,
            namespace=caller.namespace,
            voice=self._voice_name(request, caller),
            pin=headers.get("segue-pin"),
            use_cache=headers.get("segue-cache", "").lower() != "no-store",
        )
        client = exchange.scope.get("client")
        listener = Listener(
            request_id=exchange.request_id,
            session=headers.get("segue-session"),
            user=request.user,
            api_key=caller.key,
            client=client[0] if client else None,
        )
        return request, spec, listener

    def _voice_name(self, request: SpeechRequest, caller: Caller) -> str:
        asked = request.voice.id if isinstance(request.voice, VoiceRef) else request.voice
        return resolve_alias(asked, namespace=caller.namespace, roster=self._roster, aliases=self._config.aliases)

    async def _read_body(self, exchange: Exchange) -> bytes:
        pieces: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._config.timeouts.body_s):
                while True:
                    message = await exchange.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone("the client left while it was sending")
                    piece = message.get("body", b"")
                    size += len(piece)
                    if size <= self._max_body_bytes:
                        pieces.append(piece)
                    elif size > MOST_DISCARDED_BYTES:
                        raise self._too_large(size)
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            limit_s = self._config.timeouts.body_s
            raise ApiError(408, f"the body was not complete after {limit_s:g} s", code="request_timeout") from None
        if size > self._max_body_bytes:
            raise self._too_large(size)
        return b"".join(pieces)

    def _too_large(self, size: int) -> ApiError:
        return ApiError(
            413, f"the body has {size} bytes or more; at most {self._max_body_bytes} are taken", code="body_too_large"
        )

    async def _admit(self, spec: SpeechSpec, listener: Listener) -> Answer:
        try:
            return self._studio.speak(spec, listener)
        except VoiceCold:
            await self._cold.bring_up(spec.voice)
        return self._studio.speak(spec, listener)

    # --- what is answered -------------------------------------------------------------------------------------------

    async def _send_hit(
        self, exchange: Exchange, request: SpeechRequest, spec: SpeechSpec, hit: Hit, headers: list[Header]
    ) -> None:
        speech = hit.speech
        headers.append((b"segue-revision", hit.revision.encode()))
        if request.stream_format is StreamFormat.SSE:
            events = [_delta(chunk) for chunk in speech.chunks]
            body = b"".join([*events, _done(phones=speech.phones, tokens=speech.tokens)])
        else:
            body = b"".join(speech.chunks)
        headers.append((b"content-type", _media_type(request, spec)))
        headers.append((b"content-length", str(len(body)).encode()))
        await exchange.send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send_body(exchange, body, more=False)

    async def _send_flight(
        self, exchange: Exchange, request: SpeechRequest, spec: SpeechSpec, joined: Joined, headers: list[Header]
    ) -> None:
        reader, flight = joined.reader, joined.flight
        watch = asyncio.create_task(_leave_when_gone(exchange.receive, joined))
        started = False
        try:
            chunk = await reader.next_chunk()
            headers += _speaker_headers(joined)
            headers.append((b"content-type", _media_type(request, spec)))
            await exchange.send({"type": "http.response.start", "status": 200, "headers": headers})
            started = True
            sse = request.stream_format is StreamFormat.SSE
            while chunk is not None:
                await self._send_body(exchange, _delta(chunk) if sse else chunk, more=True)
                chunk = await reader.next_chunk()
            end = _done(phones=flight.phones, tokens=flight.tokens) if sse else b""
            await self._send_body(exchange, end, more=False)
        except ReaderLeft:
            return
        except SegueError as error:
            if not started:
                await _send_error(exchange, explain(error), [*headers, *_speaker_headers(joined)])
                return
            log.warning("request %s: the stream is cut: %s", exchange.request_id, error)
            if exchange.trace is not None:
                exchange.trace.failed(str(error))
            _cut(exchange, error)
        finally:
            watch.cancel()
            reader.leave()

    async def _send_body(self, exchange: Exchange, body: bytes, *, more: bool) -> None:
        """Send, if the client takes it in time; a client that takes nothing is cut off."""
        try:
            async with asyncio.timeout(self._config.timeouts.reader_s):
                await exchange.send({"type": "http.response.body", "body": body, "more_body": more})
        except TimeoutError:
            log.info("request %s: the client took nothing for a while, and is cut off", exchange.request_id)
            connection = exchange.connection
            if connection is not None:
                connection.abort()
            raise ReaderLeft("the client takes nothing") from None


def authorized(keys: KeyRing, headers: Headers) -> Caller:
    """Who asks.

    Raises
    ------
    ApiError
        401: no key, or one that is not known.
    """
    caller = keys.caller(headers.get("authorization"))
    if caller is None:
        raise ApiError(
            401, "this server needs a valid API key: send 'Authorization: Bearer KEY'", code="invalid_api_key"
        )
    return caller


def resolve_alias(asked: str, *, namespace: str, roster: Roster, aliases: dict[str, str]) -> str:
    """The voice that `asked` means: a voice of that name, else what the alias stands for."""
    return asked if roster.voice(VoiceName(namespace, asked)) is not None else aliases.get(asked, asked)


async def _leave_when_gone(receive: Receive, joined: Joined) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    joined.reader.leave()


async def _send_error(exchange: Exchange, error: ApiError, headers: list[Header]) -> None:
    if exchange.trace is not None:
        exchange.trace.failed(str(error), status=error.status)
    body = error.body
    sent = [*headers, *error.headers, (b"content-length", str(len(body)).encode())]
    if error.status in (408, 413):
        sent.append((b"connection", b"close"))  # the rest of the body is not read
    await exchange.send({"type": "http.response.start", "status": error.status, "headers": sent})
    await exchange.send({"type": "http.response.body", "body": body, "more_body": False})


def _cut(exchange: Exchange, error: SegueError) -> None:
    connection = exchange.connection
    if connection is None:
        raise error
    connection.cut()


def _speaker_headers(joined: Joined) -> list[Header]:
    flight = joined.flight
    headers = [(b"segue-revision", flight.speaker.revision.encode())]
    if flight.shielded is not None:
        headers.append((b"segue-shielded", flight.shielded.encode()))
    return headers


def _header_value(text: str) -> bytes:
    """What a client wrote, fit for a header: a line break in a name must not begin a header of its own."""
    return "".join(char if " " <= char <= "~" else "?" for char in text).encode()


def _media_type(request: SpeechRequest, spec: SpeechSpec) -> bytes:
    if request.stream_format is StreamFormat.SSE:
        return b"text/event-stream"
    return spec.output.format.media_type.encode()


def _delta(chunk: bytes) -> bytes:
    audio = base64.b64encode(chunk)
    return b'data: {"type":"speech.audio.delta","audio":"' + audio + b'"}\n\n'


def _done(*, phones: int, tokens: int) -> bytes:
    """Usage: phones in, decoder tokens out."""
    usage = {"input_tokens": phones, "output_tokens": tokens, "total_tokens": phones + tokens}
    return b"data: " + json.dumps({"type": "speech.audio.done", "usage": usage}).encode() + b"\n\n"
