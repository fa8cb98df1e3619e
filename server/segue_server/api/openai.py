"""`POST /v1/audio/speech`: OpenAI's words."""

from __future__ import annotations

from segue.errors import SegueError
from segue_server.api.callers import Callers
from segue_server.api.dialect import Asked
from segue_server.api.errors import ApiError, explain
from segue_server.api.exchange import Exchange
from segue_server.api.keys import KeyRing
from segue_server.api.schema import (
    SpeechRequest,
    StreamFormat,
    VoiceRef,
    parse_speech,
    references_of,
    request_model,
    to_spec,
)
from segue_server.config import ServerConfig
from segue_server.revisions.roster import Roster


class OpenAiDialect:
    """Requests and errors as OpenAI has them, and Segue's headers."""

    def __init__(self, *, keys: KeyRing, roster: Roster, config: ServerConfig) -> None:
        """For callers whom `keys` knows."""
        self._callers = Callers(keys=keys, roster=roster, config=config)
        self.model: type[SpeechRequest] = request_model(config.max_input_chars)

    async def understand(self, exchange: Exchange) -> Asked:
        """Read key, headers and body."""
        caller = self._callers.who(exchange)
        request = parse_speech(await self._callers.body(exchange), self.model)
        named = request.voice.id if isinstance(request.voice, VoiceRef) else request.voice
        spec = to_spec(
            request,
            namespace=caller.namespace,
            voice=self._callers.voice_meant(named, caller),
            pin=exchange.pin,
            use_cache=exchange.use_cache,
        )
        listener = self._callers.listener(exchange, caller, user=request.user)
        events = request.stream_format is StreamFormat.SSE
        return Asked(
            spec=spec,
            listener=listener,
            text=request.input,
            references=references_of(request),
            media_type="text/event-stream" if events else spec.output.format.media_type,
            events=events,
        )

    def refusal(self, error: SegueError, *, text: str | None) -> ApiError:
        """`{"error": {…}}`."""
        return explain(error, text=text)
