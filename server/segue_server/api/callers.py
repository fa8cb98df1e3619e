"""What every API reads of a request in the same way: who asks, how long the body may be, whom a name means.

Separate from the dialects, which differ in everything else.
"""

from __future__ import annotations

from segue_server.api.exchange import Exchange
from segue_server.api.keys import Caller, KeyRing, authorized
from segue_server.api.voices import resolve_alias
from segue_server.config import ServerConfig
from segue_server.revisions.roster import Roster
from segue_server.synthesis.spec import Listener

MAX_OVERHEAD_BYTES = 64 * 1024
"""Of a body beside its input; a character of the input may take 12 bytes as JSON escapes."""


class Callers:
    """Those whom a ring of keys knows."""

    def __init__(self, *, keys: KeyRing, roster: Roster, config: ServerConfig) -> None:
        self._keys = keys
        self._roster = roster
        self._config = config
        self._max_body_bytes = config.max_input_chars * 12 + MAX_OVERHEAD_BYTES

    def who(self, exchange: Exchange) -> Caller:
        """Who asks. Raises `ApiError` (401)."""
        return authorized(self._keys, exchange.headers.get("authorization"))

    async def body(self, exchange: Exchange) -> bytes:
        """All of the body. Raises `ClientGone`, `ApiError` (408, 413)."""
        return await exchange.read_body(max_bytes=self._max_body_bytes, timeout_s=self._config.timeouts.body_s)

    def voice_meant(self, asked: str, caller: Caller) -> str:
        """The name of the voice that a caller means."""
        return resolve_alias(asked, namespace=caller.namespace, roster=self._roster, aliases=self._config.aliases)

    def listener(self, exchange: Exchange, caller: Caller, *, user: str | None = None) -> Listener:
        """Who is to hear the answer: what decides which version it is in a canary."""
        return Listener(
            request_id=exchange.request_id,
            session=exchange.headers.get("segue-session"),
            user=user,
            api_key=caller.key,
            client=exchange.client,
        )
