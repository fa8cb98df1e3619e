"""What an API says and means: the seam between `SpeechApi`, which admits and sends, and the APIs that it speaks.

Separate so that a second API (that of GPT-SoVITS) goes through the same admission, cache, shield and metrics as
OpenAI's, and adds nothing but its words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from segue.errors import SegueError
from segue_server.api.errors import ApiError
from segue_server.api.exchange import Exchange, Header
from segue_server.synthesis.recordings import ReferenceAsk
from segue_server.synthesis.spec import Listener, SpeechSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request, understood.

    Attributes
    ----------
    spec
        Without its recordings, which are read next.
    text
        As it was sent: errors name places in it.
    references
        Recordings that it brings.
    media_type
        Of the answer.
    events
        The answer is a stream of server-sent events.
    collected
        The answer is sent when all of it is there, with its length.
    headers
        To be sent with any answer.
    """

    spec: SpeechSpec
    listener: Listener
    text: str
    references: tuple[ReferenceAsk, ...]
    media_type: str
    events: bool = False
    collected: bool = False
    headers: tuple[Header, ...] = ()


class Dialect(Protocol):
    """One API."""

    async def understand(self, exchange: Exchange) -> Asked:
        """Read a request.

        Raises
        ------
        SegueError
            It cannot be answered; `refusal` puts that into words.
        """
        ...

    def refusal(self, error: SegueError, *, text: str | None) -> ApiError:
        """Put a failure into this API's words; `text` is what was sent, if it was understood."""
        ...
