"""Every answer that is no success: `{"error": {message, type, param, code}}`, as OpenAI's clients expect it.

Separate because each way to fail must have one status code, decided in one place.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from segue.errors import OptionRejected, SegueError, TextRejected
from segue_server.synthesis.failures import (
    DeadlinePassed,
    NotServing,
    QueueFull,
    ReferenceRefused,
    ReferencesDisabled,
    RevisionUnknown,
    SpeechFailed,
    VoiceUnknown,
)
from segue_server.synthesis.spec import normalised, original_span


class ApiError(SegueError):
    """An answer with a status code.

    Attributes
    ----------
    status
        HTTP status.
    type, code, param
        As OpenAI's errors have them; `param` names the field of the body.
    retry_after_s
        Sent as Retry-After, in whole seconds.
    extra
        Further fields of the error object (`span`).
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.status = status
        self.message = message
        self.type = type
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s
        self.extra = extra or {}
        super().__init__(message)

    @property
    def content(self) -> Mapping[str, Any]:
        """The body, before it is JSON."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code, **self.extra}
        return {"error": error}

    @property
    def body(self) -> bytes:
        """JSON."""
        return json.dumps(self.content).encode()

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Content type, and Retry-After where it makes sense."""
        headers = [(b"content-type", b"application/json")]
        if self.retry_after_s is not None:
            headers.append((b"retry-after", str(max(1, math.ceil(self.retry_after_s))).encode()))
        if self.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        return headers


def explain(error: SegueError, *, text: str | None = None, normalise: Callable[[str], str] = normalised) -> ApiError:
    """Put a failure into HTTP's words.

    Parameters
    ----------
    text
        What the client sent, before `normalise` made of it what the engine read: places are told in it.
    """
    match error:
        case ApiError():
            return error
        case VoiceUnknown():
            return ApiError(404, str(error), code="voice_not_found", param="voice")
        case RevisionUnknown():
            return ApiError(404, str(error), code="revision_not_found", param="Segue-Pin")
        case TextRejected():
            message, span = _placed(error, text, normalise)
            return ApiError(400, message, code="text_rejected", param="input", extra={"span": list(span)})
        case OptionRejected():
            return ApiError(400, str(error), code="option_rejected", param=f"options.{error.option}")
        case ReferencesDisabled():
            return ApiError(403, str(error), code="references_disabled", param="options.reference")
        case ReferenceRefused():
            return ApiError(400, str(error), code="reference_refused", param=error.field)
        case QueueFull():
            return ApiError(
                429, str(error), type="rate_limit_error", code="queue_full", retry_after_s=error.retry_after_s
            )
        case NotServing():
            return ApiError(
                503, str(error), type="server_error", code="not_available", retry_after_s=error.retry_after_s
            )
        case DeadlinePassed():
            return ApiError(504, str(error), type="server_error", code="deadline_passed")
        case SpeechFailed():
            return ApiError(500, str(error), type="server_error", code="synthesis_failed")
        case _:
            return ApiError(500, f"{type(error).__name__}: {error}", type="server_error", code="internal_error")


def _placed(error: TextRejected, text: str | None, normalise: Callable[[str], str]) -> tuple[str, tuple[int, int]]:
    """Message and span of a text that cannot be read, in characters of what was sent."""
    if text is None:
        return str(error), error.span
    span = original_span(text, error.span, normalise=normalise)
    (start, end), (first, last) = error.span, span
    return str(error).replace(f"characters {start} to {end}", f"characters {first} to {last}"), span
