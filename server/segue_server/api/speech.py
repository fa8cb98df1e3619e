"""A request of any API: from what it asks to speech on the wire.

An ASGI response rather than an endpoint that returns one, because status and headers are decided by the first audio:
200 is sent with it and not before, and what fails later is cut, never padded.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import secrets
from dataclasses import replace

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from segue.errors import SegueError
from segue.tracing import TRACEPARENT, Tracing
from segue_server.api.dialect import Asked, Dialect
from segue_server.api.exchange import ClientGone, Exchange, Header, header_value
from segue_server.api.request_trace import RequestTrace
from segue_server.config import ServerConfig
from segue_server.synthesis.cold import ColdStart
from segue_server.synthesis.failures import VoiceCold
from segue_server.synthesis.flight import ReaderLeft
from segue_server.synthesis.recordings import Shelf
from segue_server.synthesis.spec import Listener, SpeechSpec
from segue_server.synthesis.studio import Answer, Hit, Joined, Studio

COLD_STARTS = 2
"""Of one request: the voice may have made room for another one before the request was let in."""

log = logging.getLogger(__name__)


class SpeechApi:
    """Answers requests, in whatever API they are asked."""

    def __init__(
        self,
        studio: Studio,
        *,
        cold: ColdStart,
        shelf: Shelf,
        config: ServerConfig,
        tracing: Tracing | None = None,
    ) -> None:
        """Answers by `studio`, with recordings from `shelf`."""
        self._tracing = tracing
        self._studio = studio
        self._cold = cold
        self._shelf = shelf
        self._reader_s = config.timeouts.reader_s

    async def answer(self, scope: Scope, receive: Receive, send: Send, *, dialect: Dialect) -> None:
        """Answer one request."""
        trace = self._begin_trace(scope) if self._tracing is not None else None
        exchange = Exchange(scope, receive, send, f"req_{secrets.token_hex(12)}", trace)
        try:
            await self._answer(exchange, dialect)
        except (ClientGone, ReaderLeft):
            return
        finally:
            if trace is not None:
                trace.end(request_id=exchange.request_id)

    def _begin_trace(self, scope: Scope) -> RequestTrace:
        assert self._tracing is not None
        return RequestTrace(self._tracing, traceparent=Headers(scope=scope).get(TRACEPARENT))

    async def _answer(self, exchange: Exchange, dialect: Dialect) -> None:
        headers: list[Header] = [
            (b"segue-request-id", exchange.request_id.encode()),
            (b"x-request-id", exchange.request_id.encode()),
        ]
        asked: Asked | None = None
        if exchange.trace is not None:
            headers.append((b"traceparent", exchange.trace.traceparent.encode()))
        try:
            asked = await dialect.understand(exchange)
            headers += [(b"segue-voice", header_value(str(asked.spec.voice))), *asked.headers]
            recordings = await self._shelf.take(asked.references, namespace=asked.spec.voice.namespace)
            asked = replace(asked, spec=replace(asked.spec, references=recordings))
            answer = await self._admit(asked.spec, asked.listener)
        except ClientGone:
            raise
        except SegueError as error:
            await exchange.send_error(dialect.refusal(error, text=asked.text if asked is not None else None), headers)
            return
        if exchange.trace is not None:
            exchange.trace.admitted(answer, asked.spec)
        match answer:
            case Hit():
                headers.append((b"segue-cache", b"hit"))
                await self._send_hit(exchange, asked, answer, headers)
            case Joined():
                label = b"bypass" if not asked.spec.use_cache else b"miss" if answer.fresh else b"hit"
                headers.append((b"segue-cache", label))
                await self._send_flight(exchange, dialect, asked, answer, headers)

    async def _admit(self, spec: SpeechSpec, listener: Listener) -> Answer:
        for _ in range(COLD_STARTS):
            try:
                return self._studio.speak(spec, listener)
            except VoiceCold:
                await self._cold.bring_up(spec.voice)
        return self._studio.speak(spec, listener)

    async def _send_hit(self, exchange: Exchange, asked: Asked, hit: Hit, headers: list[Header]) -> None:
        speech = hit.speech
        headers.append((b"segue-revision", hit.revision.encode()))
        if asked.events:
            events = [_delta(chunk) for chunk in speech.chunks]
            body = b"".join([*events, _done(phones=speech.phones, tokens=speech.tokens)])
        else:
            body = b"".join(speech.chunks)
        await self._send_whole(exchange, asked, body, headers)

    async def _send_whole(self, exchange: Exchange, asked: Asked, body: bytes, headers: list[Header]) -> None:
        headers.append((b"content-type", asked.media_type.encode()))
        headers.append((b"content-length", str(len(body)).encode()))
        await exchange.begin(200, headers)
        await exchange.send_body(body, more=False, timeout_s=self._reader_s)

    async def _send_flight(
        self, exchange: Exchange, dialect: Dialect, asked: Asked, joined: Joined, headers: list[Header]
    ) -> None:
        watch = asyncio.create_task(_leave_when_gone(exchange.receive, joined))
        started = False
        try:
            if asked.collected:
                body = await _collected(joined)
                await self._send_whole(exchange, asked, body, [*headers, *_speaker_headers(joined)])
                return
            chunk = await joined.reader.next_chunk()
            headers += _speaker_headers(joined)
            headers.append((b"content-type", asked.media_type.encode()))
            await exchange.begin(200, headers)
            started = True
            while chunk is not None:
                await exchange.send_body(_delta(chunk) if asked.events else chunk, more=True, timeout_s=self._reader_s)
                chunk = await joined.reader.next_chunk()
            flight = joined.flight
            end = _done(phones=flight.phones, tokens=flight.tokens) if asked.events else b""
            await exchange.send_body(end, more=False, timeout_s=self._reader_s)
        except ReaderLeft:
            return
        except SegueError as error:
            if not started:
                refusal = dialect.refusal(error, text=asked.text)
                await exchange.send_error(refusal, [*headers, *_speaker_headers(joined)])
                return
            log.warning("request %s: the stream is cut: %s", exchange.request_id, error)
            exchange.cut(error)
        finally:
            watch.cancel()
            joined.reader.leave()


async def _collected(joined: Joined) -> bytes:
    pieces: list[bytes] = []
    while (chunk := await joined.reader.next_chunk()) is not None:
        pieces.append(chunk)
    return b"".join(pieces)


async def _leave_when_gone(receive: Receive, joined: Joined) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    joined.reader.leave()


def _speaker_headers(joined: Joined) -> list[Header]:
    flight = joined.flight
    headers = [(b"segue-revision", flight.speaker.revision.encode())]
    if flight.shielded is not None:
        headers.append((b"segue-shielded", flight.shielded.encode()))
    return headers


def _delta(chunk: bytes) -> bytes:
    audio = base64.b64encode(chunk)
    return b'data: {"type":"speech.audio.delta","audio":"' + audio + b'"}\n\n'


def _done(*, phones: int, tokens: int) -> bytes:
    """Usage: phones in, decoder tokens out."""
    usage = {"input_tokens": phones, "output_tokens": tokens, "total_tokens": phones + tokens}
    return b"data: " + json.dumps({"type": "speech.audio.done", "usage": usage}).encode() + b"\n\n"
