"""Why a request got no speech, before it is put into HTTP's words.

Separate from the API's errors so that desk, flights and queue can be tested without HTTP; `api.errors` maps each to a
status code.
"""

from __future__ import annotations

from segue.errors import SegueError, SynthesisError


class Unserved(SegueError):
    """A request that was turned away before it was spoken."""


class VoiceUnknown(Unserved):
    """There is no such voice in the caller's namespace."""


class RevisionUnknown(Unserved):
    """`Segue-Pin` names no resident revision."""


class NotServing(Unserved):
    """Nothing can be served now.

    Attributes
    ----------
    retry_after_s
        When it is worth trying again.
    """

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class VoiceCold(NotServing):
    """No revision of the voice is resident; it was asked for."""


class QueueFull(NotServing):
    """Too much is waiting already."""


class ReferencesDisabled(Unserved):
    """A request brings recordings, and this server takes none from requests of its namespace."""


class ReferenceRefused(Unserved):
    """A recording that cannot be opened.

    Attributes
    ----------
    field
        Where the request names it.
    """

    def __init__(self, message: str, *, field: str) -> None:
        self.field = field
        super().__init__(message)


class DeadlinePassed(Unserved):
    """No audio in time."""


class SpeechFailed(SynthesisError):
    """The revision failed at this text."""
