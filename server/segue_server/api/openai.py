"""`POST /v1/audio/speech`: OpenAI's words."""

from __future__ import annotations

from segue.errors import SegueError
from segue_server.api.dialect import Asked
from segue_server.api.errors import ApiError, explain
from segue_server.api.exchange import Exchange
from segue_server.api.keys import KeyRing, authorized
from segue_server.api.schema import (
    SpeechRequest,
    StreamFormat,
    VoiceRef,
    parse_speech,
    references_of,
    request_model,
    to_spec,
)
from segue_server.api.voices import resolve_alias
from segue_server.config import ServerConfig
from segue_server.revisions.roster import Roster
from segue_server.synthesis.spec import Listener

MAX_OVERHEAD_BYTES = 64 * 1024
"""Of a body beside its input; a character of the input may take 12 bytes as JSON escapes."""


class OpenAiDialect:
    """Requests and errors as OpenAI has them, and Segue's headers."""

    def __init__(self, *, keys: KeyRing, roster: Roster, config: ServerConfig) -> None:
        """For callers whom `keys` knows."""
        self._keys = keys
        self._roster = roster
        self._config = config
        self._max_body_bytes = config.max_input_chars * 12 + MAX_OVERHEAD_BYTES
        self.model: type[SpeechRequest] = request_model(config.max_input_chars)

    async def understand(self, exchange: Exchange) -> Asked:
        """Read key, headers and body."""
        headers = exchange.headers
        caller = authorized(self._keys, headers.get("authorization"))
        body = await exchange.read_body(max_bytes=self._max_body_bytes, timeout_s=self._config.timeouts.body_s)
        request = parse_speech(body, self.model)
        named = request.voice.id if isinstance(request.voice, VoiceRef) else request.voice
        spec = to_spec(
            request,
            namespace=caller.namespace,
            voice=resolve_alias(named, namespace=caller.namespace, roster=self._roster, aliases=self._config.aliases),
            pin=headers.get("segue-pin"),
            use_cache=headers.get("segue-cache", "").lower() != "no-store",
        )
        listener = Listener(
            request_id=exchange.request_id,
            session=headers.get("segue-session"),
            user=request.user,
            api_key=caller.key,
            client=exchange.client,
        )
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
